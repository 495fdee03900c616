"""What `explain` shows: by packet, by the connection's original tuple, by reason."""

from __future__ import annotations

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, PRE_ROUTING
from conntrackd_py.explain.packet_filter import ANY, PacketFilter
from conntrackd_py.explain.refusals import Refusal
from conntrackd_py.match.address import Addresses, addresses, network
from conntrackd_py.reasons import FILTER_DROP, OK, OVERWRITTEN, TCP_STATE
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router

TCP = packets.tcp(CLIENT, SERVER, 40000, 80, "A")


def hosts(text: str) -> Addresses:
    return addresses(network(text))


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (PacketFilter(), True),
        (PacketFilter(hosts(CLIENT)), True),
        (PacketFilter(hosts("10.0.0.0/30")), True),
        (PacketFilter(hosts("10.0.0.3")), False),
        (PacketFilter(hosts("::/0")), False),
        (PacketFilter(port=80), True),
        (PacketFilter(port=81), False),
        (PacketFilter(protonum=6), True),
        (PacketFilter(protonum=17), False),
        (PacketFilter(hosts(SERVER), 40000, 6), True),
        (PacketFilter(hosts(SERVER), 40000, 17), False),
    ],
)
def test_a_packet(wanted: PacketFilter, matches: bool) -> None:
    assert wanted.matches_packet(TCP) is matches


def test_a_packet_without_ports_or_that_cannot_be_read() -> None:
    ping = packets.icmp(CLIENT, SERVER, 8)
    later = packets.fragments(packets.udp(CLIENT, SERVER, 1, 80, bytes(80)), 40)[1]
    for data in (ping, later, TCP[:22]):
        assert PacketFilter(hosts(CLIENT)).matches_packet(data)
        assert not PacketFilter(port=80).matches_packet(data)
    assert PacketFilter().matches_packet(b"")
    assert not PacketFilter(protonum=6).matches_packet(b"")
    assert not PacketFilter(port=ANY, host=hosts(CLIENT)).matches_packet(TCP[:10])


def refusal(data: bytes, reason: int, *, cause: int = OK, known: bool = False) -> Refusal:
    skb = Skb(data)
    skb.reason, skb.cause = reason, cause
    ct = Router().established() if known else None
    return Refusal(skb, PRE_ROUTING, NF_ACCEPT, ct, None, 0)


def test_the_connection_counts_too() -> None:
    """A reply to a translated connection has another address."""
    reply = packets.tcp(SERVER, "203.0.113.1", 80, 61000, "R")
    assert PacketFilter(hosts(CLIENT)).matches(refusal(reply, TCP_STATE, known=True))
    assert PacketFilter(hosts(CLIENT), 40000).matches(refusal(reply, TCP_STATE, known=True))
    assert not PacketFilter(hosts(CLIENT)).matches(refusal(reply, TCP_STATE))


def test_the_reason_or_the_cause() -> None:
    by_state = PacketFilter(reasons=frozenset({TCP_STATE}))
    assert by_state.matches(refusal(TCP, TCP_STATE))
    assert by_state.matches(refusal(TCP, FILTER_DROP, cause=TCP_STATE))
    assert not by_state.matches(refusal(TCP, FILTER_DROP))
    assert not PacketFilter(port=81, reasons=frozenset({TCP_STATE})).matches(refusal(TCP, TCP_STATE))


def test_an_overwritten_mark_is_a_reason_of_its_own() -> None:
    note = refusal(TCP, OK)
    note.overwritten = True
    assert PacketFilter(reasons=frozenset({OVERWRITTEN})).matches(note)
    assert not PacketFilter(reasons=frozenset({OK})).matches(note)
    assert not PacketFilter(reasons=frozenset({OVERWRITTEN})).matches(refusal(TCP, TCP_STATE))

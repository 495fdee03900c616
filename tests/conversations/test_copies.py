"""Copies: the beginnings of packets. What they show is judged as the whole packet would be, the rest never guessed."""

from __future__ import annotations

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.kernel.steering.plan import COPIED
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.reasons import COPY_TRUNCATED, IP_TRUNCATED, L4_TRUNCATED, OK, REASON_NAMES, SCTP_CHUNKS
from tests.support import packets

V4 = ("10.0.0.1", "192.0.2.9")
V6 = ("fd00::1", "2001:db8::9")
DATA, INIT, INIT_ACK, SACK, SHUTDOWN, COOKIE_ECHO = 0, 1, 2, 3, 7, 10
TAG = bytes(3) + b"\5"


class Observer:
    def __init__(self) -> None:
        self.now = 1_000_000
        self.engine = Engine(Tunables(nf_conntrack_acct=True), Repeatable(), mode="observe")

    def see(self, packet: bytes, length: int = COPIED) -> Skb:
        skb = Skb(packet[:length], indev=1)
        skb.copy = True
        self.engine.handle(skb, PRE_ROUTING, self.now)
        return skb


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def hosts(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


def test_raw_rules_apply(hosts: tuple[str, str]) -> None:
    """As the kernel's own raw rules do before the copy: zones and NOTRACK."""
    seen = Observer()
    dns, other = Match(dport=Numbers([53, 53])), Match()
    rules = [RawRule(dns, notrack=True), RawRule(other, zone_original=5, zone_reply=5)]
    seen.engine.configure(Tunables(), raw_rules=rules)
    assert seen.see(packets.udp(*hosts, 40000, 53)).ctinfo == IP_CT_UNTRACKED
    ct = seen.see(packets.udp(*hosts, 40000, 54)).ct
    assert ct is not None
    assert (tuples.zone(ct.original), tuples.zone(ct.reply)) == (5, 5)


def test_a_long_datagram_counts_with_its_whole_length(hosts: tuple[str, str]) -> None:
    seen = Observer()
    packet = packets.udp(*hosts, 40000, 53, bytes(1400))
    skb = seen.see(packet)
    assert (skb.reason, skb.ctinfo) == (OK, IP_CT_NEW)
    assert skb.ct is not None
    assert skb.ct.bytes_original == len(packet)
    assert seen.engine.core.stats.bytes[PRE_ROUTING] == len(packet)


def test_the_window_is_that_of_the_whole_segments(hosts: tuple[str, str]) -> None:
    """The acknowledgement of 1,400 bytes is right only if the segment was taken for that long."""
    client, server = hosts
    seen = Observer()
    seen.see(packets.tcp(client, server, 40000, 80, "S", seq=0))
    seen.see(packets.tcp(server, client, 80, 40000, "SA", seq=0, ack=1))
    seen.see(packets.tcp(client, server, 40000, 80, "A", seq=1, ack=1))
    assert seen.see(packets.tcp(client, server, 40000, 80, "A", seq=1, ack=1, data=bytes(1400))).reason == OK
    assert seen.see(packets.tcp(server, client, 80, 40000, "A", seq=1, ack=1401)).reason == OK
    beyond = seen.see(packets.tcp(server, client, 80, 40000, "A", seq=1, ack=1402))
    assert REASON_NAMES[beyond.reason] == "tcp_ack_over_window"
    assert seen.see(packets.tcp(client, server, 40000, 80, "A", seq=1401, ack=1)).ctinfo == IP_CT_ESTABLISHED


def test_a_checksum_is_not_verified(hosts: tuple[str, str]) -> None:
    assert Observer().see(packets.broken(packets.udp(*hosts, 40000, 53, b"text"))).reason == OK


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_an_error_quotes_beyond_the_copy(family: str) -> None:
    client, server = V4 if family == "v4" else V6
    kind = 3 if family == "v4" else 1
    seen = Observer()
    query = packets.udp(client, server, 40000, 53, bytes(500))
    seen.see(query)
    error = packets.icmp(server, client, kind, data=query)
    assert seen.see(error).ctinfo == IP_CT_RELATED_REPLY
    ports = len(error) - len(query) + (20 if family == "v4" else 40) + 4
    assert seen.see(error, ports).ctinfo == IP_CT_RELATED_REPLY
    assert seen.see(error, ports - 1).reason == COPY_TRUNCATED
    assert seen.engine.core.stats.reasons[COPY_TRUNCATED] == 1


def test_an_error_that_quotes_too_little_itself() -> None:
    client, server = V4
    error = packets.icmp(server, client, 3, data=packets.udp(client, server, 1, 2)[:22])
    assert REASON_NAMES[Observer().see(error).reason] == "icmp_inner_header"


@pytest.mark.parametrize(
    ("packet", "shown", "reason"),
    [
        (packets.udp(*V4, 1, 2, bytes(50)), 27, COPY_TRUNCATED),
        (packets.udp(*V4, 1, 2, bytes(50)), 28, OK),
        (packets.udp(*V4, 1, 2, bytes(50)), 19, IP_TRUNCATED),
        (packets.tcp(*V4, 1, 2, "S", options=packets.window_scale(7)), 43, COPY_TRUNCATED),
        (packets.tcp(*V6, 1, 2, "S"), 59, COPY_TRUNCATED),
        (packets.tcp(*V6, 1, 2, "S"), 60, OK),
        (packets.ip(*V4, 47, b"\x20\x01\x88\x0b" + bytes(40)), 26, COPY_TRUNCATED),
        (packets.ip(*V4, 47, b"\x20\x01\x88\x0b" + bytes(40)), 28, OK),
        (packets.ip(*V4, 47, b"\x20\x01\x88\x0b"), 24, OK),
        (packets.ip(*V6, 0, b"\x11\x01" + bytes(14) + packets.udp(*V6, 1, 2)[40:]), 44, COPY_TRUNCATED),
        (packets.ip(*V6, 0, b"\x11\x01" + bytes(14) + packets.udp(*V6, 1, 2)[40:]), 60, COPY_TRUNCATED),
        (packets.ip(*V6, 0, b"\x11\x01" + bytes(14) + packets.udp(*V6, 1, 2)[40:]), 64, OK),
        (packets.ip(*V4, 17, bytes(7)), 27, L4_TRUNCATED),
        (b"\x46" + packets.udp(*V4, 1, 2, bytes(8))[1:], 20, COPY_TRUNCATED),
    ],
)
def test_what_a_copy_must_show(packet: bytes, shown: int, reason: int) -> None:
    seen = Observer()
    assert REASON_NAMES[seen.see(packet, shown).reason] == REASON_NAMES[reason]
    assert len(seen.engine.core.table) == (reason == OK)


def test_a_jumbogram_does_not_say_its_length_where_it_is_read() -> None:
    jumbo = packets.ip(*V6, 0, b"\x06\x00\xc2\x04" + (70_000).to_bytes(4, "big") + bytes(300))
    assert Observer().see(jumbo[:4] + b"\0\0" + jumbo[6:]).reason == COPY_TRUNCATED


def test_chunks_after_data_are_not_needed() -> None:
    """RFC 9260 6.10: no control chunk follows a DATA chunk."""
    client, server = V4
    seen = Observer()
    assert seen.see(packets.sctp(client, server, 1, 2, 0, (INIT, TAG + bytes(300)))).ctinfo == IP_CT_NEW
    seen.see(packets.sctp(server, client, 2, 1, 5, (INIT_ACK, b"\0\0\0\7" + bytes(300))))
    seen.see(packets.sctp(client, server, 1, 2, 7, (COOKIE_ECHO, bytes(300))))
    bundle = seen.see(packets.sctp(client, server, 1, 2, 7, (SACK, bytes(12)), (DATA, bytes(400)), (DATA, bytes(4))))
    assert bundle.reason == OK
    hidden = seen.see(packets.sctp(client, server, 1, 2, 7, (SACK, bytes(400)), (SHUTDOWN, bytes(4))))
    assert (hidden.reason, hidden.ctinfo) == (COPY_TRUNCATED, IP_CT_INVALID)


@pytest.mark.parametrize(
    ("shown", "reason"), [(31, COPY_TRUNCATED), (35, COPY_TRUNCATED), (51, COPY_TRUNCATED), (52, OK)]
)
def test_an_init_is_needed_whole(shown: int, reason: int) -> None:
    assert Observer().see(packets.sctp(*V4, 1, 2, 0, (INIT, TAG + bytes(40))), shown).reason == reason


def test_chunks_that_may_not_stand_together() -> None:
    assert Observer().see(packets.sctp(*V4, 1, 2, 0, (DATA, bytes(8)), (INIT, bytes(300)))).reason == SCTP_CHUNKS

"""No packet without a connection leaves untranslated if a source rule covers it."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
)
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_MASQUERADE, NAT_SNAT, NatRule
from conntrackd_py.reasons import (
    LEAK_GUARD,
)
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, LAN, ROUTER, SERVER, WAN
from tests.unit.nat.conftest import MASQUERADE, QUERY, forward, router


@pytest.mark.parametrize(
    ("source", "outdev", "verdict"),
    [(CLIENT, WAN, NF_DROP), (ROUTER, WAN, NF_ACCEPT), (CLIENT, LAN, NF_ACCEPT)],
    ids=["covered", "the router's own address", "no rule covers it"],
)
def test_an_invalid_packet_at_postrouting(source: object, outdev: int, verdict: int) -> None:
    stray = packets.tcp(source.v4, SERVER.v4, 1000, 80, "R", seq=5)  # type: ignore[attr-defined]
    assert forward(router(MASQUERADE), stray, outdev)[1] == verdict


def test_a_source_in_the_target_range_may_leave() -> None:
    rule = NatRule(NAT_SNAT, to=Range(address("203.0.113.1"), address("203.0.113.9")))
    stray = packets.tcp("203.0.113.5", SERVER.v4, 1000, 80, "R", seq=5)
    assert forward(router(rule), stray)[1] == NF_ACCEPT


def test_ports_of_a_rule_are_compared_if_readable() -> None:
    web = NatRule(NAT_MASQUERADE, Match(proto=Numbers([6, 6]), dport=Numbers([80, 80])))
    for dport, verdict in ((80, NF_DROP), (443, NF_ACCEPT)):
        skb, seen = forward(router(web), packets.tcp(CLIENT.v4, SERVER.v4, 1000, dport, "R", seq=5))
        assert seen == verdict
        assert verdict == NF_ACCEPT or skb.reason == LEAK_GUARD


HEADLESS = packets.ip(CLIENT.v4, SERVER.v4, 6, b"\0")
FRAGMENT = HEADLESS[:6] + b"\x00\x10" + HEADLESS[8:]
BROKEN_CHAIN = packets.ip(CLIENT.v6, SERVER.v6, 60, b"\x06\xff\0\0\0\0\0\0")


@pytest.mark.parametrize("packet", [HEADLESS, FRAGMENT, BROKEN_CHAIN], ids=["headless", "fragment", "broken chain"])
def test_an_unreadable_field_is_taken_to_match(packet: bytes) -> None:
    """For rules that translate, not for ACCEPT rules."""
    web = NatRule(NAT_MASQUERADE, Match(proto=Numbers([6, 6]), dport=Numbers([80, 80])))
    exempt = NatRule(
        NAT_ACCEPT, Match(proto=Numbers([6, 6]), dport=Numbers([80, 80]), out_interface=InterfaceNames(["wan"]))
    )
    assert forward(router(web), packet)[1] == NF_DROP
    assert forward(router(exempt, web), packet)[1] == NF_DROP
    assert forward(router(exempt), packet)[1] == NF_ACCEPT


@pytest.mark.parametrize("packet", [bytes(40), b"\x60" + bytes(30), b"E\0"], ids=["version 0", "short v6", "short"])
def test_a_packet_without_addresses_does_not_leave_where_sources_are_translated(packet: bytes) -> None:
    assert forward(router(MASQUERADE), packet)[1] == NF_DROP
    assert forward(router(MASQUERADE), packet, outdev=LAN)[1] == NF_ACCEPT
    assert forward(router(), packet)[1] == NF_ACCEPT


def test_a_fragment_does_not_leak() -> None:
    """Its source address is readable."""
    fragment = QUERY[:6] + b"\x20\0" + QUERY[8:]
    assert forward(router(MASQUERADE), fragment)[1] == NF_DROP
    assert forward(router(MASQUERADE, leak_guard=False), fragment)[1] == NF_ACCEPT


@pytest.mark.parametrize("kind", [*range(130, 137), 143])
def test_neighbour_discovery_is_never_forwarded_untranslated(kind: int) -> None:
    """It is UNTRACKED by its type, so only the leak guard can drop it."""
    message = packets.icmp(CLIENT.v6, SERVER.v6, kind, data=bytes(16))
    assert forward(router(MASQUERADE), message)[1] == NF_DROP
    assert forward(router(MASQUERADE), message, outdev=LAN)[1] == NF_ACCEPT
    assert forward(router(MASQUERADE, leak_guard=False), message)[1] == NF_ACCEPT


@pytest.mark.parametrize("source", [ROUTER.v6, "fe80::1", "::"])
def test_the_routers_own_neighbour_discovery_leaves(source: str) -> None:
    engine = router(MASQUERADE)
    message = packets.icmp(source, "ff02::1", 135, data=bytes(16))
    first = Skb(message, 0, 0, WAN)
    assert engine.handle(first, LOCAL_OUT, 0) == NF_ACCEPT
    assert engine.handle(Skb(first.data, first.mark, 0, WAN), POST_ROUTING, 0) == NF_ACCEPT

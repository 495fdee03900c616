"""An interface loses an address: its masqueraded connections end."""

from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.masquerade import AT_ONCE
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.reasons import (
    END_ADDRESS_GONE,
)
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, OTHER, ROUTER, SERVER, WAN
from tests.unit.nat.conftest import MASQUERADE, QUERY, forward, router


def test_only_connections_of_that_interface_end() -> None:
    engine = router(MASQUERADE, NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["tun+"]))))
    engine.set_interface(9, "tun0", [address("10.8.0.1")], 0)
    forward(engine, QUERY)
    other, _ = forward(engine, packets.udp(CLIENT.v4, OTHER.v4, 1000, 53), outdev=9)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4), address("203.0.113.7")], 5)
    assert engine.core.stats.ended[END_ADDRESS_GONE] == 0, "one more is none less"
    engine.remove_interface(WAN, 5)
    engine.remove_interface(WAN, 5)
    assert engine.core.stats.ended[END_ADDRESS_GONE] == 1
    assert len(engine.core.table) == 1
    assert other.ct is not None
    assert not other.ct.dying


def test_connections_of_a_removed_address_end_in_bounded_steps() -> None:
    engine = router(MASQUERADE)
    count = AT_ONCE + 1000
    for sport in range(1024, 1024 + count):
        forward(engine, packets.udp(CLIENT.v4, SERVER.v4, sport, 53))
    engine.remove_interface(WAN, 5)
    ended = [engine.core.stats.ended[END_ADDRESS_GONE]]
    while engine.next_expiry() == 0:
        ended.append(engine.expire(5, 300))
    assert ended == [AT_ONCE, 300, 300, 300, 100]
    assert len(engine.core.table) == 0


def test_an_address_added_again_keeps_the_remaining_connections() -> None:
    engine = router(MASQUERADE)
    for sport in range(1024, 1024 + AT_ONCE + 1000):
        forward(engine, packets.udp(CLIENT.v4, SERVER.v4, sport, 53))
    engine.set_interface(WAN, "wan", [], 5)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4)], 6)
    assert engine.expire(6, 10_000) == 0
    assert len(engine.core.table) == 1000


# --- the leak guard -------------------------------------------------------------------------------------------

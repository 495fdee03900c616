"""`router`: an engine with two interfaces and NAT rules. `forward`: one packet through it."""

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    NF_ACCEPT,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, INSIDE, LAN, ROUTER, SERVER, WAN

QUERY = packets.udp(CLIENT.v4, SERVER.v4, 1000, 53)
MASQUERADE = NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"])))


def router(*rules: NatRule, leak_guard: bool = True) -> Engine:
    engine = Engine(Tunables(), Repeatable(1), nat_rules=list(rules), leak_guard=leak_guard)
    engine.set_interface(LAN, "lan", [address(INSIDE.v4), address(INSIDE.v6)], 0)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4), address(ROUTER.v6)], 0)
    return engine


def forward(engine: Engine, data: bytes, outdev: int = WAN, indev: int = LAN, now: int = 0) -> tuple[Skb, int]:
    first = Skb(data, 0, indev, 0)
    assert engine.handle(first, PRE_ROUTING, now) == NF_ACCEPT
    last = Skb(first.data, first.mark, indev, outdev)
    return last, engine.handle(last, POST_ROUTING, now)

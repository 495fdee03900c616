"""Routers with NAT rules for conversations: hairpin, MSS clamping, networks, several targets."""

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IP_CT_NEW, IPS_DST_NAT, IPS_SRC_NAT
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.wire import tcp as wire
from tests.support.play import CLIENT, LAN, ROUTER, WAN, Host, Play, accept, udp
from tests.support.rules import masquerade, rules_of, web_server_inside

BOTH = IPS_SRC_NAT | IPS_DST_NAT
MSS_1460 = b"\x02\x04\x05\xb4"
OUTER = Host("outer client", "203.0.113.2", "2001:db8:9::2", WAN, 40000)  # the client, as the server sees it
NEUTRAL = Host("neutral client", "", "2001:db8:9:0:cf3f::2", WAN, 40000)  # the same with SNPT: 0xfd01 - 0x2dc2
NETWORKS = {4: ("192.168.1.0/24", "203.0.113.0/24"), 6: ("fd00:1::/64", "2001:db8:9::/64")}
TARGETS = {4: [f"192.168.1.{n}" for n in (11, 12, 13)], 6: [f"fd00:1::{n:x}" for n in (11, 12, 13)]}


def hairpin(family: int, outer: str = 'in_interface = "wan"', more: str = "") -> Play:
    to = CLIENT.v4 if family == 4 else f"[{CLIENT.v6}]"
    text = f"""
        {more}

        [[nat]]
        action = "DNAT"
        {outer}
        proto = ["tcp", "udp"]
        dport = 8080
        to = "{to}:80"
        hairpin = true

        [[nat]]
        action = "MASQUERADE"
        family = "any"
        out_interface = "wan"
    """
    return Play(family, rules_of(text))


def mss_of(packet: bytes) -> int:
    at = 20 if packet[0] >> 4 == 4 else 40
    found = wire.mss_at(packet, at + wire.HEADER, at + wire.data_offset(packet, at))
    return int.from_bytes(packet[found : found + 2], "big") if found else 0


def clamping(family: int, limit: int, raw: list[RawRule] | None = None) -> Play:
    """Behind a link of 1492 bytes; port 8080 of the router leads to the client."""
    rules = [masquerade(), web_server_inside(family)]
    play = Play(family, rules)
    play.engine.mss.limit = limit
    play.engine.mss.mtus = {LAN: 1500, WAN: 1492}
    play.engine.configure(Tunables(), nat_rules=rules, raw_rules=raw)
    return play


def both_ways(family: int, source: str = "NETMAP", destination: str = "NETMAP") -> Play:
    inside, outside = NETWORKS[family]
    text = f"""
        [[nat]]
        action = "{source}"
        out_interface = "wan"
        source = "{inside}"
        to = "{outside}"

        [[nat]]
        action = "{destination}"
        in_interface = "wan"
        destination = "{outside}"
        to = "{inside}"
    """
    return Play(family, rules_of(text))


def balancing(family: int, balance: str, weights: tuple[int, ...] = (1, 1, 1)) -> Play:
    form = "{}:80 weight {}" if family == 4 else "[{}]:80 weight {}"
    to = [form.format(address, weight) for address, weight in zip(TARGETS[family], weights, strict=True)]
    text = f"""
        [[nat]]
        action = "DNAT"
        in_interface = "wan"
        proto = ["tcp", "udp"]
        dport = 8080
        balance = "{balance}"
        to = {to}
    """
    return Play(family, rules_of(text))


def source(number: int) -> Host:
    high, low = divmod(number, 250)
    return Host(f"source {number}", f"198.51.{high}.{low + 1}", f"2001:db8:2::{number + 1:x}", WAN, 5555)


def chosen(play: Play, number: int, sport: int = 5555) -> str:
    """The target that this source gets with a new connection."""
    assert play >> udp(source(number), ROUTER, sport=sport, dport=8080) << accept(IP_CT_NEW, dport=80)
    return str(play.seen["dst"])


def down(play: Play, address: str, state: bool = True) -> None:
    (rule,) = play.engine.nat.rules.balancing()
    assert rule.targets is not None
    for target in rule.targets.targets:
        if address in target.name:
            target.down = state

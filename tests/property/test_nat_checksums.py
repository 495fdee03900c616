"""Whatever a NAT rule rewrites: the checksums are those of a full recomputation.

Rules of every kind, both families; whole packets, super-packets and packets with a partial checksum, UDP without a
checksum, atomic fragments, ICMP errors that quote whole packets, first fragments and packets cut off.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import LOCAL_IN, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.nat.rewrite.mss import PMTU
from conntrackd_py.wire import checksum, ip, sctp
from conntrackd_py.wire.packet import Packet
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, INSIDE, LAN, NEIGHBOUR, OTHER, ROUTER, SERVER, WAN
from tests.support.rules import rules_of
from tests.support.steering import passes

PACKETS = 3000
MTUS = {LAN: 1500, WAN: 1280}
RULES = """
    [[nat]]
    action = "DNAT"
    family = "{family}"
    in_interface = "wan"
    proto = ["tcp", "udp"]
    dport = [8080, 8081]
    to = ["{client}:80 weight 2", "{neighbour}:81"]
    hairpin = true

    [[nat]]
    action = "DNAT"
    in_interface = "wan"
    proto = ["tcp", "udp"]
    dport = "9000:9009"
    to = "{client}:5000-5009/9000"
    random = false

    [[nat]]
    action = "{into}"
    in_interface = "wan"
    destination = "{outside}"
    to = "{inside}"

    [[nat]]
    action = "{out}"
    out_interface = "wan"
    proto = ["tcp", "sctp", "udplite", "{icmp}"]
    source = "{inside}"
    to = "{outside}"

    [[nat]]
    action = "MASQUERADE"
    family = "{family}"
    out_interface = "wan"
    random_fully = true
"""
NETWORKS = {
    4: {"inside": "192.168.1.0/24", "outside": "203.0.113.0/25", "icmp": "icmp", "family": "ipv4"},
    6: {"inside": "fd00:1::/64", "outside": "2001:db8:9::/64", "icmp": "icmpv6", "family": "ipv6"},
}
KINDS = [(4, "NETMAP", "NETMAP"), (6, "NETMAP", "NETMAP"), (6, "SNPT", "DNPT")]
OUTER = {4: "203.0.113.2", 6: "2001:db8:9::2"}


@dataclass
class Sides:
    """Ends by family."""

    inside: list[str]
    outside: list[str]
    router: list[str]


def sides(family: int) -> Sides:
    def at(*hosts: object) -> list[str]:
        return [getattr(host, f"v{family}") for host in hosts]

    return Sides(at(CLIENT, NEIGHBOUR), at(SERVER, OTHER), [*at(ROUTER), OUTER[family]])


def engine_with(family: int, out: str, into: str) -> Engine:
    form = "{}" if family == 4 else "[{}]"
    client, neighbour = (form.format(one) for one in sides(family).inside)
    engine = Engine(Tunables(), Repeatable(3))
    engine.mss.limit, engine.mss.mtus = PMTU, MTUS
    engine.configure(
        Tunables(),
        nat_rules=rules_of(RULES.format(out=out, into=into, client=client, neighbour=neighbour, **NETWORKS[family])),
    )
    for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
        engine.set_interface(link, name, [address(host.v4), address(host.v6)], 0)
    return engine


def made(dice: random.Random, family: int, source: str, destination: str, said: list[bytes]) -> bytes:
    """A packet without errors in its checksums."""
    sport, dport = dice.choice((53, 80, 81, 5000, 40000)), dice.choice((53, 80, 8080, 8081, 9003, 40000))
    data = dice.randbytes(dice.choice((0, 1, 2, 7, 64, 5000)))
    kind = dice.randrange(7)
    if kind < 2:
        return packets.udp(source, destination, sport, dport, data)
    if kind < 4:
        options = dice.choice((b"", b"\x02\x04\x05\xb4", b"\1\x02\x04\xff\xff\1\1\1"))
        flags = dice.choice(("S", "SA", "A", "PA", "R"))
        return packets.tcp(source, destination, sport, dport, flags, seq=1, ack=2, data=data, options=options)
    if kind == 4:
        return packets.icmp(source, destination, dice.choice((8, 0) if family == 4 else (128, 129)), 0, sport, 1, data)
    if kind == 5:
        return packets.sctp(source, destination, sport, dport, 0, (1, bytes(16)))
    quoted = dice.choice(said) if said else packets.udp(destination, source, sport, dport, data)
    if family == 4 and dice.random() < 0.3:
        quoted = with_header_checksum(quoted[:6] + b"\x20\0" + quoted[8:])  # a first fragment
    quoted = quoted[: dice.choice((28, 48, 61, 500))]
    return packets.icmp(source, destination, *((3, 3) if family == 4 else (1, 4)), 0, 0, quoted)


def with_header_checksum(packet: bytes) -> bytes:
    header = packet[:10] + b"\0\0" + packet[12:20]
    return header[:10] + checksum.finish(checksum.total(header)).to_bytes(2, "big") + header[12:] + packet[20:]


def changed_on_the_way(dice: random.Random, skb: Skb) -> None:
    """Another form of the same packet: partial, a super-packet, without a checksum, an atomic fragment."""
    protonum = skb.data[9] if skb.data[0] >> 4 == 4 else skb.data[6]
    at = 20 if skb.data[0] >> 4 == 4 else 40
    roll = dice.random()
    if protonum in (6, 17) and roll < 0.3:
        skb.data = packets.unfinished(skb.data)
        skb.checksum_partial = True
        skb.segments = len(skb.data) > 1500
    elif protonum == 17 and at == 20 and roll < 0.4:
        skb.data = skb.data[: at + 6] + b"\0\0" + skb.data[at + 8 :]
    elif at == 40 and roll < 0.4:
        length = int.from_bytes(skb.data[4:6], "big") + 8
        fragment = bytes((protonum, 0, 0, 0)) + dice.randbytes(4)
        skb.data = skb.data[:4] + length.to_bytes(2, "big") + b"\x2c" + skb.data[7:40] + fragment + skb.data[40:]


def right(skb: Skb) -> bool:
    """Whether all checksums are those of a recomputation; of a partial one, the sum of the pseudo-header."""
    packet = Packet(skb.data)
    assert ip.parse(packet) == 0
    data, at = packet.data, packet.dataoff
    if packet.version == 4 and checksum.total(data[:20]):
        return False
    body = data[at : packet.end]
    if packet.protonum == 132:
        return sctp.checksum(data, at) == sctp.crc32c(data, at, packet.end)
    if skb.checksum_partial:
        return packets.unfinished(data) == data
    if packet.protonum == 17 and body[6:8] == b"\0\0":
        return packet.version == 4
    if packet.protonum == 1 and body[0] == 3 and len(body) >= 28 and checksum.total(body[8:28]):
        return False  # the header of the quoted packet
    return checksum.valid(body, 0 if packet.protonum == 1 else ip.pseudo_header(packet))


def outgoing(ends: Sides, data: bytes) -> tuple[int, int]:
    """The link by which the packet leaves, and the hook."""
    packet = Packet(data)
    ip.parse(packet)
    to = ip.destination(packet)
    if to in [address(one) for one in ends.inside]:
        return LAN, POST_ROUTING
    return (0, LOCAL_IN) if to == address(ends.router[0]) else (WAN, POST_ROUTING)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("family", "out", "into"), KINDS)
def test_every_checksum_is_right(family: int, out: str, into: str, seed: int) -> None:
    dice, ends, engine = random.Random(seed), sides(family), engine_with(family, out, into)
    said: list[bytes] = []
    rewritten = dict.fromkeys((1, 6, 17, 58, 132), 0)
    forms = dict.fromkeys(("partial", "super", "whole"), 0)
    for now in range(PACKETS):
        link = dice.choice((LAN, WAN))
        source = dice.choice(ends.inside if link == LAN else ends.outside)
        destination = dice.choice([*ends.outside, *ends.router] if link == LAN else ends.router)
        skb = Skb(made(dice, family, source, destination, said), 0, link, 0)
        changed_on_the_way(dice, skb)
        before = skb.data
        if engine.handle(skb, PRE_ROUTING, now) != NF_ACCEPT:
            continue
        assert right(skb), (before.hex(), skb.data.hex())
        outdev, hook = outgoing(ends, skb.data)
        last = Skb(skb.data, skb.mark, link, outdev)
        last.checksum_partial, last.segments = skb.checksum_partial, skb.segments
        if not passes(engine, skb.mark, hook, outdev) and engine.handle(last, hook, now) != NF_ACCEPT:
            continue
        assert right(last), (before.hex(), last.data.hex())
        said = [*said[-20:], last.data]
        if last.data != before:
            protonum = last.protonum or skb.protonum
            rewritten[protonum] = rewritten.get(protonum, 0) + 1
            forms["super" if last.segments else "partial" if last.checksum_partial else "whole"] += 1
    wanted = (6, 17, 132, 1 if family == 4 else 58)
    assert all(rewritten[protonum] > 50 for protonum in wanted), rewritten
    assert forms["whole"] > 500
    assert forms["super"] > 20, forms

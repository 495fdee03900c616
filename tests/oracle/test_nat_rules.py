"""The same packets through the rules of iptables in a kernel and through our rules: the same bytes leave.

Sender and receiver are TUN devices. Our packets get the TTL of a packet that was forwarded once.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyroute2 import netns

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.address import address_text
from conntrackd_py.nat.rewrite.mss import PMTU
from conntrackd_py.wire.tcp import CHECKSUM_AT, HEADER, data_offset, mss_at
from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE, Kernel, kernel
from tests.oracle.twin import LINKS
from tests.support import packets
from tests.support.packets import valid
from tests.support.rules import rules_of
from tests.support.steering import passes

FLOWS = 40
WAIT = 1.0  # s until a packet that was let go counts as dropped
INSIDE = {4: "192.168.1.{}", 6: "fd00:1::{:x}"}
SERVER = {4: "198.51.100.{}", 6: "2001:db8:2::{:x}"}


class Both:
    """The kernel with rules of iptables, and the engine with rules of the configuration."""

    def __init__(self, family: int, one: Kernel, text: str) -> None:
        self.family = family
        self.kernel = one
        self.engine = Engine(Tunables(), Repeatable(1), nat_rules=rules_of(text))
        for side, link in LINKS.items():
            self.engine.set_interface(link, side, [], 0)

    def ours(self, packet: bytes, side: str) -> bytes:
        now = time.monotonic_ns() // 1_000_000
        first = Skb(packet, 0, LINKS[side], 0)
        if self.engine.handle(first, PRE_ROUTING, now) != NF_ACCEPT:
            return b""
        out = LINKS[opposite(side)]
        if passes(self.engine, first.mark, POST_ROUTING, out):
            return packets.hop(first.data)
        second = Skb(first.data, first.mark, LINKS[side], out)
        return packets.hop(second.data) if self.engine.handle(second, POST_ROUTING, now) == NF_ACCEPT else b""

    def theirs(self, packet: bytes, side: str) -> bytes:
        if self.kernel.see(packet, side) is None:
            return b""
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            try:
                left = os.read(self.kernel.tuns[opposite(side)], 0x10000)
            except BlockingIOError:
                time.sleep(0.001)
                continue
            if left[0] >> 4 != 6 or left[6] != 0:  # the kernel's own MLD reports begin with hop-by-hop options
                return left
        return b""

    def same(self, packet: bytes, side: str) -> bytes:
        ours, theirs = self.ours(packet, side), self.theirs(packet, side)
        assert ours.hex() == theirs.hex(), packet.hex()
        return ours

    def same_but_checksum(self, packet: bytes, side: str) -> None:
        """The same bytes. Only our checksum must be right."""
        ours, theirs = self.ours(packet, side), self.theirs(packet, side)
        at = 20 if self.family == 4 else 40
        value = at + CHECKSUM_AT
        assert valid(ours)
        assert ours[:value] + ours[value + 2 :] == theirs[:value] + theirs[value + 2 :], packet.hex()
        option = mss_at(ours, at + HEADER, at + data_offset(ours, at))
        assert ours == theirs or (option - at) % 2, packet.hex()


def opposite(side: str) -> str:
    return SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE


@contextmanager
def both(family: int, commands: list[str], text: str) -> Iterator[Both]:
    with kernel(True) as one:
        netns.pushns(one.name)
        try:
            for command in commands:
                subprocess.run(command.split(), check=True, capture_output=True)
        finally:
            netns.popns()
        yield Both(family, one, text)


def swapped(packet: bytes) -> tuple[str, str, int, int]:
    """Ends and ports of the answer to a UDP or TCP packet."""
    size, at = (4, 12) if packet[0] >> 4 == 4 else (16, 8)
    source, destination = packet[at : at + size], packet[at + size : at + 2 * size]
    l4 = at + 2 * size
    ports = int.from_bytes(packet[l4 : l4 + 2], "big"), int.from_bytes(packet[l4 + 2 : l4 + 4], "big")
    return address_text(destination), address_text(source), ports[1], ports[0]


def talk(pair: Both, dice: random.Random, target: str, side: str = CLIENT_SIDE) -> None:
    """A query, its answer, an error about the answer, and a ping, of a random host to one of the pattern `target`."""
    own = (INSIDE if side == CLIENT_SIDE else SERVER)[pair.family].format(dice.randrange(2, 250))
    other = target.format(dice.randrange(2, 250))
    data = bytes(dice.randrange(6))
    if dice.random() < 0.5:
        left = pair.same(packets.udp(own, other, dice.randrange(1024, 65536), dice.choice((53, 5000)), data), side)
    else:
        left = pair.same(
            packets.tcp(own, other, dice.randrange(1024, 65536), dice.choice((80, 5000)), "S", seq=1), side
        )
    assert left
    source, destination, sport, dport = swapped(left)
    back = opposite(side)
    if left[9 if pair.family == 4 else 6] == 17:
        answer = pair.same(packets.udp(source, destination, sport, dport, data), back)
        kind = (3, 3) if pair.family == 4 else (1, 4)
        about = answer[:28] if pair.family == 4 else answer
        pair.same(packets.icmp(own, swapped(answer)[1], *kind, 0, 0, about), side)
    else:
        pair.same(packets.tcp(source, destination, sport, dport, "SA", seq=9, ack=2), back)
    if pair.family == 4:
        pair.same(packets.icmp(own, other, 8, 0, dice.randrange(65536), 1, data), side)


PREFIXES = {
    4: ("192.168.1.0/24", "192.168.77.0/24", "203.0.113.0/24"),
    6: ("fd00:1::/64", "fd00:77::/64", "2001:db8:9::/64"),
}


@pytest.mark.parametrize("family", [4, 6])
def test_netmap(family: int) -> None:
    program = "iptables" if family == 4 else "ip6tables"
    inside, seen, outside = PREFIXES[family]
    server = SERVER[family].replace("{}", "0").replace("{:x}", "0") + ("/24" if family == 4 else "/64")
    commands = [
        f"{program} -t nat -I POSTROUTING -o {SERVER_SIDE} -s {inside} -j NETMAP --to {outside}",
        f"{program} -t nat -A PREROUTING -i {CLIENT_SIDE} -d {seen} -j NETMAP --to {server}",
    ]
    text = f"""
        [[nat]]
        action = "NETMAP"
        out_interface = "{SERVER_SIDE}"
        source = "{inside}"
        to = "{outside}"

        [[nat]]
        action = "NETMAP"
        in_interface = "{CLIENT_SIDE}"
        destination = "{seen}"
        to = "{server}"
    """
    dice = random.Random(family)
    with both(family, commands, text) as pair:
        target = "192.168.77.{}" if family == 4 else "fd00:77::{:x}"
        for _ in range(FLOWS):
            talk(pair, dice, dice.choice((SERVER[family], target)))


@pytest.mark.parametrize(
    ("inside", "outside"), [("fd00:1::/48", "2001:db8:9::/48"), ("fd00:1::/64", "2001:db8:9:8::/64")]
)
def test_nptv6(inside: str, outside: str) -> None:
    """One way: the kernel's targets are stateless, so the answers do not belong to the kernel's connection."""
    target = f"SNPT --src-pfx {inside} --dst-pfx {outside}"
    commands = [f"ip6tables -t mangle -A POSTROUTING -o {SERVER_SIDE} -s {inside} -j {target}"]
    text = f"""
        [[nat]]
        action = "SNPT"
        out_interface = "{SERVER_SIDE}"
        source = "{inside}"
        to = "{outside}"
    """
    dice = random.Random(inside)
    with both(6, commands, text) as pair:
        for _ in range(FLOWS):
            words = [f"{dice.choice((0xFFFF, 0, 1, dice.randrange(0xFFFF))):x}" for _ in range(5)]
            subnet = dice.randrange(0xFFFF) if inside.endswith("48") else 0
            own = f"fd00:1:0:{subnet:x}:{':'.join(words[:4])}"
            packet = packets.udp(own, SERVER[6].format(7), 4000 + dice.randrange(9), 53, bytes(dice.randrange(6)))
            assert pair.same(packet, CLIENT_SIDE)


def test_a_base_port() -> None:
    """Also of ports outside the range, and of a port that another connection of the same source has taken."""
    target = "198.51.100.7:5000-5099/8000"
    commands = [
        f"iptables -t nat -A PREROUTING -i {CLIENT_SIDE} -p udp --dport 100:60000 -j DNAT --to-destination {target}"
    ]
    text = f"""
        [[nat]]
        action = "DNAT"
        in_interface = "{CLIENT_SIDE}"
        proto = "udp"
        dport = "100:60000"
        to = "{target}"
    """
    dice = random.Random(5)
    with both(4, commands, text) as pair:
        ports = [8000, 8001, 8099, 8100, 7999, 100, 60000, 8200, *(dice.randrange(100, 60000) for _ in range(FLOWS))]
        for port in ports:
            assert pair.same(packets.udp("192.168.1.2", "203.0.113.1", 4000, port, b"odd"), CLIENT_SIDE)


def option_lists(dice: random.Random) -> bytes:
    """TCP options with an MSS at any offset."""
    mss = b"\x02\x04" + dice.choice((100, 536, 1220, 1240, 1460, 8960, 65535)).to_bytes(2, "big")
    parts = [mss, *dice.sample([b"\1", b"\3\3\7", b"\4\2", b"\x08\x0a" + bytes(8)], dice.randrange(4))]
    dice.shuffle(parts)
    whole = b"".join(parts)
    return whole + b"\1" * (-len(whole) % 4)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("option", "limit"), [("--clamp-mss-to-pmtu", PMTU), ("--set-mss 1000", 1000)])
def test_mss(family: int, option: str, limit: int) -> None:
    """SYN and SYN/ACK, both ways, with options at any offset.

    The kernel spoils the checksum of a packet whose MSS stands at an odd offset. Ours is right there.
    """
    program = "iptables" if family == 4 else "ip6tables"
    commands = [
        f"ip link set {SERVER_SIDE} mtu 1280",
        f"{program} -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS {option}",
    ]
    dice = random.Random(limit)
    with both(family, commands, "") as pair:
        pair.engine.mss.limit = limit
        pair.engine.mss.mtus = {LINKS[CLIENT_SIDE]: 9000, LINKS[SERVER_SIDE]: 1280}
        pair.engine.configure(Tunables())
        for _ in range(FLOWS):
            side = dice.choice((CLIENT_SIDE, SERVER_SIDE))
            ends = [pattern[family].format(dice.randrange(2, 250)) for pattern in (INSIDE, SERVER)]
            own, other = ends if side == CLIENT_SIDE else reversed(ends)
            sport, dport = dice.randrange(1024, 65536), dice.randrange(1, 65536)
            syn = packets.tcp(own, other, sport, dport, "S", seq=1, options=option_lists(dice))
            pair.same_but_checksum(syn, side)
            answer = packets.tcp(other, own, dport, sport, "SA", seq=9, ack=2, options=option_lists(dice))
            pair.same_but_checksum(answer, opposite(side))
        assert pair.engine.mss.clamped > FLOWS // 4

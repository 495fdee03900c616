"""Random conversations without TCP: UDP, UDP-Lite, ICMP and ICMPv6 queries and errors, unknown protocols.

lite: UDP-Lite too, whose checksum the kernel gets wrong (so only where checksums are not verified).

Right and wrong ones: checksums, lengths, types, and errors that quote too little, the wrong packet, or are
addressed to the wrong host.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE
from tests.oracle.twin import Step
from tests.support import packets

ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}


class Talk:
    def __init__(self, dice: random.Random, number: int, family: int, lite: bool) -> None:
        self.dice = dice
        self.family = family
        self.client = f"192.168.{number >> 8 & 255}.{number & 255}" if family == 4 else f"fd00:1::{number & 0xFFFF:x}"
        self.server = "198.51.100.2" if family == 4 else "2001:db8:2::2"
        self.third = "198.51.100.9" if family == 4 else "2001:db8:2::9"
        self.sport, self.dport = dice.randrange(1, 65536), dice.choice((53, 123, 443, dice.randrange(1, 65536)))
        self.kind = dice.choice((self.udp, self.udp, self.udplite, self.echo, self.echo, self.unknown))
        if self.kind == self.udplite and not lite:
            self.kind = self.udp
        self.said: list[tuple[str, bytes]] = []  # side, packet

    def ends(self, side: str) -> tuple[str, str]:
        return (self.client, self.server) if side == CLIENT_SIDE else (self.server, self.client)

    def steps(self, count: int) -> Iterator[Step]:
        for _ in range(self.dice.randrange(1, count)):
            roll = self.dice.random()
            if roll < 0.65 or not self.said:
                yield self.kind(CLIENT_SIDE if self.dice.random() < 0.6 else SERVER_SIDE)
            elif roll < 0.75:
                yield self.query()
            else:
                yield self.error()

    def step(self, text: str, side: str, packet: bytes) -> Step:
        self.said.append((side, packet))
        return Step(f"{text} {packet.hex()[:160]}", side, packet)

    def datagram(self, side: str, proto: int) -> Step:
        src, dst = self.ends(side)
        ports = (self.sport, self.dport) if side == CLIENT_SIDE else (self.dport, self.sport)
        data = bytes(self.dice.choice((0, 1, 12, 13, 500)))
        length = 8 + len(data)
        bend = self.dice.random()
        if bend < 0.06:
            length = self.dice.choice((0, 1, 7, 8, 9, length - 1, length + 1, 0xFFFF)) & 0xFFFF
        body = struct.pack(">HHHH", *ports, length, 0) + data
        body = packets.summed(src, dst, proto, body, 6)
        if bend > 0.9:
            body = body[:6] + self.dice.choice((b"\0\0", b"\1\2")) + body[8:]
        if bend > 0.97:
            body = body[: self.dice.randrange(4, 8)]
        return self.step(
            f"proto {proto} {'c' if side == CLIENT_SIDE else 's'}", side, packets.ip(src, dst, proto, body)
        )

    def udp(self, side: str) -> Step:
        return self.datagram(side, 17)

    def udplite(self, side: str) -> Step:
        return self.datagram(side, 136)

    def unknown(self, side: str) -> Step:
        src, dst = self.ends(side)
        return self.step("unknown", side, packets.ip(src, dst, 50 + self.sport % 3 * 39, self.dice.randbytes(20)))

    def echo(self, side: str) -> Step:
        src, dst = self.ends(side)
        request, reply = (8, 0) if self.family == 4 else (128, 129)
        kind = request if side == CLIENT_SIDE else reply
        if self.dice.random() < 0.1:
            kind = request + reply - kind
        packet = packets.icmp(src, dst, kind, 0, self.sport, self.dice.randrange(9))
        return self.step(f"echo {kind}", side, packet)

    def query(self) -> Step:
        side = self.dice.choice((CLIENT_SIDE, SERVER_SIDE))
        src, dst = self.ends(side)
        kind = self.dice.choice((*range(20), 128, 129, 139, 140, 141, 200, 255))
        code = self.dice.choice((0, 0, 0, 1, 7))
        data = self.dice.randbytes(self.dice.choice((0, 4, 40)))
        packet = packets.icmp(src, dst, kind, code, self.dice.choice((self.sport, 1)), data=data)
        if self.dice.random() < 0.1:
            packet = packets.broken(packet)
        return self.step(f"type {kind}", side, packet)

    def error(self) -> Step:
        """About something said before, mostly right."""
        sender, about = self.dice.choice(self.said)
        side = SERVER_SIDE if sender == CLIENT_SIDE else CLIENT_SIDE
        src, dst = self.ends(side)
        bend = self.dice.random()
        if bend < 0.15 and side == SERVER_SIDE:
            src = self.third  # a router on the way
        quoted = about[: self.dice.choice((28, 28, 48, 1200))] if self.family == 4 else about
        if bend > 0.9:
            quoted = quoted[: self.dice.randrange(len(quoted) + 1)]
        elif bend > 0.8:
            quoted = bytearray(quoted)  # type: ignore[assignment]
            at = self.dice.randrange(1, len(quoted))  # its first byte we read more strictly, see ARCHITECTURE.md
            quoted[at] ^= 1 << self.dice.randrange(8)  # type: ignore[index]
            quoted = bytes(quoted)
        packet = packets.icmp(src, dst, self.dice.choice(ERRORS[self.family]), self.dice.randrange(4), 0, 0, quoted)
        if 0.7 < bend < 0.75:
            packet = packets.broken(packet)
        return Step(f"error {packet.hex()}", side, packet)

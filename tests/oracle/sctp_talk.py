"""Random SCTP associations and GRE tunnels: mostly right, with wrong tags, orders, checksums and restarts."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from conntrackd_py.wire import sctp
from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE
from tests.oracle.twin import Step
from tests.support import packets

KINDS = (*range(15), 64, 130, 192)
NAMES = {value: name for name, value in vars(sctp).items() if name.isupper() and isinstance(value, int) and value < 15}


class Talk:
    def __init__(self, dice: random.Random, number: int, family: int) -> None:
        self.dice = dice
        self.family = family
        client = f"192.168.{number >> 8 & 255}.{number & 255}" if family == 4 else f"fd00:1::{number & 0xFFFF:x}"
        server = "198.51.100.2" if family == 4 else "2001:db8:2::2"
        self.address = {CLIENT_SIDE: client, SERVER_SIDE: server}
        self.port = {CLIENT_SIDE: 1024 + number % 60000, SERVER_SIDE: 3868}
        # the tag each side announced: what packets *to* it must carry
        self.tag = {CLIENT_SIDE: dice.getrandbits(32) | 1, SERVER_SIDE: dice.getrandbits(32) | 1}

    def steps(self) -> Iterator[Step]:
        c, s = CLIENT_SIDE, SERVER_SIDE
        roll = self.dice.random()
        if roll < 0.6:
            yield self.make(c, [sctp.INIT], tag=0)
            yield self.make(s, [sctp.INIT_ACK])
            yield self.make(c, [sctp.COOKIE_ECHO, *self.some_data()])
            yield self.make(s, [sctp.COOKIE_ACK, *self.some_data()])
        elif roll < 0.8:
            yield self.make(c, [sctp.HEARTBEAT])
            yield self.make(s, [sctp.HEARTBEAT_ACK])
        elif roll < 0.9:  # both call
            yield self.make(c, [sctp.INIT], tag=0)
            yield self.make(s, [sctp.INIT], tag=0)
            yield self.make(c, [sctp.INIT_ACK])
            yield self.make(s, [sctp.INIT_ACK])
        for _ in range(self.dice.randrange(1, 20)):
            yield from self.action()

    def some_data(self) -> list[int]:
        return [sctp.DATA] if self.dice.random() < 0.4 else []

    def action(self) -> Iterator[Step]:
        side = self.dice.choice((CLIENT_SIDE, SERVER_SIDE))
        other = SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE
        roll = self.dice.random()
        if roll < 0.3:
            yield self.make(side, [self.dice.choice((sctp.DATA, 3)) for _ in range(self.dice.choice((1, 1, 2, 3)))])
        elif roll < 0.45:
            yield self.make(side, [sctp.SHUTDOWN])
            if self.dice.random() < 0.7:
                yield self.make(other, [sctp.SHUTDOWN_ACK])
            if self.dice.random() < 0.7:
                yield self.make(side, [sctp.SHUTDOWN_COMPLETE])
        elif roll < 0.55:
            self.tag[side] = self.dice.getrandbits(32)
            yield self.make(side, [sctp.INIT], tag=self.dice.choice((0, 0, 0, 7)))
            if self.dice.random() < 0.7:
                yield self.make(other, [sctp.INIT_ACK])
        elif roll < 0.7:
            tag = self.dice.choice((None, None, self.dice.getrandbits(32)))
            yield self.make(side, [sctp.HEARTBEAT, *self.some_data()], tag=tag)
            if self.dice.random() < 0.7:
                tag = self.dice.choice((None, None, self.dice.getrandbits(32)))
                yield self.make(other, [sctp.HEARTBEAT_ACK], tag=tag)
        elif roll < 0.8:
            tag = self.dice.choice((None, self.tag[side], self.dice.getrandbits(32)))
            kind = self.dice.choice((sctp.ABORT, sctp.SHUTDOWN_COMPLETE))
            yield self.make(side, [kind], tag=tag, flags=self.dice.choice((0, sctp.FLAG_T)))
        else:
            kinds = [self.dice.choice(KINDS) for _ in range(self.dice.choice((0, 1, 1, 1, 2, 3)))]
            tag = self.dice.choice((None, None, 0, self.tag[side], self.dice.getrandbits(32)))
            yield self.make(side, kinds, tag=tag, bend=True)

    def make(self, side: str, kinds: list[int], *, tag: int | None = None, flags: int = 0, bend: bool = False) -> Step:
        other = SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE
        tag = self.tag[other] if tag is None else tag
        body = struct.pack(">HHII", self.port[side], self.port[other], tag, 0)
        for kind in kinds:
            value = (
                struct.pack(">I", self.tag[side]) + bytes(12)
                if kind in (sctp.INIT, sctp.INIT_ACK)
                else bytes(self.dice.choice((0, 1, 4, 13)))
            )
            length = 4 + len(value)
            if bend and self.dice.random() < 0.1:
                length = self.dice.choice((0, 1, 3, 4, length + 1, 500))
            body += struct.pack(">BBH", kind, flags, length) + value + bytes(-len(value) % 4)
        crc = sctp.crc32c(body, 0, len(body))
        if bend and self.dice.random() < 0.1:
            crc ^= 1
        if bend and self.dice.random() < 0.05:
            body = body[: self.dice.randrange(8, len(body) + 1)]
        body = body[:8] + sctp.put_checksum(crc) + body[12:] if len(body) >= 12 else body
        packet = packets.ip(self.address[side], self.address[other], 132, body)
        text = f"{side} tag {tag:x} (mine {self.tag[side]:x}) {[NAMES.get(k, k) for k in kinds]} flags {flags}"
        return Step(text, side, packet)


class Tunnel:
    """GRE of version 0 and 1."""

    def __init__(self, dice: random.Random, number: int, family: int) -> None:
        self.dice = dice
        client = f"192.168.{number >> 8 & 255}.{number & 255}" if family == 4 else f"fd00:1::{number & 0xFFFF:x}"
        self.ends = {CLIENT_SIDE: client, SERVER_SIDE: "198.51.100.2" if family == 4 else "2001:db8:2::2"}
        self.call = dice.randrange(65536)

    def steps(self) -> Iterator[Step]:
        for _ in range(self.dice.randrange(1, 8)):
            side = self.dice.choice((CLIENT_SIDE, SERVER_SIDE))
            other = SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE
            version = self.dice.choice((0, 0, 1, 1, 2))
            protocol = self.dice.choice((0x0800, 0x880B, 0x880B))
            body = struct.pack(">HHHH", 0x2000 | version, protocol, 4, self.call) + bytes(8)
            body = body[: self.dice.choice((16, 16, 16, 8, 7, 4, 3, 0))]
            packet = packets.ip(self.ends[side], self.ends[other], 47, body)
            yield Step(f"{side} gre {version} {protocol:x} {len(body)}", side, packet)

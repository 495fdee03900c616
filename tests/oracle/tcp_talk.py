"""Random TCP conversations: two ends that mostly behave, a network that does not, and forgers.

Everything follows from the seed. Each end keeps what a TCP would (next sequence number, what it has seen,
its window), the actions below use it or bend it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE
from tests.oracle.twin import Step
from tests.support import packets
from tests.support.packets import SACK_PERMITTED, sack, window_scale

M32 = 0xFFFFFFFF
TIMESTAMP = bytes((1, 1, 8, 10)) + bytes(8)


@dataclass
class End:
    side: str
    address: str
    port: int
    next: int
    seen: int = 0
    window: int = 65535
    options: bytes = b""
    sent: list[bytes] = field(default_factory=list)


class Talk:
    def __init__(self, dice: random.Random, number: int, family: int) -> None:
        self.dice = dice
        self.family = family
        client = f"192.168.{number >> 8 & 255}.{number & 255}" if family == 4 else f"fd00:1::{number & 0xFFFF:x}"
        server = "198.51.100.2" if family == 4 else "2001:db8:2::2"
        near_wrap = dice.random() < 0.2
        first = [M32 - dice.randrange(3000) if near_wrap else dice.getrandbits(32) for _ in range(2)]
        self.client = End(CLIENT_SIDE, client, 1024 + number % 60000, first[0])
        self.server = End(SERVER_SIDE, server, 80, first[1])
        for end in (self.client, self.server):
            end.window = dice.choice((65535, 65535, 29200, 1000, 100, 1, 0))
            if dice.random() < 0.5:
                end.options += window_scale(dice.choice((0, 1, 7, 14, 200)))
            if dice.random() < 0.5:
                end.options += SACK_PERMITTED
            if dice.random() < 0.3:
                end.options += TIMESTAMP
        self.held: list[tuple[End, bytes, str]] = []

    def steps(self) -> Iterator[Step]:
        opening = self.dice.random()
        if opening < 0.8:
            yield from self.handshake()
        elif opening < 0.9:
            yield from self.simultaneous()
        for _ in range(self.dice.randrange(3, 40)):
            yield from self.action()

    def make(self, end: End, flags: str, *, seq: int | None = None, ack: int | None = None, data: int = 0,
             window: int | None = None, options: bytes = b"", text: str = "") -> Step:  # fmt: skip
        other = self.other(end)
        seq = end.next if seq is None else seq & M32
        ack = (end.seen if "A" in flags else 0) if ack is None else ack & M32
        window = end.window if window is None else window
        packet = packets.tcp(
            end.address, other.address, end.port, other.port, flags,
            seq=seq, ack=ack, window=window, data=bytes(data), options=options,
        )  # fmt: skip
        end.sent.append(packet)
        name = "client" if end is self.client else "server"
        return Step(
            f"{name} {flags or '-'} seq {seq} ack {ack} len {data} win {window} {options.hex()} {text}",
            end.side,
            packet,
        )

    def other(self, end: End) -> End:
        return self.server if end is self.client else self.client

    def handshake(self) -> Iterator[Step]:
        client, server = self.client, self.server
        yield self.make(client, "S", options=client.options)
        client.next = client.next + 1 & M32
        if self.dice.random() < 0.1:
            yield self.make(client, "S", seq=client.next - 1, options=client.options, text="again")
        server.seen = client.next
        yield self.make(server, "SA", options=server.options)
        server.next = server.next + 1 & M32
        client.seen = server.next
        if self.dice.random() < 0.9:
            yield self.make(client, "A")

    def simultaneous(self) -> Iterator[Step]:
        client, server = self.client, self.server
        yield self.make(client, "S", options=client.options)
        yield self.make(server, "S", options=server.options)
        client.next, server.next = client.next + 1 & M32, server.next + 1 & M32
        client.seen, server.seen = server.next, client.next
        for end in self.dice.sample((client, server), 2):
            flags = self.dice.choice(("SA", "A"))
            yield self.make(end, flags, seq=end.next - 1 if "S" in flags else end.next, options=end.options)

    def action(self) -> Iterator[Step]:
        dice = self.dice
        end = dice.choice((self.client, self.server))
        other = self.other(end)
        kinds = (
            (self.send_data, 24), (self.send_ack, 20), (self.send_fin, 8), (self.send_rst, 6), (self.send_syn, 6),
            (self.replay, 8), (self.keepalive, 3), (self.resize, 4), (self.selective, 4), (self.stray, 8),
            (self.nonsense, 4), (self.damaged, 3), (self.late, 6),
        )  # fmt: skip
        chosen = dice.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        yield from chosen(end, other)

    def send_data(self, end: End, other: End) -> Iterator[Step]:
        size = self.dice.choice((1, 10, 100, 536, 1448, 4000))
        step = self.make(end, self.dice.choice(("A", "PA", "A", "PAU")), data=size)
        end.next = end.next + size & M32
        if self.dice.random() < 0.15:  # lost on the way, or late
            self.held.append((end, step.packet, step.text))
            return
        other.seen = end.next
        yield step
        if self.dice.random() < 0.7:
            yield self.make(other, "A")

    def late(self, end: End, other: End) -> Iterator[Step]:
        if self.held:
            sender, packet, text = self.held.pop(self.dice.randrange(len(self.held)))
            yield Step(text + " late", sender.side, packet)

    def send_ack(self, end: End, other: End) -> Iterator[Step]:
        for _ in range(self.dice.choice((1, 1, 1, 2, 5))):
            yield self.make(end, "A")

    def send_fin(self, end: End, other: End) -> Iterator[Step]:
        yield self.make(end, self.dice.choice(("FA", "FA", "FPA", "FAU")), data=self.dice.choice((0, 0, 100)))
        end.next = end.next + 1 & M32
        if self.dice.random() < 0.7:
            other.seen = end.next
            yield self.make(other, self.dice.choice(("A", "FA")))

    def send_rst(self, end: End, other: End) -> Iterator[Step]:
        seq = self.dice.choice((end.next, end.next, other.seen, other.seen, 0, end.next + 5, end.next - 50,
                                end.next + 100_000, self.dice.getrandbits(32)))  # fmt: skip
        flags = self.dice.choice(("R", "RA"))
        yield self.make(end, flags, seq=seq, ack=self.dice.choice((None, 0, other.next, other.next + 1)))

    def send_syn(self, end: End, other: End) -> Iterator[Step]:
        seq = self.dice.choice((end.next, end.next - 1, end.next + 70_000, self.dice.getrandbits(32))) & M32
        yield self.make(end, "S", seq=seq, ack=0, options=end.options)
        roll = self.dice.random()
        if roll < 0.4:  # the other end answers as a TCP would
            answer = self.dice.getrandbits(32)
            yield self.make(other, "SA", seq=answer, ack=seq + 1, options=other.options)
            if self.dice.random() < 0.7:
                end.next, other.next = seq + 1 & M32, answer + 1 & M32
                end.seen, other.seen = other.next, end.next
                yield self.make(end, "A")
        elif roll < 0.6:
            yield self.make(other, "RA", seq=0, ack=seq + 1)
        elif roll < 0.8:
            yield self.make(other, "A", text="challenge")
            if self.dice.random() < 0.5:
                yield self.make(end, "R", seq=other.seen)

    def replay(self, end: End, other: End) -> Iterator[Step]:
        if end.sent:
            yield Step("replayed packet", end.side, self.dice.choice(end.sent[-6:]))

    def keepalive(self, end: End, other: End) -> Iterator[Step]:
        yield self.make(end, "A", seq=end.next - 1, data=self.dice.choice((0, 1)), text="keepalive")
        if self.dice.random() < 0.7:
            yield self.make(other, "A", ack=end.next, text="keepalive answer")

    def resize(self, end: End, other: End) -> Iterator[Step]:
        end.window = self.dice.choice((0, 0, 1, 500, 65535, 29200))
        yield self.make(end, "A", text="window")

    def selective(self, end: End, other: End) -> Iterator[Step]:
        left = end.seen + self.dice.choice((0, 100, 1448))
        edges = [(left, left + self.dice.choice((1, 100, 1448))) for _ in range(self.dice.choice((1, 2, 3)))]
        yield self.make(end, "A", options=sack(*edges), text="sack")

    def stray(self, end: End, other: End) -> Iterator[Step]:
        near = (-70_000, -1000, -1, 1, 10, 1000, 66_000, 1 << 20, 1 << 30)
        seq = end.next + (self.dice.choice(near) if self.dice.random() < 0.6 else 0)
        ack = end.seen + (self.dice.choice(near) if self.dice.random() < 0.6 else 0)
        flags = self.dice.choice(("A", "A", "PA", "FA", "SA", "S", "RA"))
        yield self.make(end, flags, seq=seq, ack=ack, data=self.dice.choice((0, 1, 100)), text="stray")

    def nonsense(self, end: End, other: End) -> Iterator[Step]:
        yield self.make(end, "".join(f for f in "FSRPAUEC" if self.dice.random() < 0.4), text="flags")

    def damaged(self, end: End, other: End) -> Iterator[Step]:
        step = self.make(end, "A", data=10, text="damaged")
        packet = bytearray(step.packet)
        header = 20 if self.family == 4 else 40
        if self.dice.random() < 0.5:
            packet[-1] ^= 0xFF
        else:
            packet[header + 12] = self.dice.getrandbits(4) << 4
        yield Step(step.text, end.side, bytes(packet))

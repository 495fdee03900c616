"""Control connections in conversations: TCP streams whose numbers the test need not count."""

from __future__ import annotations

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.const import IPPROTO_TCP
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.match.address import address_text
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.wire.packet import u16, u32
from tests.support.play import Host, Play, Said, accept, tcp


def assigned(name: str, *ports: int, protonum: int = IPPROTO_TCP) -> list[RawRule]:
    """Raw rules that give the helper to connections to these ports."""
    proto = Numbers([protonum, protonum])
    return [RawRule(Match(proto=proto, dport=Numbers([port, port])), helper=name) for port in ports]


class Stream:
    """A TCP connection as its ends see it: each keeps its own numbers and believes what arrives.

    client, server: the ends; at: where the client sends to; as_seen: where the server sends to.
    """

    def __init__(
        self,
        play: Play,
        client: Host,
        server: Host,
        port: int,
        *,
        at: Host | None = None,
        as_seen: Host | None = None,
        inner_port: int = 0,
    ) -> None:
        self.play = play
        self.client, self.server, self.port = client, server, inner_port or port
        self.at, self.as_seen = at or server, as_seen or client
        self.at_port = port  # the client sends to it; the server has self.port
        self.seq = {client.name: 1000, server.name: 500_000}  # the next number of each
        self.ack = {client.name: 0, server.name: 0}  # what it has received
        self.port_seen = client.port

    def open(self) -> Stream:
        assert self.play >> self.segment(self.client, "S") << accept()
        self.seen(self.server)
        assert self.play >> self.segment(self.server, "SA") << accept()
        self.seen(self.client)
        assert self.play >> self.segment(self.client, "A") << accept()
        return self

    def segment(self, sender: Host, flags: str, data: bytes = b"", *, seq: int = -1, options: bytes = b"") -> Said:
        """The next segment of the sender, or one with this number; only a next one moves its number."""
        number = self.seq[sender.name] if seq < 0 else seq
        if seq < 0:
            self.seq[sender.name] += len(data) + ("S" in flags)
        ack = self.ack[sender.name] if "A" in flags else 0
        receiver = self.at if sender is self.client else self.as_seen
        ports = (self.client.port, self.at_port) if sender is self.client else (self.port, self.port_seen)
        return tcp(
            sender, receiver, flags, seq=number, ack=ack, data=data, options=options, sport=ports[0], dport=ports[1]
        )

    def seen(self, receiver: Host) -> bytes:
        """What has just left reaches the receiver; its payload."""
        seq, data, syn = payload_of(self.play.left)
        if receiver is self.server and syn:
            self.port_seen = u16(self.play.left, header_of(self.play.left))
        end = seq + len(data) + syn
        self.ack[receiver.name] = max(self.ack[receiver.name], end)
        return data

    def says(self, sender: Host, text: bytes, **facts: int) -> bytes:
        """The sender sends a segment; what the other end receives, which it acknowledges."""
        assert self.play >> self.segment(sender, "PA", text) << accept(None, reason="ok", **facts)
        receiver = self.server if sender is self.client else self.client
        got = self.seen(receiver)
        self.acknowledges(receiver)
        return got

    def acknowledges(self, receiver: Host) -> None:
        """The receiver acknowledges everything; its peer gets exactly its own number."""
        assert self.play >> self.segment(receiver, "A") << accept(reason="ok")
        peer = self.server if receiver is self.client else self.client
        assert u32(self.play.left, header_of(self.play.left) + 8) == self.seq[peer.name]
        assert u32(self.play.left, header_of(self.play.left) + 4) == self.ack[peer.name]


def header_of(packet: bytes) -> int:
    """The offset of layer 4."""
    return 20 if packet[0] >> 4 == 4 else 40


def payload_of(packet: bytes) -> tuple[int, bytes, int]:
    """Sequence number, payload, and 1 for a SYN."""
    at = header_of(packet)
    return u32(packet, at + 4), packet[at + (packet[at + 12] >> 4) * 4 :], packet[at + 13] >> 1 & 1


def expected(play: Play) -> list[Expectation]:
    return play.engine.core.expectations.all()


def shown(known: Expectation) -> tuple[str, str, int]:
    """From, to, port."""
    t = known.tuple
    return address_text(tuples.src(t)), address_text(tuples.dst(t)), tuples.l4dst(t)

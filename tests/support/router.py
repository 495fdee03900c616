"""An engine with real connections, made by real packets in virtual time, for tests of what stands around it."""

from __future__ import annotations

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from tests.support import packets
from tests.support.steering import passes

CLIENT = "10.0.0.1"
SERVER = "10.0.0.2"
CLIENT6 = "fd00::1"
SERVER6 = "fd00::2"


def source_mask(t: bytes, *, address: bool) -> bytes:
    """The mask for an expected t without its source port, and without its source address unless asked for."""
    every = b"\xff" * len(t)
    return tuples.with_src(every, tuples.src(every if address else bytes(len(t))), 0)


class Router:
    """`now` is the clock, in milliseconds; tests move it."""

    def __init__(self, *, tunables: Tunables | None = None) -> None:
        self.now = 1_000_000
        self.engine = Engine(tunables or Tunables(), Repeatable(), mode="track")

    def clock(self) -> int:
        return self.now

    def forward(self, data: bytes, *, mark: int = 0) -> NfConn:
        """Send one packet through; the connection it belongs to."""
        skb = Skb(data, indev=1)
        self.engine.handle(skb, PRE_ROUTING, self.now)
        assert skb.ct is not None
        if mark:
            skb.ct.mark = mark
        if passes(self.engine, skb.mark, POST_ROUTING, 2):
            return skb.ct
        out = Skb(skb.data, skb.mark, indev=1, outdev=2)
        self.engine.handle(out, POST_ROUTING, self.now)
        assert out.ct is not None
        return out.ct

    def udp(self, sport: int = 5353, dport: int = 53, *, src: str = CLIENT, dst: str = SERVER, mark: int = 0) -> NfConn:
        return self.forward(packets.udp(src, dst, sport, dport, b"hi"), mark=mark)

    def udp_answered(self, sport: int = 5353, dport: int = 53) -> NfConn:
        self.udp(sport, dport)
        return self.udp(dport, sport, src=SERVER, dst=CLIENT)

    def syn(self, sport: int = 40000, dport: int = 80) -> NfConn:
        return self.forward(packets.tcp(CLIENT, SERVER, sport, dport, "S", seq=1))

    def established(self, sport: int = 40000, dport: int = 80) -> NfConn:
        self.syn(sport, dport)
        self.forward(packets.tcp(SERVER, CLIENT, dport, sport, "SA", seq=1, ack=2))
        return self.forward(packets.tcp(CLIENT, SERVER, sport, dport, "A", seq=2, ack=2))

    def expect(self, master: NfConn, port: int, *, flags: int = 0, helper: str = "ftp") -> Expectation:
        """The server will connect to this port of the client, as in active FTP; for 300 s."""
        t = tuples.with_dst(master.reply, tuples.dst(master.reply), bytes(2) + port.to_bytes(2, "big"))
        known = Expectation(master, t, source_mask(t, address=True), self.now + 300_000, flags=flags)
        known.helper = helper
        assert self.engine.core.expectations.expect(known, 0, self.now)
        return known

    def other(self, protonum: int) -> NfConn:
        return self.forward(packets.ip(CLIENT, SERVER, protonum, bytes(8)))

"""Hostile payloads for helpers, through the whole engine, behind source and destination NAT.

    .venv/bin/python -m tests.support.helper_fuzz 100000 7 [sip ...]     # so many for each helper, this seed

After each packet: nothing is expected but from the peer (or, where the protocol says so, anyone) to the sender's own
address; no more than the policy allows; the checksum of what left is right; both ends still agree on all numbers.
"""

from __future__ import annotations

import random
import struct
import sys
import time
from collections.abc import Callable

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP
from conntrackd_py.helpers.builtin import BUILTIN
from conntrackd_py.helpers.helper import Helper
from conntrackd_py.wire import checksum, ip
from conntrackd_py.wire.packet import Packet
from tests.support.control import Stream, assigned
from tests.support.play import CLIENT, ROUTER, SERVER, Host, Play, Wanted, udp
from tests.support.rules import forward, masquerade

PORT = 2000
TURN = 100  # payloads of one connection

SEEDS: dict[str, tuple[bytes, ...]] = {
    "ftp": (
        b"PORT 192,168,1,2,19,137\r\n",
        b"EPRT |1|192.168.1.2|5001|\r\n",
        b"EPRT |2|fd00:1::2|5001|\r\n",
        b"227 Entering Passive Mode (192,168,1,2,117,48).\r\n",
        b"229 Entering Extended Passive Mode (|||30000|)\r\n",
    ),
    "amanda": (
        b"Amanda 2.6 REP HANDLE 00-1 SEQ 1\nCONNECT DATA 50001 MESG 50002 INDEX 50003\nOPTIONS ;\n",
        b"CONNECT DATA 1 MESG 65535 INDEX 50003 STATE 7\n",
    ),
    "sane": (b"\0\0\0\7\0\0\0\1", b"\0\0\0\0\0\0\x30\x39\0\0\0\0"),
    "tftp": (b"\0\1file\0octet\0", b"\0\2file\0octet\0"),
    "netbios-ns": (b"\x12\x34\x01\x10\0\1\0\0\0\0\0\0 CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\0\0 \0\1",),
    "sip": (
        b"INVITE sip:a@198.51.100.2:2000 SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.2:40000;rport;maddr=192.168.1.2\r\n"
        b"From: <sip:b@192.168.1.2:40000>\r\nm: <sip:b@192.168.1.2:40000>, sip:c@192.168.1.2\r\nCSeq: 1 INVITE\r\n"
        b"Content-Length: 133\r\n\r\nv=0\r\no=- 1 1 IN IP4 192.168.1.2\r\nc=IN IP4 192.168.1.2\r\n"
        b"m=audio 6000 RTP/AVP 0\r\nm=video 7000 RTP/AVP 0\r\nc=IN IP4 10.0.0.1\r\n",
        b"SIP/2.0 200 OK\r\nv: SIP/2.0/TCP 192.168.1.2;received=203.0.113.1;rport=5060\r\nCSeq: 1 REGISTER\r\n"
        b"m: <sip:b@203.0.113.1:2000>;expires=60\r\nl: 0\r\n\r\n",
        b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\nl: 52\r\n\r\nv=0\r\nc=IN IP6 2001:db8:2::2\r\nm=image 6001 udptl\r\n",
        b"REGISTER sip:r SIP/2.0\r\nCSeq: 1 REGISTER\r\nContact: <sip:b@[fd00:1::2]:40000;transport=udp>\r\n"
        b"Expires: 60\r\nContent-Length: 0\r\n\r\n",
        b"BYE sip:a SIP/2.0\r\nCSeq: 2 BYE\r\nl: 0\r\n\r\n",
    ),
    "pptp": tuple(
        struct.pack(">HHIHHHHH", len(body) + 18, 1, 0x1A2B3C4D, kind, 0, first, second, 0x100) + body
        for kind, first, second in (
            *((2, 0, 0x100), (7, 7, 1), (8, 9, 40000), (9, 9, 0), (10, 7, 9), (11, 40000, 0)),
            *((12, 7, 0), (13, 9, 0), (14, 40000, 0), (15, 40000, 0)),
        )
        for body in (bytes(202),)
    ),
    "irc": (
        b"PRIVMSG bob :\1DCC SEND f 3232235778 5001 99\1\r\n",
        b"PRIVMSG bob :\1DCC CHAT chat 3405803777 5001\1\r\n",
    ),
}
PARTS = (
    b"",
    b"\r",
    b"\n",
    b"\0",
    b"\xff",
    b" ",
    b",",
    b"|",
    b"(",
    b"0",
    b"9",
    b"99999999999999999999",
    b"-1",
    b"::",
    b"\1",
)


def mutated(chance: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few changes, or several glued together, or any bytes."""
    kind = chance.randrange(10)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 200))
    text = bytearray(chance.choice(seeds))
    if kind == 1:
        text *= chance.randrange(1, 30)
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(text) + 1)
        text[at : at + chance.choice((0, 0, 1, 1, 5))] = chance.choice((*PARTS, chance.randbytes(2)))
    if kind == 2:
        del text[chance.randrange(len(text) + 1) :]
    return bytes(text[:1400]) or b"\n"


class Fuzz:
    """One connection: from the client inside, or to the server inside."""

    def __init__(self, helper: type[Helper], family: int, outward: bool, protonum: int) -> None:
        rules = [masquerade(), forward(family, (PORT, PORT), protonum=protonum)]
        raw = assigned(helper.name, PORT, protonum=protonum)
        self.protonum = protonum
        self.helper = helper
        self.play = Play(family, rules, raw_rules=raw, helpers=(helper,))
        self.ends = (CLIENT, SERVER) if outward else (SERVER, CLIENT)
        self.family = family
        self.at = ROUTER if not outward else SERVER
        self.as_seen = ROUTER if outward else SERVER
        self.stream = Stream(self.play, *self.ends, PORT, at=self.at, as_seen=self.as_seen)
        if protonum == IPPROTO_TCP:
            self.stream.open()
            for end in self.ends:
                self.stream.says(end, b"\r\n")

    def says(self, chance: random.Random, payload: bytes) -> None:
        sender = chance.choice(self.ends)
        if self.protonum == IPPROTO_TCP:
            self._segment(sender, payload)
        elif sender is self.ends[0]:
            assert self.play >> udp(sender, self.at, payload, dport=PORT) << Wanted()
        else:
            answer = udp(sender, self.as_seen, payload, sport=PORT, dport=self.ends[0].port)
            assert self.play >> answer << Wanted()
        self._check()

    def _segment(self, sender: Host, payload: bytes) -> None:
        stream = self.stream
        at = stream.seq[sender.name]
        assert self.play >> stream.segment(sender, "PA", payload, seq=at) << Wanted()
        if not self.play.left:
            return  # dropped: not sent
        stream.seq[sender.name] += len(payload)
        other = self.ends[1 - self.ends.index(sender)]
        stream.seen(other)
        stream.acknowledges(other)

    def _check(self) -> None:
        core = self.play.engine.core
        known = core.expectations.all()
        kinds = [one.kind for one in known]
        for kind, (most, _) in enumerate(self.helper.policies):
            assert kinds.count(kind) <= most
        own = {tuples.dst(t) for one in known for t in (one.master.original, one.master.reply)}
        for one in known:
            assert tuples.dst(one.tuple) in own, "towards a third host"
            anyone = bytes(tuples.address_length(one.tuple))
            assert tuples.src(one.tuple) in own | {anyone, *(tuples.src(one.master.tuple(d)) for d in (0, 1))}
        if self.play.left:
            packet = Packet(self.play.left)
            assert ip.parse(packet) == 0
            assert len(packet.data) == packet.end
            body = packet.data[packet.dataoff : packet.end]
            bare = packet.protonum == IPPROTO_UDP and body[6:8] == b"\0\0"  # no checksum: one datagram in 65536
            assert bare or checksum.valid(body, ip.pseudo_header(packet))


def run(helper: type[Helper], count: int, seed: int, note: Callable[[float, bytes], None]) -> None:
    """note: gets the processor seconds of each payload, and the payload."""
    chance = random.Random(f"{helper.name} {seed}")
    fuzz = None
    for number in range(count):
        if fuzz is None or number % TURN == 0:
            protonum = chance.choice((helper.protonum, helper.other_protonum)) or helper.protonum
            fuzz = Fuzz(helper, chance.choice((4, 6)), chance.random() < 0.5, protonum)
        payload = mutated(chance, SEEDS[helper.name])
        began = time.thread_time()
        fuzz.says(chance, payload)
        note(time.thread_time() - began, payload)


def main() -> None:
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    for helper in [BUILTIN[name] for name in sys.argv[3:] or BUILTIN]:
        slowest: list[tuple[float, bytes]] = [(0.0, b"")]

        def note(took: float, payload: bytes, slowest: list[tuple[float, bytes]] = slowest) -> None:
            slowest[0] = max(slowest[0], (took, payload))

        run(helper, count, seed, note)
        took, payload = slowest[0]
        print(f"{helper.name}: {count} payloads, the slowest packet {took * 1000:.1f} ms: {payload[:60]!r}", flush=True)


if __name__ == "__main__":
    main()

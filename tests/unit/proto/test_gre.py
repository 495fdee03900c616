"""GRE: what identifies a tunnel, and when it is a stream."""

import struct

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_ASSURED, IPS_CONFIRMED, IPS_EXPECTED, IPS_SEEN_REPLY
from conntrackd_py.proto.gre import CALL_TIMEOUT, CALL_TIMEOUT_STREAM, MOST_KEYS, PPP, Gre
from conntrackd_py.wire import ip
from tests.support import packets


def parsed(body: bytes) -> Skb:
    skb = Skb(packets.ip("192.168.1.2", "198.51.100.2", 47, body))
    assert ip.parse(skb) == 0
    return skb


def pptp(call: int, protocol: int = PPP) -> bytes:
    return struct.pack(">HHHH", 0x2001, protocol, 0, call)


def test_plain_gre_has_no_key() -> None:
    gre = Gre(Tunables())
    assert gre.l4(parsed(struct.pack(">HH", 0x2000, 0x0800) + b"key of a tunnel")) == b"\0\0\0\0"
    assert gre.l4(parsed(b"")) == b"\0\0\0\0"


def test_pptp_is_known_by_its_call_id() -> None:
    """The packet has the receiver's; keymap has the sender's."""
    gre = Gre(Tunables())
    skb = parsed(pptp(0x0102))
    assert gre.l4(skb) == b"\0\0\1\2"
    gre.keymap[ip.addresses(skb) + b"\1\2"] = b"\7\7"
    assert gre.l4(skb) == b"\7\7\1\2"
    assert gre.invert(b"\7\7\1\2") == b"\1\2\7\7"


def test_version_1_must_carry_ppp() -> None:
    assert Gre(Tunables()).l4(parsed(pptp(1, protocol=0x0800))) == b""


def test_a_tunnel_used_both_ways_is_a_stream() -> None:
    gre = Gre(Tunables())
    ct = NfConn(b"", b"", gre, 0)
    ct.status |= IPS_CONFIRMED
    gre.packet(ct, parsed(b""), 0, 1000, True)
    assert (ct.timeout, ct.status & IPS_ASSURED) == (31_000, 0)
    ct.status |= IPS_SEEN_REPLY
    gre.packet(ct, parsed(b""), 0, 1000, False)
    assert (ct.timeout, ct.status & IPS_ASSURED) == (181_000, IPS_ASSURED)


def call(mine: int, theirs: int) -> tuple[bytes, bytes]:
    """The two tuples of an untranslated call."""
    pair = ip.addresses(parsed(b""))
    one, other = mine.to_bytes(2, "big"), theirs.to_bytes(2, "big")
    t = tuples.make(pair, one + other, 47)
    return t, tuples.swapped(t, other + one)


def test_the_calls_of_a_control_connection() -> None:
    """A later one may have the ids of an earlier one, which then ends without it."""
    gre = Gre(Tunables())
    gre.add_call(1, *call(7, 9))
    assert gre.l4(parsed(pptp(9))) == b"\0\7\0\x09"
    gre.add_call(2, *call(8, 9))
    assert gre.l4(parsed(pptp(9))) == b"\0\x08\0\x09"
    assert gre.end_call(1, b"\0\5") == []
    assert gre.end_call(1, b"\0\7") == [call(7, 9)[1]]
    assert sorted(gre.end_call(2, b"")) == sorted(call(8, 9))
    assert gre.end_call(1, b"") == []
    assert (gre.keymap, gre.keys, gre.owners) == ({}, {}, {})
    assert gre.end_call(2, b"") == []


def test_the_keys_of_a_control_connection_are_bounded() -> None:
    gre = Gre(Tunables())
    for number in range(1, 2 * MOST_KEYS):
        gre.add_call(1, *call(number, number))
    assert len(gre.keymap) == len(gre.owners) == len(gre.keys[1]) == MOST_KEYS


def test_a_call_lives_longer() -> None:
    gre = Gre(Tunables())
    ct = NfConn(b"", b"", gre, 0)
    ct.status |= IPS_EXPECTED
    assert gre.lifetime(ct) == CALL_TIMEOUT
    ct.status |= IPS_SEEN_REPLY
    assert gre.lifetime(ct) == CALL_TIMEOUT_STREAM

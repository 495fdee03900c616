"""Sequence adjustment of a TCP packet: its sequence number, and what it acknowledges (nf_ct_seq_adjust).

What a packet acknowledges is adjusted at PREROUTING and its own number when it leaves. So the kernel's tracking, which
stands between, sees each end's numbers as that end sent them.
"""

from typing import Final

from conntrackd_py.conntrack.seqadj import Corrections
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.nat.rewrite.payload import put
from conntrackd_py.wire import tcp
from conntrackd_py.wire.packet import u32

SEQ_AT: Final = 4
ACK_AT: Final = 8
FLAGS_AT: Final = 13


def adjust_seq(skb: Skb, mine: Corrections) -> None:
    """mine: of the direction of the packet."""
    seq = u32(skb.data, skb.dataoff + SEQ_AT)
    seen = mine.received(seq)
    if seen != seq:
        put(skb, skb.dataoff + SEQ_AT, seen.to_bytes(4, "big"))


def adjust_ack(skb: Skb, other: Corrections) -> None:
    """Adjust the acknowledgement and the SACK blocks. other: of the opposite direction."""
    at = skb.dataoff
    data = skb.data
    if data[at + FLAGS_AT] & tcp.ACK:
        _put_sent(skb, at + ACK_AT, other)
    option = at + tcp.HEADER
    stop = min(at + tcp.data_offset(data, at), skb.end)
    option = tcp.next_option(data, option, stop)
    while option < stop:
        size = data[option + 1]
        if data[option] == tcp.OPT_SACK:
            for edge in range(option + 2, option + size - 3, 4):
                _put_sent(skb, edge, other)
        option = tcp.next_option(data, option + size, stop)


def _put_sent(skb: Skb, at: int, other: Corrections) -> None:
    seen = u32(skb.data, at)
    sent = other.sent(seen)
    if sent != seen:
        put(skb, at, sent.to_bytes(4, "big"))

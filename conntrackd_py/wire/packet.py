"""A packet as bytes, the offsets that `ip.parse` finds in it, and why it was refused.

data       the packet from its IP header on
version    4 or 6; 0 until parsed
protonum   layer 4 protocol, after any IPv6 extension headers
dataoff    offset of the layer 4 header
end        offset just past the packet's bytes in data (by the IP length field, not len(data))
length     the same of the whole packet: greater than `end` if data is the beginning of it
copy       data may be only the beginning of the packet (a copy from NFLOG)
checksum_partial   the layer 4 checksum field holds only the pseudo-header sum (CHECKSUM_PARTIAL)
ack_offset     how much more it acknowledges than its peer sent (conntrack/seqadj.py)
segments   a super-packet that will be cut into segments later (GSO)
reason     why it is INVALID, was ignored or was dropped (see reasons)
numbers    for that reason, the value found and the bounds it broke; explain/sentences.py puts them into words
"""

from mypy_extensions import mypyc_attr

from conntrackd_py.reasons import OK


@mypyc_attr(acyclic=True)
class Packet:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.version = 0
        self.protonum = 0
        self.dataoff = 0
        self.end = 0
        self.length = 0
        self.copy = False
        self.checksum_partial = False
        self.ack_offset = 0
        self.segments = False
        self.reason = OK
        self.numbers: tuple[int, ...] = ()


def u16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def u32(data: bytes, at: int) -> int:
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


def put16(value: int) -> bytes:
    return value.to_bytes(2, "big")

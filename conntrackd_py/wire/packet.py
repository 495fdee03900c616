"""A packet as bytes, and where its headers are once `ip.parse` has looked.

data     the packet from its IP header on, as the kernel handed it over
version  4 or 6; 0 until parsed
protonum layer 4 protocol, after any IPv6 extension headers
dataoff  offset of the layer 4 header
end      offset just past the packet (the IP length field, not len(data))
numbers  what was seen and the bounds it broke, once the packet has been refused or ignored: integers whose
         meaning depends on the reason (engine/reasons.py puts them into words)
"""


class Packet:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.version = 0
        self.protonum = 0
        self.dataoff = 0
        self.end = 0
        self.checksum_partial = False
        self.segments = False
        self.numbers: tuple[int, ...] = ()


def u16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def u32(data: bytes, at: int) -> int:
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


def put16(value: int) -> bytes:
    return value.to_bytes(2, "big")

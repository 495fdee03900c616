"""TCP header fields and options, by offset (RFC 9293, RFC 7323, RFC 2018)."""

from typing import Final

from conntrackd_py.wire.packet import u32

HEADER: Final = 20
CHECKSUM_AT: Final = 16
FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10
URG: Final = 0x20

OPT_EOL: Final = 0
OPT_NOP: Final = 1
OPT_MSS: Final = 2
OPT_WINDOW: Final = 3
OPT_SACK_PERM: Final = 4
OPT_SACK: Final = 5
MAX_SCALE: Final = 14

NO_SCALE: Final = -1


def data_offset(data: bytes, at: int) -> int:
    """Length of the header in bytes, options included."""
    return (data[at + 12] >> 4) * 4


def next_option(data: bytes, at: int, stop: int) -> int:
    """Offset of the first option from `at` on that is not a NOP.

    stop: end of the options, returned at their end or at a malformed option, where the kernel stops reading too.
    """
    while at < stop and data[at] == OPT_NOP:
        at += 1
    if at + 1 >= stop or data[at] == OPT_EOL or data[at + 1] < 2 or at + data[at + 1] > stop:
        return stop
    return at


def mss_at(data: bytes, at: int, stop: int) -> int:
    """Offset of the value of the first MSS option; 0 without one. at, stop: start and end of the options."""
    at = next_option(data, at, stop)
    while at < stop:
        if data[at] == OPT_MSS and data[at + 1] == 4:
            return at + 2
        at = next_option(data, at + data[at + 1], stop)
    return 0


def syn_options(data: bytes, at: int, stop: int) -> tuple[int, bool]:
    """Window scale (NO_SCALE without the option, at most 14) and whether SACK is permitted.

    at, stop: start and end of the options.
    """
    scale = NO_SCALE
    sack_permitted = False
    at = next_option(data, at, stop)
    while at < stop:
        kind, size = data[at], data[at + 1]
        if kind == OPT_SACK_PERM and size == 2:
            sack_permitted = True
        elif kind == OPT_WINDOW and size == 3:
            scale = min(data[at + 2], MAX_SCALE)
        at = next_option(data, at + size, stop)
    return scale, sack_permitted


def highest_sack(data: bytes, at: int, stop: int, ack: int) -> int:
    """The highest right edge in the SACK option, or ack when none lies beyond it (modulo 2**32)."""
    if stop - at == 12 and u32(data, at) == 0x0101080A:
        return ack  # timestamps alone, the common case
    at = next_option(data, at, stop)
    while at < stop:
        size = data[at + 1]
        if data[at] == OPT_SACK and size >= 10 and (size - 2) % 8 == 0:
            for edge in range(at + 6, at + size, 8):
                right = u32(data, edge)
                if 0 < (right - ack) & 0xFFFFFFFF < 0x80000000:
                    ack = right
            break
        at = next_option(data, at + size, stop)
    return ack

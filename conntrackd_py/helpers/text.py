"""Numbers and addresses in text payloads. Bounded: a number has at most as many digits as its largest value."""

from typing import Final

from conntrackd_py.match.address import packed_address

NO_NUMBER: Final = -1
LONGEST_ADDRESS: Final = 45  # of IPv6 with an IPv4 tail


def number_at(payload: bytes, at: int, highest: int) -> tuple[int, int]:
    """A decimal number from 0 to `highest` and the offset behind it; NO_NUMBER without one."""
    end = at
    value = 0
    while end < len(payload) and 48 <= payload[end] <= 57:
        value = value * 10 + payload[end] - 48
        end += 1
        if value > highest:
            return NO_NUMBER, end
    return (value if end > at else NO_NUMBER), end


def address_of(text: bytes) -> bytes:
    """The packed address; empty if the text is none."""
    if not text or len(text) > LONGEST_ADDRESS or not text.isascii():
        return b""
    try:
        return packed_address(text.decode("ascii"))
    except ValueError:
        return b""


def full(address: bytes) -> str:
    """An address as the kernel writes it into payloads: IPv6 with all digits."""
    if len(address) == 4:
        return ".".join([str(n) for n in address])
    digits = address.hex()
    return ":".join([digits[at : at + 4] for at in range(0, 32, 4)])

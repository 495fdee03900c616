"""Numbers and addresses in payloads."""

import pytest

from conntrackd_py.helpers.text import NO_NUMBER, address_of, full, number_at
from tests.support.packets import address


@pytest.mark.parametrize(
    ("text", "highest", "found"),
    [
        (b"12,", 255, (12, 2)),
        (b"0", 255, (0, 1)),
        (b"", 255, (NO_NUMBER, 0)),
        (b"x1", 255, (NO_NUMBER, 0)),
        (b"256", 255, (NO_NUMBER, 3)),
        (b"00000012", 255, (12, 8)),
        (b"9" * 70_000, 65535, (NO_NUMBER, 5)),
    ],
)
def test_a_number(text: bytes, highest: int, found: tuple[int, int]) -> None:
    assert number_at(text, 0, highest) == found


@pytest.mark.parametrize("text", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::"])
def test_an_address(text: str) -> None:
    assert address_of(text.encode()) == address(text)


@pytest.mark.parametrize(
    "text", [b"", b"192.0.2", b"192.0.2.256", b"192.0.2.1 ", b"\xff\xff", b"fe80::1%eth0", b":" * 46, b"[::1]"]
)
def test_no_address(text: bytes) -> None:
    assert address_of(text) == b""


def test_an_address_as_the_kernel_writes_it() -> None:
    assert full(address("192.0.2.1")) == "192.0.2.1"
    assert full(address("2001:db8::1")) == "2001:0db8:0000:0000:0000:0000:0000:0001"

"""Messages as the kernel reads them, byte by byte (little-endian machine or big)."""

import errno
import struct

import pytest

from conntrackd_py.kernel import netlink


def test_an_attribute_is_padded_and_its_length_is_not() -> None:
    assert netlink.attribute(7, b"abcde") == struct.pack("=HH", 9, 7) + b"abcde\0\0\0"


def test_a_copy_range_stands_in_network_order_behind_host_order_headers() -> None:
    message = netlink.queue_config(258, 5, netlink.copy_params(netlink.NFQNL_COPY_PACKET, 65531))
    length, kind, flags, sequence, port = struct.unpack_from("=IHHII", message)
    assert (length, kind, flags, sequence, port) == (
        len(message),
        0x302,
        netlink.NLM_F_REQUEST | netlink.NLM_F_ACK,
        5,
        0,
    )
    assert message[16:20] == b"\0\0\1\2"
    assert message[24:29] == b"\0\0\xff\xfb\2"


def test_without_a_sequence_number_no_answer_is_asked_for() -> None:
    _, _, flags, *_ = struct.unpack_from("=IHHII", netlink.queue_config(0, 0, b""))
    assert flags == netlink.NLM_F_REQUEST


def answer(sequence: int, code: int) -> bytes:
    return struct.pack("=IHHIIi", 36, netlink.NLMSG_ERROR, 0, sequence, 0, -code) + bytes(16)


def test_an_answer_is_recognised_by_its_number() -> None:
    assert netlink.is_reply_to(answer(3, 0), 3)
    assert not netlink.is_reply_to(answer(2, 0), 3)


def test_a_refusal_is_an_error() -> None:
    with pytest.raises(PermissionError):
        netlink.is_reply_to(answer(3, errno.EPERM), 3)


def test_a_packet_is_not_an_answer() -> None:
    assert not netlink.is_reply_to(struct.pack("=IHHII", 16, 0x300, 0, 3, 0), 3)


def test_attributes_are_read_as_they_are_written() -> None:
    written = netlink.attribute(1, b"abc") + netlink.attribute(0x8000 | 2, b"") + netlink.attribute(3, b"12345678")
    assert list(netlink.attributes(written)) == [(1, b"abc"), (2, b""), (3, b"12345678")]


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\1\0", b"\3\0\1\0abcd"])
def test_broken_attributes_end(data: bytes) -> None:
    assert list(netlink.attributes(data)) == []


def test_the_kinds_of_messages() -> None:
    messages = b"".join(
        struct.pack("=IHHII", 16 + size, kind, 0, 0, 0) + bytes(size + -size % 4) for kind, size in ((5, 0), (6, 3))
    )
    assert list(netlink.kinds(messages)) == [5, 6]
    assert list(netlink.kinds(struct.pack("=IHHII", 0, 7, 0, 0, 0))) == [7], "a length that cannot be"


def test_a_counter_that_is_not_there() -> None:
    assert netlink.nft_counter("no such table", "none") == 0

"""Messages byte by byte, as linux/netfilter/nfnetlink_queue.h lays them out."""

import struct

import pytest

from conntrackd_py.const import NF_ACCEPT, NF_DROP, NF_QUEUE, NF_REPEAT, POST_ROUTING
from conntrackd_py.kernel.queues import packet_message as m
from conntrackd_py.kernel.queues.packet_message import (
    BEGINNING,
    OTHER,
    TRUNCATED,
    WHOLE,
    PacketMessage,
    VerdictMessages,
)
from tests.support.queued import attribute, queued

PAYLOAD = b"\x45" + bytes(range(40))
ID = b"\0\0\1\2"


def read(data: bytes, at: int = 0) -> tuple[int, PacketMessage]:
    message = PacketMessage()
    return message.read(data, at, len(data) - at, len(data) - at), message


def test_every_field_of_a_packet() -> None:
    data = queued(258, POST_ROUTING, PAYLOAD, mark=0xFFFFFF00, indev=3, outdev=0x01020304, skb_info=3)
    kind, message = read(data)
    assert kind == WHOLE
    assert (message.id, message.hook, message.mark) == (ID, POST_ROUTING, 0xFFFFFF00)
    assert (message.indev, message.outdev, message.skb_info) == (3, 0x01020304, 3)
    assert data[message.payload_at : message.payload_end] == PAYLOAD


def test_what_the_kernel_leaves_out_is_0_also_after_a_packet_that_had_it() -> None:
    message = PacketMessage()
    full = queued(258, POST_ROUTING, PAYLOAD, mark=7, indev=3, outdev=4, skb_info=3)
    assert message.read(full, 0, len(full), len(full)) == WHOLE
    bare = queued(3, 0, b"E")
    assert message.read(bare, 0, len(bare), len(bare)) == WHOLE
    assert (message.id, message.hook) == (b"\0\0\0\3", 0)
    assert (message.mark, message.indev, message.outdev, message.skb_info) == (0, 0, 0, 0)


def test_it_may_stand_anywhere_and_its_payload_may_lie_beyond_the_bytes_held() -> None:
    data = queued(258, POST_ROUTING, bytes(5000))
    message = PacketMessage()
    assert message.read(b"x" * 512 + data[:512], 512, 512, len(data)) == WHOLE
    assert message.payload_end - message.payload_at == 5000
    assert 512 < message.payload_at < 1024 < message.payload_end


def test_the_beginning_of_a_packet() -> None:
    kind, message = read(queued(258, 0, PAYLOAD, cap_len=70000))
    assert kind == BEGINNING
    assert message.id == ID
    assert message.payload_end - message.payload_at == len(PAYLOAD)


@pytest.mark.parametrize(
    "data",
    [
        queued(258, 0, PAYLOAD)[:-4],
        queued(258, 0, b""),
        queued(258, 0, None),
    ],
    ids=["cut", "empty", "without payload"],
)
def test_a_packet_that_is_not_whole_has_its_id(data: bytes) -> None:
    kind, message = read(data)
    assert kind == TRUNCATED
    assert message.id == ID


@pytest.mark.parametrize(
    "data",
    [
        b"",
        queued(258, 0, PAYLOAD)[:19],
        queued(258, 0, PAYLOAD)[:32][:-5],
        struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -2) + bytes(16),
        struct.pack("=IHHII", 20, m.VERDICT_TYPE, 0, 0, 0) + bytes(4) + attribute(m.NFQA_PACKET_HDR, bytes(7)),
        struct.pack("=IHHII", 20, m.PACKET_TYPE, 0, 0, 0) + bytes(4) + attribute(m.NFQA_PACKET_HDR, bytes(6)),
        struct.pack("=IHHII", 20, m.PACKET_TYPE, 0, 0, 0) + bytes(4) + bytes(40),
    ],
    ids=["nothing", "short header", "cut id", "error", "other type", "short packet header", "length 0"],
)
def test_other_messages(data: bytes) -> None:
    assert read(data)[0] == OTHER


def test_it_reads_nothing_outside_the_bytes_it_was_given() -> None:
    data = queued(258, 0, PAYLOAD)
    assert PacketMessage().read(data, 4, len(data), len(data)) == OTHER
    assert PacketMessage().read(data, 0, len(data) + 1, len(data) + 1) == OTHER


def unpacked(verdict: bytes) -> tuple[int, ...]:
    """length, type, flags, sequence, port, queue, verdict, id."""
    length, kind, flags, sequence, port = struct.unpack_from("=IHHII", verdict)
    _, _, queue = struct.unpack_from(">BBH", verdict, 16)
    assert struct.unpack_from("=HH", verdict, 20) == (12, m.NFQA_VERDICT_HDR)
    return (length, kind, flags, sequence, port, queue, *struct.unpack_from(">II", verdict, 24))


@pytest.mark.parametrize("verdict", [NF_ACCEPT, NF_DROP])
def test_a_plain_verdict(verdict: int) -> None:
    made = VerdictMessages(65535).plain(ID, verdict)
    assert len(made) == m.VERDICT_SIZE
    assert unpacked(made) == (32, 0x301, 1, 0, 0, 65535, verdict, 258)
    assert made[m.ID_AT :] == ID


def test_a_packet_that_passes_its_chain_again_or_goes_to_another_queue() -> None:
    up_to = VerdictMessages(3, m.VERDICT_BATCH_TYPE)
    assert unpacked(up_to.repeated(ID)) == (32, 0x303, 1, 0, 0, 3, NF_REPEAT, 258)
    assert unpacked(VerdictMessages(3).queued(ID, 7)) == (32, 0x301, 1, 0, 0, 3, 7 << 16 | NF_QUEUE, 258)


def test_a_verdict_with_a_mark() -> None:
    made = VerdictMessages(3).marked(ID, 0xABC00)
    assert len(made) == m.VERDICT_SIZE + m.MARK_SIZE
    assert unpacked(made) == (40, 0x301, 1, 0, 0, 3, NF_ACCEPT, 258)
    assert made[32:] == attribute(m.NFQA_MARK, b"\x00\x0a\xbc\x00")


@pytest.mark.parametrize("size", [20, 21, 22, 23, 65531])
def test_a_verdict_with_a_payload(size: int) -> None:
    head = VerdictMessages(3).rewritten(ID, 5, size)
    padded = -size % 4
    assert unpacked(head) == (44 + size + padded, 0x301, 1, 0, 0, 3, NF_ACCEPT, 258)
    assert head[32:40] == attribute(m.NFQA_MARK, b"\0\0\0\5")
    assert head[40:] == struct.pack("=HH", 4 + size, m.NFQA_PAYLOAD)

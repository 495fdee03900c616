"""Messages of a queue, whole, cut or random: reading raises nothing and never gives another packet."""

from hypothesis import assume, given
from hypothesis import strategies as st

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT
from conntrackd_py.kernel.queues.batch import HEAD, Batch
from conntrackd_py.kernel.queues.packet_message import OTHER, TRUNCATED, WHOLE, PacketMessage
from tests.support.queued import attribute, message, queued, verdicts_in

U32 = st.integers(0, 0xFFFFFFFF)
PAYLOADS = st.binary(min_size=1, max_size=3000)
ATTRIBUTES = st.lists(st.tuples(st.integers(0, 30), st.binary(max_size=40)), max_size=8)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    return queued(
        draw(U32), draw(st.integers(0, 4)), draw(PAYLOADS), mark=draw(U32), indev=draw(U32), outdev=draw(U32),
        skb_info=draw(U32),
    )  # fmt: skip


@st.composite
def odd_messages(draw: st.DrawFn) -> bytes:
    """Any attributes in any order; some bytes changed; the end cut off."""
    made = bytearray(message(b"".join(attribute(kind, value) for kind, value in draw(ATTRIBUTES))))
    if draw(st.booleans()):
        made = bytearray(draw(packets()))
    for at, value in draw(st.lists(st.tuples(st.integers(6, 80), st.integers(0, 255)), max_size=4)):
        if at < len(made):
            made[at] = value
    return bytes(made[: draw(st.integers(0, len(made)))]) if draw(st.booleans()) else bytes(made)


@given(U32, st.integers(0, 4), PAYLOADS, U32, U32, U32, U32)
def test_what_is_written_is_read(
    packet: int, hook: int, payload: bytes, mark: int, indev: int, out: int, i: int
) -> None:
    data = queued(packet, hook, payload, mark=mark, indev=indev, outdev=out, skb_info=i)
    read = PacketMessage()
    assert read.read(data, 0, len(data), len(data)) == WHOLE
    assert (read.id, read.hook, read.mark) == (packet.to_bytes(4, "big"), hook, mark)
    assert (read.indev, read.outdev, read.skb_info) == (indev, out, i)
    assert data[read.payload_at : read.payload_end] == payload


@given(packets(), st.data())
def test_a_packet_that_is_cut_is_never_whole(whole: bytes, data: st.DataObject) -> None:
    padding = len(whole) - payload_end(whole)
    cut = whole[: data.draw(st.integers(0, len(whole) - padding - 1))]
    assert PacketMessage().read(cut, 0, len(cut), len(cut)) in (OTHER, TRUNCATED)


def payload_end(whole: bytes) -> int:
    read = PacketMessage()
    assert read.read(whole, 0, len(whole), len(whole)) == WHOLE
    return read.payload_end


@given(st.one_of(odd_messages(), st.binary(max_size=200)), st.integers(0, 3))
def test_any_message_reads_without_an_exception_and_inside_its_bytes(odd: bytes, before: int) -> None:
    read = PacketMessage()
    found = read.read(bytes(before) + odd, before, len(odd), len(odd))
    assert found in (OTHER, WHOLE, TRUNCATED)
    assert (found != OTHER) == (len(read.id) == 4)
    assert (found == WHOLE) <= (before < read.payload_at < read.payload_end <= before + len(odd))


@given(st.lists(odd_messages(), min_size=1, max_size=8))
def test_every_packet_of_a_batch_gets_one_verdict_in_order(messages: list[bytes]) -> None:
    ids = []
    for each in messages:
        read = PacketMessage()
        if read.read(each[:HEAD], 0, min(len(each), HEAD), len(each)) != OTHER:
            ids.append(int.from_bytes(read.id))
    assume(len(set(ids)) == len(ids))
    batch = Batch(0, rewrite_some, lambda error: NF_ACCEPT, lambda: 0, lambda span: None)
    heads = b"".join(each[:HEAD].ljust(HEAD, b"\0") for each in messages)
    tails = [memoryview(each[HEAD:]) for each in messages]
    lengths = [len(each) for each in messages]
    assert batch.visit(heads, tails, lengths, 0, 0) == len(messages)
    assert [verdict.packet for verdict in verdicts_in(b"".join(batch.verdicts), ids.copy())] == ids


def rewrite_some(skb: Skb, hook: int, now: int) -> int:
    if skb.mark & 1:
        skb.data += b"more"
    if skb.mark & 2:
        skb.mark = 5
    if skb.mark & 4:
        raise ValueError
    return NF_ACCEPT

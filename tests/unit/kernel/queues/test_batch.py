"""One turn of packets: exactly one verdict each, in their order, whatever happens on the way."""

import sys
from collections.abc import Callable
from itertools import count

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import LOCAL_OUT, NF_ACCEPT, NF_DROP, NF_QUEUE, POST_ROUTING
from conntrackd_py.kernel.queues.batch import HEAD, MOST_BYTES, SAMPLE_EVERY, Batch, Handle
from conntrackd_py.kernel.queues.verdict_sender import each
from tests.support.queued import PACKET, Verdict, message, queued, verdicts_in

SMALL = b"E" + bytes(59)
LARGE = b"E" + bytes(range(250)) * 200
ODD = LARGE + b"odd"


def accept(skb: Skb, hook: int, now: int) -> int:
    return NF_ACCEPT


def failed(error: Exception) -> int:
    return NF_DROP


def batch_of(handle: Handle, on_error: Callable[[Exception], int] = failed) -> Batch:
    return Batch(3, handle, on_error, lambda: 0, lambda span: None)


def turns(batch: Batch, messages: list[bytes]) -> list[list[Verdict]]:
    """The verdicts of each send."""
    heads = b"".join(each[:HEAD].ljust(HEAD, b"\xff") for each in messages)
    tails = [memoryview(each[HEAD:] + b"\xff" * 9) for each in messages]
    waiting = [id_of(each) for each in messages if each[4:6] == PACKET.to_bytes(2, sys.byteorder)]
    at, sends = 0, []
    while at < len(messages):
        at = batch.visit(heads, tails, [len(each) for each in messages], at, 5)
        made = b"".join(batch.verdicts)
        assert batch.size <= len(made) <= batch.size + 3 * len(messages)
        sends.append(verdicts_in(made, waiting))
    assert waiting == []
    return sends


def id_of(data: bytes) -> int:
    return int.from_bytes(data[24:28])


def verdicts(handle: Handle, messages: list[bytes]) -> list[Verdict]:
    return [verdict for send in turns(batch_of(handle), messages) for verdict in send]


@pytest.mark.parametrize("payload", [SMALL, LARGE, ODD, b"E" * (HEAD - 48), b"E" * (HEAD - 47)])
def test_the_engine_sees_the_packet_as_it_is(payload: bytes) -> None:
    seen = []

    def look(skb: Skb, hook: int, now: int) -> int:
        seen.append((skb.data, skb.mark, skb.indev, skb.outdev, hook, now, skb.segments, skb.checksum_partial))
        return NF_ACCEPT

    made = verdicts(look, [queued(1, POST_ROUTING, payload, mark=7, indev=2, outdev=3), queued(2, LOCAL_OUT, payload)])
    assert made == [Verdict(1, NF_ACCEPT), Verdict(2, NF_ACCEPT)]
    assert seen == [(payload, 7, 2, 3, POST_ROUTING, 5, False, False), (payload, 0, 0, 0, LOCAL_OUT, 5, False, False)]


@pytest.mark.parametrize(
    ("info", "segments", "partial"),
    [(0, False, False), (1, False, True), (2, True, True), (3, True, True), (4, False, False)],
)
def test_super_packets_and_checksums_that_are_not_ready(info: int, segments: bool, partial: bool) -> None:
    seen = []

    def look(skb: Skb, hook: int, now: int) -> int:
        seen.append((skb.segments, skb.checksum_partial))
        return NF_ACCEPT

    verdicts(look, [queued(1, 0, LARGE, skb_info=info)])
    assert seen == [(segments, partial)]


@pytest.mark.parametrize("payload", [SMALL, LARGE, ODD])
def test_what_changed_goes_back(payload: bytes) -> None:
    def change(skb: Skb, hook: int, now: int) -> int:
        if hook == POST_ROUTING:
            skb.data = b"new" + skb.data
        elif hook == LOCAL_OUT:
            skb.mark = 0x80000001
        return NF_ACCEPT

    made = verdicts(change, [queued(9, hook, payload, mark=7) for hook in (POST_ROUTING, LOCAL_OUT, 0)])
    assert made == [
        Verdict(9, NF_ACCEPT, 7, b"new" + payload),
        Verdict(9, NF_ACCEPT, 0x80000001),
        Verdict(9, NF_ACCEPT),
    ]


def test_a_dropped_packet_takes_nothing_back() -> None:
    def drop(skb: Skb, hook: int, now: int) -> int:
        skb.data, skb.mark = b"new", 9
        return NF_DROP

    assert verdicts(drop, [queued(1, 0, SMALL)]) == [Verdict(1, NF_DROP)]


@pytest.mark.parametrize("on_error", [NF_DROP, NF_ACCEPT])
def test_an_exception_in_the_middle_leaves_every_packet_its_verdict(on_error: int) -> None:
    errors = []

    def fail(skb: Skb, hook: int, now: int) -> int:
        skb.data, skb.mark = b"half done", 9
        if hook == LOCAL_OUT:
            raise ValueError("a mistake of ours")
        return NF_ACCEPT

    def count_it(error: Exception) -> int:
        errors.append(error)
        return on_error

    messages = [queued(number, LOCAL_OUT if number % 3 == 1 else 0, SMALL) for number in range(32)]
    (made,) = turns(batch_of(fail, count_it), messages)
    assert [verdict.packet for verdict in made] == list(range(32))
    assert made[1::3] == [Verdict(number, on_error) for number in range(1, 32, 3)]
    assert made[::3] == [Verdict(number, NF_ACCEPT, 9, b"half done") for number in range(0, 32, 3)]
    assert len(errors) == len(made[1::3])


@pytest.mark.parametrize("mark", [-1, 1 << 32, 1 << 80])
def test_an_impossible_mark_is_an_exception_of_ours(mark: int) -> None:
    def set_mark(skb: Skb, hook: int, now: int) -> int:
        skb.mark = mark
        if hook == POST_ROUTING:
            skb.data = b"new"
        return NF_ACCEPT

    assert verdicts(set_mark, [queued(1, 0, SMALL), queued(2, POST_ROUTING, SMALL)]) == [
        Verdict(1, NF_DROP),
        Verdict(2, NF_DROP),
    ]


def test_a_payload_that_no_message_holds_is_an_exception_of_ours() -> None:
    def grow(skb: Skb, hook: int, now: int) -> int:
        skb.data = bytes(65532)
        return NF_ACCEPT

    assert verdicts(grow, [queued(1, 0, SMALL)]) == [Verdict(1, NF_DROP)]


def test_an_incomplete_packet_is_dropped_and_counted_and_other_messages_are_none() -> None:
    batch = batch_of(accept)
    messages = [queued(1, 0, SMALL), queued(2, 0, SMALL)[:-1], message(b"", kind=2), queued(3, 0, SMALL, cap_len=70000)]
    assert turns(batch, messages) == [[Verdict(1, NF_ACCEPT), Verdict(2, NF_DROP), Verdict(3, NF_DROP)]]
    assert batch.truncated == 2


def test_equal_verdicts_in_a_row_are_one_message() -> None:
    def by_length(skb: Skb, hook: int, now: int) -> int:
        if hook == LOCAL_OUT:
            raise ValueError("a mistake of ours")
        if hook == POST_ROUTING:
            skb.data = b"new"
        skb.mark = len(skb.data)
        return NF_DROP if len(skb.data) == 2 else NF_ACCEPT

    def queue_of(*packets: tuple[int, bytes]) -> list[bytes]:
        return [queued(at, hook, payload, mark=1) for at, (hook, payload) in enumerate(packets)]

    def messages_for(*packets: tuple[int, bytes]) -> int:
        messages = queue_of(*packets)
        batch = batch_of(by_length)
        (made,) = turns(batch, messages)
        assert [verdict.packet for verdict in made] == list(range(len(packets)))
        return len(list(each(b"".join(batch.verdicts))))

    plain, dropped, marked = (0, b"E"), (0, b"EE"), (0, b"EEE")
    failing, rewritten = (LOCAL_OUT, b"E"), (POST_ROUTING, b"E")
    assert messages_for(*[plain] * 32) == 1
    assert messages_for(*[marked] * 32) == 1
    assert messages_for(*[dropped] * 3, *[plain] * 3, *[marked] * 3) == 3
    assert messages_for(marked, (0, b"EEEE"), marked) == 3
    assert messages_for(*[rewritten] * 3) == 3
    assert messages_for(plain, rewritten, plain, plain) == 3
    assert messages_for(dropped, failing, dropped, dropped) == 2
    assert messages_for(plain, failing, plain) == 3


def test_large_packets_are_sent_in_several_turns() -> None:
    def rewrite(skb: Skb, hook: int, now: int) -> int:
        skb.data = skb.data[::-1]
        return NF_ACCEPT

    sends = turns(batch_of(rewrite), [queued(number, 0, LARGE) for number in range(10)])
    assert [verdict for send in sends for verdict in send] == [
        Verdict(number, NF_ACCEPT, 0, LARGE[::-1]) for number in range(10)
    ]
    assert [len(send) for send in sends] == [MOST_BYTES // len(LARGE) + 1] * 5


def test_one_visit_in_512_is_timed() -> None:
    ticks = count(100)
    spans: list[int] = []
    batch = Batch(3, accept, failed, lambda: next(ticks), spans.append)
    for _ in range(3):
        for number in range(0, SAMPLE_EVERY, 32):
            turns(batch, [queued(number + at, 0, SMALL) for at in range(32)])
    assert spans == [1, 1, 1]


def headers_batch(handle: Handle) -> Batch:
    return Batch(3, accept, failed, lambda: 0, lambda span: None, handle, 7)


def test_a_queue_of_headers_shows_the_beginning_and_whether_its_checksum_was_verified() -> None:
    seen = []

    def look(skb: Skb, hook: int, now: int) -> int:
        seen.append((skb.data, skb.checksum_verified))
        return NF_ACCEPT

    begun = [queued(1, 0, SMALL, cap_len=9000), queued(2, 0, SMALL, cap_len=9000, skb_info=4)]
    made = [verdict for send in turns(headers_batch(look), begun) for verdict in send]
    assert made == [Verdict(1, NF_ACCEPT), Verdict(2, NF_ACCEPT)]
    assert seen == [(SMALL, True), (SMALL, False)]


def test_a_packet_goes_to_the_queue_for_whole_packets() -> None:
    batch = headers_batch(lambda skb, hook, now: NF_QUEUE)
    begun = [queued(1, 0, SMALL, cap_len=9000), queued(2, 0, SMALL, cap_len=9000)]
    made = [verdict for send in turns(batch, begun) for verdict in send]
    assert made == [Verdict(1, 7 << 16 | NF_QUEUE), Verdict(2, 7 << 16 | NF_QUEUE)]


def test_a_changed_beginning_is_never_sent_back() -> None:
    errors = []

    def change(skb: Skb, hook: int, now: int) -> int:
        skb.copy = True
        skb.data = skb.data[:-1]
        return NF_ACCEPT

    def note(error: Exception) -> int:
        errors.append(error)
        return NF_DROP

    batch = Batch(3, accept, note, lambda: 0, lambda span: None, change, 7)
    assert turns(batch, [queued(1, 0, SMALL, cap_len=9000)]) == [[Verdict(1, NF_DROP)]]
    assert len(errors) == 1

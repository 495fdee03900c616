"""The window rules against a slow model that counts without wrapping, at the exact bounds of each rule."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import ORIGINAL, REPLY
from conntrackd_py.proto import tcp_window as window
from conntrackd_py.proto.tcp_states import (
    KIND_NONE,
    TCP_CONNTRACK_ESTABLISHED,
    TCP_CONNTRACK_SYN_RECV,
    TCP_CONNTRACK_SYN_SENT,
)
from conntrackd_py.proto.tcp_window import NFCT_TCP_ACCEPT as ACCEPT
from conntrackd_py.proto.tcp_window import NFCT_TCP_IGNORE as IGNORE
from conntrackd_py.proto.tcp_window import NFCT_TCP_INVALID as INVALID
from conntrackd_py.proto.tcp_window import Segment, Side, TcpInfo, after, before
from conntrackd_py.reasons import OK, TCP_ACK_OVER, TCP_ACK_UNDER, TCP_MORE_THAN_WINDOW, TCP_SEQ_OVER, TCP_SEQ_UNDER
from conntrackd_py.wire import ip
from tests.support import packets
from tests.support.examples import examples

M32 = 0xFFFFFFFF
U32 = st.integers(0, M32)
NEAR = st.integers(-2, 2)


@given(U32, st.integers(-0x7FFFFFFF, 0x7FFFFFFF))
def test_before_and_after_go_round_the_circle(a: int, distance: int) -> None:
    b = (a + distance) & M32
    assert before(a, b) == after(b, a) == (distance > 0)
    assert before(b, a) == after(a, b) == (distance < 0)


def test_opposite_points_are_before_each_other() -> None:
    """As the kernel's signed difference; no window is that large."""
    assert before(0, 0x80000000)
    assert before(0x80000000, 0)


# --- the model ------------------------------------------------------------------------------------------


@dataclass
class End:
    """One side, in numbers that do not wrap."""

    end: int
    maxend: int
    maxwin: int
    maxack: int | None = None
    unacknowledged: bool = False


@dataclass
class Said:
    seq: int
    length: int
    ack: int
    sack: int
    window: int

    @property
    def end(self) -> int:
        return self.seq + self.length


def judged(sender: End, receiver: End, said: Said) -> int:
    """Rules I to IV as in the module's docstring, without a modulus; updates both ends when all hold."""
    not_old = not receiver.maxwin or said.end > sender.end - receiver.maxwin - 1
    ack_not_old = said.sack > receiver.end - max(sender.maxwin, 66000) - 1
    ack_not_early = said.sack < receiver.end + 1
    if said.seq >= sender.maxend + 1:
        overshoot = said.end - sender.maxend + 1
        if receiver.maxwin and not_old and ack_not_old and ack_not_early and overshoot <= receiver.maxwin:
            sender.end, sender.unacknowledged = said.end, True
            return TCP_MORE_THAN_WINDOW
        return TCP_SEQ_OVER
    if not ack_not_early:
        return TCP_ACK_OVER
    if not not_old:
        return TCP_SEQ_UNDER
    if not ack_not_old:
        return TCP_ACK_UNDER
    learn(sender, receiver, said)
    return OK


def learn(sender: End, receiver: End, said: Said) -> None:
    sender.maxwin = max(sender.maxwin, said.window + said.sack - said.ack)
    if said.end > sender.end:
        sender.end, sender.unacknowledged = said.end, True
    sender.maxack = said.ack if sender.maxack is None else max(sender.maxack, said.ack)
    if receiver.maxwin and said.end > sender.maxend:
        receiver.maxwin += said.end - sender.maxend
    if said.sack + said.window > receiver.maxend - 1:
        receiver.maxend = said.sack + said.window + (said.window == 0)
    if said.ack == receiver.end:
        receiver.unacknowledged = False


@st.composite
def situations(draw: st.DrawFn) -> tuple[End, End, Said]:
    """Two ends in mid-connection, and a segment near the bound of one rule, at any sequence number."""
    origins = draw(st.integers(1 << 33, 1 << 34)), draw(st.integers(1 << 33, 1 << 34))
    ends = [
        End(o, o + draw(st.integers(0, 200_000)), draw(st.sampled_from([1, 1000, 65535, 200_000, 1 << 29])))
        for o in origins
    ]
    sender, receiver = ends
    receiver.maxwin = draw(st.sampled_from([0, receiver.maxwin, receiver.maxwin]))
    for end in ends:
        end.maxack = draw(st.sampled_from([None, origins[1 - ends.index(end)] - draw(st.integers(0, 1000))]))
        end.unacknowledged = draw(st.booleans())
    length = draw(st.sampled_from([0, 1, 20, 1460]))
    bounds = [sender.maxend, sender.maxend + receiver.maxwin - length, sender.end - receiver.maxwin - 1 - length]
    seq = draw(NEAR) + draw(st.sampled_from([sender.end, *bounds]))
    sack = draw(NEAR) + draw(st.sampled_from([receiver.end, receiver.end - max(sender.maxwin, 66000)]))
    ack = sack - draw(st.sampled_from([0, 0, 1, 5000]))
    return sender, receiver, Said(seq, length, ack, sack, draw(st.sampled_from([0, 1, 1000, 65535])))


def side_of(end: End) -> Side:
    side = Side()
    side.end, side.maxend, side.maxwin = end.end & M32, end.maxend & M32, end.maxwin
    side.flags = window.SACK_PERM | (window.UNACKNOWLEDGED if end.unacknowledged else 0)
    if end.maxack is not None:
        side.flags |= window.MAXACK_SET
        side.maxack = end.maxack & M32
    return side


def same(side: Side, end: End) -> bool:
    return (
        (side.end, side.maxend, side.maxwin) == (end.end & M32, end.maxend & M32, end.maxwin)
        and bool(side.flags & window.UNACKNOWLEDGED) == end.unacknowledged
        and bool(side.flags & window.MAXACK_SET) == (end.maxack is not None)
        and (end.maxack is None or side.maxack == end.maxack & M32)
    )


def sides(info: TcpInfo) -> tuple[Side, Side]:
    """Copies of both, by direction."""
    original, reply = Side(), Side()
    info.load(ORIGINAL, original, reply)
    return original, reply


def segment_of(flags: str, direction: int = ORIGINAL, **fields: object) -> Segment:
    skb = Skb(packets.tcp("192.0.2.1", "192.0.2.2", 1, 2, flags, **fields))  # type: ignore[arg-type]
    assert ip.parse(skb) == OK
    return Segment(skb, direction)


def judge(
    info: TcpInfo,
    flags: str,
    direction: int = ORIGINAL,
    state: int = TCP_CONNTRACK_ESTABLISHED,
    liberal: bool = False,
    **fields: object,
) -> tuple[int, int]:
    segment = segment_of(flags, direction, **fields)
    sender, receiver = Side(), Side()
    info.load(direction, sender, receiver)
    action = window.in_window(info, sender, receiver, segment, state, liberal)
    info.save(direction, sender, receiver)
    return action, segment.packet.reason


@settings(max_examples=examples(600))
@given(situations(), st.sampled_from([ORIGINAL, REPLY]))
def test_the_rules_at_their_bounds(situation: tuple[End, End, Said], direction: int) -> None:
    sender, receiver, said = situation
    info = TcpInfo()
    info.save(direction, side_of(sender), side_of(receiver))
    options = packets.sack((said.ack, said.sack)) if said.sack != said.ack else b""
    seen = judge(
        info,
        "A",
        direction,
        seq=said.seq,
        ack=said.ack,
        window=said.window,
        data=b"x" * said.length,
        options=options,
    )
    reason = judged(sender, receiver, said)
    verdict = ACCEPT if reason == OK else INVALID if reason in (TCP_SEQ_OVER, TCP_ACK_OVER) else IGNORE
    assert seen == (verdict, reason)
    assert same(sides(info)[direction], sender)
    assert same(sides(info)[1 - direction], receiver)


# --- beginnings, and the packets without numbers of their own ------------------------------------------------


def opened(client_options: bytes = b"", server_options: bytes = b"") -> TcpInfo:
    """After SYN and SYN+ACK: client at 101, server at 901."""
    info = TcpInfo()
    segment = segment_of("S", seq=100, options=client_options)
    client = Side()
    window.open_side(client, segment)
    info.save(ORIGINAL, client, Side())
    assert judge(info, "SA", REPLY, TCP_CONNTRACK_SYN_SENT, seq=900, ack=101, options=server_options) == (
        ACCEPT,
        OK,
    )
    return info


def test_a_handshake_opens_both_sides() -> None:
    client, server = sides(opened())
    assert (client.end, client.maxend, client.maxwin) == (101, 101 + 65535, 65535)
    assert (server.end, server.maxend, server.maxwin) == (901, 901, 65535)


def test_scales_count_only_if_both_ends_offer_one() -> None:
    """RFC 7323 2.2."""
    scale = packets.window_scale(7)
    assert [side.scale for side in sides(opened(scale, scale))] == [7, 7]
    assert [side.scale for side in sides(opened(scale))] == [0, 0]
    assert [side.scale for side in sides(opened(b"", scale))] == [0, 0]


def test_a_window_is_scaled_but_never_that_of_a_syn() -> None:
    scale = packets.window_scale(7)
    info = opened(scale, scale)
    assert judge(info, "A", seq=101, ack=901, window=1000) == (ACCEPT, OK)
    assert sides(info)[ORIGINAL].maxwin == 128_000
    assert sides(info)[REPLY].maxend == 901 + 128_000
    assert sides(info)[REPLY].maxwin == 65535


def test_a_repeated_syn_with_a_later_number_opens_again() -> None:
    info = opened()
    assert judge(info, "S", ORIGINAL, TCP_CONNTRACK_SYN_SENT, seq=5000) == (ACCEPT, OK)
    assert sides(info)[ORIGINAL].end == 5001


def test_a_syn_from_the_other_side_is_a_simultaneous_open() -> None:
    info = TcpInfo()
    segment = segment_of("S", seq=100)
    client = Side()
    window.open_side(client, segment)
    info.save(ORIGINAL, client, Side())
    assert judge(info, "S", REPLY, TCP_CONNTRACK_SYN_SENT, seq=900) == (ACCEPT, OK)
    assert sides(info)[REPLY].end == 901


def test_first_sight_in_mid_stream_believes_the_packet() -> None:
    info = TcpInfo()
    assert judge(info, "A", seq=1000, ack=5000, window=300, data=b"x" * 20) == (ACCEPT, OK)
    sender, receiver = sides(info)
    assert (sender.end, sender.maxend, sender.maxwin) == (1020, 1320, 300)
    assert (receiver.end, receiver.maxwin) == (5000, 0)


def test_the_answer_to_a_keepalive_picked_up() -> None:
    """The keepalive repeats a byte sent before the pick-up; its answer acknowledges one more."""
    info = TcpInfo()
    client = Side()
    client.end, client.maxend, client.maxwin = 999, 1500, 500
    info.save(ORIGINAL, client, Side())
    assert judge(info, "A", REPLY, seq=5000, ack=1000) == (ACCEPT, OK)
    assert sides(info)[ORIGINAL].end == 1000


def test_a_window_of_zero_counts_as_one() -> None:
    info = TcpInfo()
    judge(info, "A", seq=1000, ack=5000, window=0)
    assert sides(info)[ORIGINAL].maxwin == 1


@pytest.mark.parametrize("flags", ["R", "RA"])
def test_a_rst_that_acknowledges_nothing_is_judged_by_its_sequence(flags: str) -> None:
    info = opened()
    judge(info, "A", seq=101, ack=901)
    assert judge(info, flags, REPLY, seq=901, ack=0) == (ACCEPT, OK)
    assert judge(info, flags, REPLY, seq=901 + 2 * 65535, ack=0) == (INVALID, TCP_SEQ_OVER)


def test_a_rst_that_answers_a_syn_has_no_sequence_of_its_own() -> None:
    for state, seen in (
        (TCP_CONNTRACK_SYN_SENT, (ACCEPT, OK)),
        (TCP_CONNTRACK_SYN_RECV, (IGNORE, TCP_SEQ_UNDER)),
    ):
        info = opened()
        client, server = sides(info)
        server.end = server.maxend = 500_000
        info.save(ORIGINAL, client, server)
        assert judge(info, "RA", REPLY, state, seq=0, ack=101) == seen


@pytest.mark.parametrize("side_is_liberal", [False, True], ids=["global", "picked up"])
@pytest.mark.parametrize("fields", [{"seq": 101, "ack": 90_000}, {"seq": 900_000, "ack": 901}])
def test_liberal_lets_all_pass_and_learns_nothing(side_is_liberal: bool, fields: dict[str, int]) -> None:
    info = opened()
    if side_is_liberal:
        client, server = sides(info)
        client.flags |= window.BE_LIBERAL
        info.save(ORIGINAL, client, server)
    before_it = [(side.end, side.maxend, side.maxwin, side.maxack) for side in sides(info)]
    assert judge(info, "A", liberal=not side_is_liberal, **fields) == (ACCEPT, OK)
    assert [(side.end, side.maxend, side.maxwin, side.maxack) for side in sides(info)] == before_it


def test_retransmissions_are_the_same_packet_again() -> None:
    info = opened()
    data = {"seq": 101, "ack": 901, "data": b"hello"}
    counts = []
    for fields in (data, data, data, {**data, "window": 9}, data, data, {"seq": 106, "ack": 901}):
        assert judge(info, "A", **fields)[0] == ACCEPT
        counts.append(info.retrans)
    assert counts == [0, 1, 2, 0, 0, 1, 0]


def test_a_syn_and_a_fin_count_one_each() -> None:
    for flags, length in (("A", 4), ("S", 5), ("FA", 5), ("SF", 6)):
        segment = segment_of(flags, seq=0xFFFFFFFE, data=b"data")
        assert segment.end == (0xFFFFFFFE + length) & M32


def test_padding_is_not_data() -> None:
    skb = Skb(packets.tcp("192.0.2.1", "192.0.2.2", 1, 2, "A", seq=10) + bytes(6))
    ip.parse(skb)
    assert Segment(skb, ORIGINAL).end == 10


def test_the_initial_values_of_tcp_info() -> None:
    """All zero, as the kernel clears ip_ct_tcp."""
    info = TcpInfo()
    seen = (info.retrans, info.last_seq, info.last_ack, info.last_end, info.last_win, info.last_scale, info.last_flags)
    assert (info.last_kind, info.last_direction, *seen) == (KIND_NONE, ORIGINAL, *[0] * 7)
    for side in sides(info):
        assert (side.end, side.maxend, side.maxwin, side.maxack, side.scale, side.flags) == (0, 0, 0, 0, 0, 0)


WORD = st.integers(0, M32) | st.sampled_from([0, 1, (1 << 31) - 1, 1 << 31, M32])


@given(st.lists(st.tuples(WORD, WORD, WORD, WORD, st.integers(0, 14), st.integers(0, 255)), min_size=2, max_size=2))
@pytest.mark.parametrize("direction", [ORIGINAL, REPLY])
def test_a_side_is_saved_whole(direction: int, numbers: list[tuple[int, ...]]) -> None:
    """All numbers of 32 bits, also where the compiled field is signed."""
    sender, receiver = Side(), Side()
    for side, values in zip((sender, receiver), numbers, strict=True):
        side.end, side.maxend, side.maxwin, side.maxack, side.scale, side.flags = values
    info = TcpInfo()
    info.save(direction, sender, receiver)
    assert info.flags() == sender.flags | receiver.flags
    loaded = sides(info) if direction == ORIGINAL else sides(info)[::-1]
    seen = [(side.end, side.maxend, side.maxwin, side.maxack, side.scale, side.flags) for side in loaded]
    assert seen == numbers


@given(WORD, WORD, st.integers(0, 65535))
def test_the_previous_packet_is_saved_whole(seq: int, ack: int, window_size: int) -> None:
    info = opened()
    client, server = sides(info)
    client.end = client.maxend = seq
    client.maxwin, client.flags = 65535, window.BE_LIBERAL
    server.end = server.maxend = ack
    info.save(ORIGINAL, client, server)
    assert judge(info, "A", seq=seq, ack=ack, window=window_size) == (ACCEPT, OK)
    assert (info.last_seq, info.last_ack, info.last_end, info.last_win) == (seq, ack, seq, window_size)

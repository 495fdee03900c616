"""Sentences: what each refusal reads like, with the numbers the trackers really give."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py import reasons as numbers_of_reasons
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, PRE_ROUTING
from conntrackd_py.control.view import refused_packet
from conntrackd_py.explain import sentences as reasons
from conntrackd_py.explain.hints import sentence
from conntrackd_py.reasons import (
    FILTER_DROP,
    FILTER_REJECT,
    INSERT_FAILED,
    INVALID_LIMIT,
    REASON_NAMES,
    TABLE_FULL,
    TCP_ACK_OVER,
    TCP_NOT_SYN,
    TCP_SEQ_UNDER,
)
from tests.support import packets
from tests.support.examples import examples
from tests.support.router import CLIENT, CLIENT6, SERVER, SERVER6, Router


def seen(data: bytes, router: Router | None = None) -> str:
    """The sentence about a packet that an established connection, 40000 to 80, and a UDP exchange precede."""
    router = router or Router()
    router.established()
    router.udp()
    assert router.engine.handle(Skb(data, indev=1), PRE_ROUTING, router.now) == NF_ACCEPT
    return "; ".join(sentence(note) for note in router.engine.diagnostics.recent.last(5))


def segment(flags: str, seq: int = 2, ack: int = 2, **more: int) -> bytes:
    return packets.tcp(CLIENT, SERVER, more.get("sport", 40000), 80, flags, seq=seq, ack=ack)


def fragment(data: bytes, field: int) -> bytes:
    return data[:6] + field.to_bytes(2, "big") + data[8:]


UDP = packets.udp(CLIENT, SERVER, 1, 2, b"text")
UDP6 = packets.udp(CLIENT6, SERVER6, 1, 2, b"text")
QUERY = packets.udp(CLIENT, SERVER, 5353, 53, b"hi")

SENTENCES = [
    (b"\x45" + bytes(3), "INVALID: the packet is cut off: 4 bytes of 20"),
    (UDP[:-1], "INVALID: the packet is cut off: 31 bytes of 32"),
    (UDP6[:-1], "INVALID: the packet is cut off: 51 bytes of 52"),
    (b"\x75" + UDP[1:], "INVALID: IP version 7, neither 4 nor 6"),
    (b"\x44" + UDP[1:], "INVALID: the IP header claims 16 bytes, 20 at least"),
    (
        packets.ip(CLIENT6, SERVER6, 59, b""),
        "INVALID: the IPv6 extension headers lead to number 59 at offset 40, in a packet of 40 bytes",
    ),
    (
        fragment(UDP, 185),
        "INVALID: a fragment at offset 1480 of packet 1: it was not reassembled before tracking",
    ),
    (packets.ip(CLIENT, SERVER, 6, bytes(8)), "INVALID: layer 4 has 8 bytes, its header or length field needs 20"),
    (
        packets.ip(CLIENT, SERVER, 17, UDP[20:24] + b"\0\x63" + UDP[26:]),
        "INVALID: layer 4 has 12 bytes, its header or length field needs 99",
    ),
    (segment("SF"), "INVALID: no TCP sends the flags [FS] together"),
    (segment("SA", sport=9), "INVALID: SYN+ACK cannot start a connection and belongs to none"),
    (segment("SA"), "INVALID: SYN+ACK in the original direction is not possible in ESTABLISHED"),
    (segment("S"), "IGNORED: SYN in the original direction while ESTABLISHED: accepted, the ends may know more"),
    (
        segment("A", seq=70002),
        "IGNORED: it ends at 70002, 4465 bytes beyond the end of the window 65537: accepted",
    ),
    (
        segment("A", seq=200000),
        "INVALID: SEQ 200000 is over the upper bound 65537 by 134463: "
        "more than the receiver's window of 65535 bytes allows",
    ),
    (
        segment("A", ack=102),
        "INVALID: ACK 102 is over the upper bound 2 by 100: it acknowledges data that was not sent",
    ),
    (
        segment("A", ack=2 - 66001 & 0xFFFFFFFF),
        "IGNORED: ACK 4294901297 is under the lower bound 4294901298 by 1: too old",
    ),
    (
        segment("A", seq=2 - 65536 & 0xFFFFFFFF),
        "IGNORED: it ends at 4294901762, under the lower bound 4294901763 by 1: "
        "retransmitted data, acknowledged long ago",
    ),
    (segment("R", seq=1), "INVALID: RST with SEQ 1, but its receiver has acknowledged up to 2: it is old, or forged"),
    (packets.icmp(CLIENT, SERVER, 42, 0), "INVALID: ICMP type 42 does not exist, the highest is 18"),
    (packets.ip(CLIENT, SERVER, 58, bytes(8)), "INVALID: ICMP type 0 of IPv6 in a packet of IPv4"),
    (packets.icmp(CLIENT, SERVER, 0, 0, 7), "INVALID: ICMP type 0 cannot start a connection and answers no query"),
    (
        packets.icmp(SERVER, CLIENT, 3, 3, 0, 0, UDP[:10]),
        "INVALID: the packet that it quotes cannot be read: the packet is cut off: 10 bytes of 20",
    ),
    (
        packets.icmp(SERVER, CLIENT, 3, 3, 0, 0, UDP6),
        "INVALID: the packet that it quotes cannot be read: IP version 6 in a packet of IP version 4",
    ),
    (
        packets.icmp(SERVER, CLIENT, 3, 3, 0, 0, UDP),
        "INVALID: the packet that it quotes belongs to no connection in the table",
    ),
    (
        packets.icmp(SERVER, "10.0.0.77", 3, 3, 0, 0, QUERY),
        "INVALID: it is addressed to 10.0.0.77, but the quoted packet came from 10.0.0.1",
    ),
    (
        packets.sctp(CLIENT, SERVER, 1, 2, 0, (6, b"")),
        "INVALID: ABORT cannot start an association and belongs to none",
    ),
    (packets.sctp(CLIENT, SERVER, 1, 2, 9, (1, bytes(16))), "INVALID: verification tag 0x9, 0x0 would be right"),
    (
        packets.sctp(CLIENT, SERVER, 1, 2, 0, (0, b"data"), (1, bytes(16))),
        "INVALID: INIT as chunk 2: it must be the only chunk",
    ),
    (
        packets.broken(packets.sctp(CLIENT, SERVER, 1, 2, 0, (1, bytes(16)))),
        "INVALID: checksum 0xb9412e69 is wrong, 0x143c7d38 would be right",
    ),
]


@pytest.mark.parametrize(("data", "words"), SENTENCES, ids=[words[:60] for _, words in SENTENCES])
def test_a_refused_packet_in_words(data: bytes, words: str) -> None:
    assert seen(data) == words


def test_a_wrong_checksum_and_the_right_one() -> None:
    right = int.from_bytes(UDP[26:28], "big")
    wrong = UDP[:26] + b"\x12\x34" + UDP[28:]
    assert seen(wrong) == f"INVALID: checksum 0x1234 is wrong, {right:#06x} would be right"


def test_dropped_after_it_was_refused() -> None:
    assert reasons.sentence(FILTER_DROP, (5101, 5001, 9), TCP_ACK_OVER) == (
        "DROPPED: a filter rule or policy drops it; "
        "it was INVALID: ACK 5101 is over the upper bound 5001 by 100: it acknowledges data that was not sent"
    )


def test_the_distance_goes_round_the_circle() -> None:
    assert reasons.why(TCP_ACK_OVER, (5, 0xFFFFFFFF, 0)).startswith("ACK 5 is over the upper bound 4294967295 by 6:")
    assert reasons.why(TCP_SEQ_UNDER, (0xFFFFFFFF, 5, 0)).startswith(
        "it ends at 4294967295, under the lower bound 5 by 6"
    )


def test_a_filter_rule_is_named() -> None:
    assert reasons.sentence(FILTER_DROP, (), rule="filter.rule[0]") == "DROPPED: the filter drops it: filter.rule[0]"
    assert reasons.sentence(FILTER_REJECT, (1, 2, 3), TCP_ACK_OVER, "default of filter in").startswith(
        "DROPPED: the filter rejects it: default of filter in; it was INVALID: ACK 1 is over the upper bound 2"
    )


def test_every_reason_reads_even_without_its_numbers() -> None:
    for reason, name in enumerate(REASON_NAMES):
        assert reasons.why(reason, ()) in (reasons.why(reason, ()), name)
        assert "{" not in reasons.why(reason, ())
    assert reasons.why(TCP_NOT_SYN, (2,)) == "only a SYN starts a connection, and this packet has none"


def test_the_three_outcomes() -> None:
    assert {reasons.outcome(reason) for reason in range(1, INVALID_LIMIT)} == {"INVALID"}
    assert {reasons.outcome(reason) for reason in range(INVALID_LIMIT, TABLE_FULL)} == {"IGNORED"}
    assert {reasons.outcome(reason) for reason in range(TABLE_FULL, len(REASON_NAMES))} == {"DROPPED"}
    assert reasons.outcome(numbers_of_reasons.OK) == ""
    assert reasons.outcome(INSERT_FAILED) == "DROPPED"


WHOLE = st.sampled_from([UDP, UDP6, QUERY, segment("A"), packets.icmp(SERVER, CLIENT, 3, 3, 0, 0, QUERY)])


@settings(max_examples=examples(300), deadline=None)
@given(WHOLE, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4), st.integers(0, 80))
def test_every_packet_has_a_sentence(data: bytes, changes: list[tuple[int, int]], length: int) -> None:
    broken = bytearray(data)
    for at, value in changes:
        broken[at % len(broken)] = value
    router = Router()
    router.established()
    router.engine.handle(Skb(bytes(broken[: length or None]), indev=1), PRE_ROUTING, router.now)
    for note in router.engine.diagnostics.recent.last(5):
        assert refused_packet(note, 0.0)["why"]

"""The ring of notes: bounded, in order, and a note stays what it was when things were noted."""

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, PRE_ROUTING
from conntrackd_py.explain.refusals import HEADER_KEPT, RecentRefusals, Refusal
from conntrackd_py.reasons import IP_VERSION, TCP_ACK_OVER
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router


def note(reason: int = IP_VERSION, data: bytes = b"\x70") -> Refusal:
    skb = Skb(data)
    skb.reason = reason
    return Refusal(skb, PRE_ROUTING, NF_ACCEPT, None, None, 5)


@given(st.integers(1, 8), st.integers(0, 30), st.integers(0, 40))
def test_the_newest_are_kept_oldest_first(limit: int, made: int, asked: int) -> None:
    recent = RecentRefusals(limit)
    for _ in range(made):
        recent.add(note())
    assert recent.total == made
    kept = list(range(max(made - limit, 0) + 1, made + 1))
    assert [n.sequence for n in recent.last(asked)] == (kept[-asked:] if asked else [])
    assert [n.sequence for n in recent.since(asked)] == [sequence for sequence in kept if sequence > asked]


def test_a_note_keeps_headers_and_not_what_people_say() -> None:
    data = packets.udp("fd00::1", "fd00::2", 1, 2, b"secret" * 100)
    kept = note(data=data)
    assert kept.header == data[:HEADER_KEPT]
    assert kept.length == len(data)


def test_a_note_is_a_snapshot() -> None:
    """The connection goes on, the note does not."""
    router = Router()
    ct = router.established()
    skb = Skb(packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=999))
    router.engine.handle(skb, PRE_ROUTING, router.now)
    router.forward(packets.tcp(CLIENT, SERVER, 40000, 80, "FA", seq=2, ack=2))
    (kept,) = router.engine.diagnostics.recent.last(10)
    assert (kept.reason, kept.numbers[:2]) == (TCP_ACK_OVER, (999, 2))
    assert (kept.id, kept.original, kept.state, kept.timeout) == (ct.id, ct.original, "ESTABLISHED", 432_000_000)
    assert ct.l4proto.state_names[ct.state] == "FIN_WAIT"


def test_a_refusal_without_a_connection_has_no_fields_of_one() -> None:
    skb = Skb(b"\x70", 0, 3, 4)
    skb.reason = IP_VERSION
    made = Refusal(skb, PRE_ROUTING, NF_ACCEPT, None, None, 5)
    assert (made.sequence, made.at, made.hook, made.verdict, made.indev, made.outdev) == (0, 5, PRE_ROUTING, 1, 3, 4)
    assert (made.original, made.id, made.status, made.timeout, made.state) == (b"", 0, 0, 0, "")
    assert (made.length, made.expired, made.numbers, made.cause) == (1, None, (), 0)

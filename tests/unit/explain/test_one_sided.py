"""The books about one-sided flows stay small. What counts as one: conversations/test_hints."""

from conntrackd_py.const import ORIGINAL
from conntrackd_py.explain.one_sided import OneSided
from conntrackd_py.proto.tcp_states import KIND_ACK, KIND_SYNACK, TCP_CONNTRACK_NONE, TCP_CONNTRACK_SYN_SENT


def test_each_flow_counts_once_as_long_as_it_is_remembered() -> None:
    books = OneSided(limit=2)
    for t in (b"a", b"b", b"a", b"c", b"a"):
        books.refused(t, (ORIGINAL, KIND_SYNACK, TCP_CONNTRACK_NONE), None, 0)
        assert len(books.known) <= 2
    assert books.flows == 4  # a, b, c, and a again, which c had pushed out


def test_an_acknowledgement_of_nothing_without_a_connection_says_nothing() -> None:
    books = OneSided()
    books.refused(b"a", (ORIGINAL, KIND_ACK, TCP_CONNTRACK_SYN_SENT), None, 0)
    assert books.flows == 0

"""Events are snapshots in a bounded queue, which counts the lost ones."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import EventQueue
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPCT_ASSURED,
    IPCT_DESTROY,
    IPCT_MARK,
    IPCT_NEW,
    IPCT_PROTOINFO,
    IPCT_RELATED,
    IPCT_REPLY,
    IPS_CONFIRMED,
    IPS_SEEN_REPLY,
    ORIGINAL,
)
from conntrackd_py.proto.generic import Generic


def connection() -> NfConn:
    ct = NfConn(b"", b"", Generic(Tunables()), 0)
    ct.status = IPS_CONFIRMED
    ct.timeout = 31_000
    return ct


def listening(limit: int = 10) -> EventQueue:
    events = EventQueue(limit)
    events.enabled = True
    return events


def test_an_event_is_a_snapshot() -> None:
    events = listening()
    ct = connection()
    events.report(IPCT_NEW, 1_000, ct)
    ct.status |= IPS_SEEN_REPLY
    ct.timeout, ct.state, ct.mark = 99_000, 3, 7
    ct.account(ORIGINAL, 100)
    (event,) = events.drain()
    assert (event.at, event.timeout, event.status, event.state, event.mark) == (1_000, 30_000, IPS_CONFIRMED, 0, 0)
    assert (event.packets_original, event.bytes_original) == (0, 0)
    assert event.conn is ct


@pytest.mark.parametrize(
    ("bits", "kind"),
    [
        (IPCT_NEW, "NEW"),
        (IPCT_RELATED, "NEW"),
        (IPCT_NEW | IPCT_REPLY | IPCT_PROTOINFO, "NEW"),
        (IPCT_REPLY, "UPDATE"),
        (IPCT_ASSURED | IPCT_MARK, "UPDATE"),
        (IPCT_DESTROY, "DESTROY"),
    ],
)
def test_its_kind_is_that_of_conntrack_e(bits: int, kind: str) -> None:
    events = listening()
    events.report(bits, 0, connection())
    assert events.drain()[0].kind == kind


def test_drain_returns_each_event_once_in_order() -> None:
    events = listening()
    for at in range(3):
        events.report(IPCT_NEW, at, connection())
    assert [event.at for event in events.drain()] == [0, 1, 2]
    assert events.drain() == []


def test_what_does_not_fit_is_counted_and_leaves_a_gap() -> None:
    events = listening(limit=3)
    for at in range(5):
        events.report(IPCT_NEW, at, connection())
    assert [event.sequence for event in events.drain()] == [1, 2, 3]
    assert events.lost == 2
    events.report(IPCT_NEW, 5, connection())
    assert [event.sequence for event in events.drain()] == [6]


def test_a_disabled_queue_takes_no_event() -> None:
    events = EventQueue()
    events.report(IPCT_NEW, 0, connection())
    assert events.drain() == []
    assert (events.sequence, events.lost) == (0, 0)

"""The feed of a standby: the newest record of each slot, and a bound."""

from conntrackd_py.conntrack.feed import ENDED, Feed
from conntrackd_py.conntrack.records import record
from tests.support.journals import attach
from tests.support.router import Router


def test_a_slot_is_in_it_once_with_its_newest_record() -> None:
    feed = Feed()
    for slot, data in ((1, b"a"), (2, b"b"), (1, b"c"), (2, ENDED), (3, b"d")):
        feed.add(slot, data)
    assert feed.drain(2) == [(1, b"c"), (2, ENDED)]
    assert feed.drain(9) == [(3, b"d")]
    assert feed.drain(9) == []


def test_what_does_not_fit_is_counted() -> None:
    feed = Feed(2)
    for slot in (1, 2, 3, 1, 4):
        feed.add(slot, b"x")
    assert (len(feed.changed), feed.lost) == (2, 2)


def test_it_gets_what_the_journal_gets() -> None:
    router = Router()
    journal = attach(router.engine)
    journal.feed = Feed()
    ct = router.established()
    journal.write_side(3, b"side")
    assert journal.feed.drain(9) == [(ct.slot, record.encode(ct)), (-4, b"side")]
    router.engine.flush(router.now)
    assert journal.feed.drain(9) == [(ct.slot, ENDED)]


def test_a_journal_without_room_feeds_all_the_same() -> None:
    router = Router()
    journal = attach(router.engine)
    journal.feed, journal.most = Feed(), 0
    router.udp()
    assert (journal.unwritten, len(journal.feed.changed)) == (1, 1)

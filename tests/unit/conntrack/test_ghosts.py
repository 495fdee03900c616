"""Ghosts: which dead connections are remembered, for how long, and how many. Their use: conversations/test_hints."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.ghosts import LIFETIME, Ghosts
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPS_CONFIRMED, IPS_SEEN_REPLY
from conntrackd_py.reasons import END_DELETED, END_TIMEOUT
from conntrackd_py.wire import ip
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router

DAYS = 432_000_000


def dead(port: int = 40000, reason: int = END_TIMEOUT, status: int = 0) -> NfConn:
    """An established TCP connection that ended just now, at 1000000."""
    router = Router()
    ct = router.established(port)
    ct.status |= status
    ct.timeout = router.now
    ct.end_reason = reason
    return ct


def midstream(port: int = 40000) -> Skb:
    skb = Skb(packets.tcp(CLIENT, SERVER, port, 80, "A", seq=2, ack=2))
    ip.parse(skb)
    return skb


def test_only_what_timed_out_in_the_middle_of_its_life() -> None:
    ghosts = Ghosts()
    ghosts.destroyed(dead(reason=END_DELETED))
    unconfirmed = dead()
    unconfirmed.status &= ~IPS_CONFIRMED
    ghosts.destroyed(unconfirmed)
    half_open = dead()
    half_open.state = half_open.l4proto.state_names.index("SYN_RECV")
    ghosts.destroyed(half_open)
    assert ghosts.count == 0
    ghosts.destroyed(dead())
    assert ghosts.count == 1


def test_found_by_either_tuple_and_once() -> None:
    ghosts = Ghosts()
    ct = dead()
    for t in (ct.original, ct.reply):
        ghosts.destroyed(ct)
        ghost = ghosts.disturbed(t, midstream(), ct.timeout + 14_000)
        assert ghost is not None
        assert (ghost.id, ghost.proto, ghost.lifetime, ghost.keepalive()) == (ct.id, "tcp", DAYS, DAYS // 2)
        assert ghosts.disturbed(t, midstream(), ct.timeout + 14_000) is None
    assert ghosts.died_in_use == 2
    assert ghosts.by_tuple == {}


@pytest.mark.parametrize(("late", "found"), [(LIFETIME, True), (LIFETIME + 1, False)])
def test_until_its_time_is_over(late: int, found: bool) -> None:
    ghosts = Ghosts()
    ct = dead()
    ghosts.destroyed(ct)
    assert (ghosts.disturbed(ct.original, midstream(), ct.timeout + late) is not None) == found
    assert ghosts.count == 0


def test_the_oldest_goes_when_there_are_too_many() -> None:
    ghosts = Ghosts(limit=3)
    all_of_them = [dead(port) for port in range(1, 7)]
    for ct in all_of_them:
        ghosts.destroyed(ct)
        assert ghosts.count <= 3
        assert len(ghosts.by_tuple) == 2 * ghosts.count
    assert [ct.original in ghosts.by_tuple for ct in all_of_them] == [False] * 3 + [True] * 3


def test_dying_again_takes_the_place_of_the_first_time() -> None:
    ghosts = Ghosts()
    ghosts.destroyed(dead())
    again = dead()
    again.timeout += 5000
    ghosts.destroyed(again)
    assert ghosts.count == 1
    assert ghosts.by_tuple[again.original].ended == again.timeout


def test_a_udp_exchange_is_one_only_from_the_answering_side() -> None:
    router = Router()
    ct = router.udp_answered()
    assert ct.status & IPS_SEEN_REPLY
    ct.end_reason = END_TIMEOUT
    ghosts = Ghosts()
    for t, found in ((ct.original, False), (ct.reply, True)):
        ghosts.destroyed(ct)
        assert (ghosts.disturbed(t, Skb(b""), ct.timeout) is not None) == found

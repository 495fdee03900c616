"""Ghosts: which dead connections are remembered, for how long, and how many. Their use: conversations/test_hints."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPS_ASSURED, IPS_CONFIRMED, IPS_SEEN_REPLY
from conntrackd_py.explain.expired import KEPT, ExpiredConnections
from conntrackd_py.reasons import END_DELETED, END_TIMEOUT
from conntrackd_py.wire import ip
from conntrackd_py.wire import sctp as wire
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
    expired_connections = ExpiredConnections()
    expired_connections.destroyed(dead(reason=END_DELETED))
    unconfirmed = dead()
    unconfirmed.status &= ~IPS_CONFIRMED
    expired_connections.destroyed(unconfirmed)
    half_open = dead()
    half_open.state = half_open.l4proto.state_names.index("SYN_RECV")
    expired_connections.destroyed(half_open)
    assert expired_connections.count == 0
    expired_connections.destroyed(dead())
    assert expired_connections.count == 1


def test_found_by_either_tuple_and_once() -> None:
    expired_connections = ExpiredConnections()
    ct = dead()
    for t in (ct.original, ct.reply):
        expired_connections.destroyed(ct)
        expired = expired_connections.hit(t, midstream(), ct.timeout + 14_000)
        assert expired is not None
        assert (expired.id, expired.proto, expired.lifetime, expired.keepalive()) == (ct.id, "tcp", DAYS, DAYS // 2)
        assert expired_connections.hit(t, midstream(), ct.timeout + 14_000) is None
    assert expired_connections.expired_in_use == 2
    assert expired_connections.by_tuple == {}


@pytest.mark.parametrize(("late", "found"), [(KEPT, True), (KEPT + 1, False)])
def test_until_its_time_is_over(late: int, found: bool) -> None:
    expired_connections = ExpiredConnections()
    ct = dead()
    expired_connections.destroyed(ct)
    assert (expired_connections.hit(ct.original, midstream(), ct.timeout + late) is not None) == found
    assert expired_connections.count == 0


def test_the_oldest_goes_when_there_are_too_many() -> None:
    expired_connections = ExpiredConnections(limit=3)
    all_of_them = [dead(port) for port in range(1, 7)]
    for ct in all_of_them:
        expired_connections.destroyed(ct)
        assert expired_connections.count <= 3
        assert len(expired_connections.by_tuple) == 2 * expired_connections.count
    assert [ct.original in expired_connections.by_tuple for ct in all_of_them] == [False] * 3 + [True] * 3


def test_dying_again_takes_the_place_of_the_first_time() -> None:
    expired_connections = ExpiredConnections()
    expired_connections.destroyed(dead())
    again = dead()
    again.timeout += 5000
    expired_connections.destroyed(again)
    assert expired_connections.count == 1
    assert expired_connections.by_tuple[again.original].ended == again.timeout


def test_a_udp_exchange_is_one_only_from_the_answering_side() -> None:
    router = Router()
    ct = router.udp_answered()
    assert ct.status & IPS_SEEN_REPLY
    ct.end_reason = END_TIMEOUT
    expired_connections = ExpiredConnections()
    for t, found in ((ct.original, False), (ct.reply, True)):
        expired_connections.destroyed(ct)
        assert (expired_connections.hit(t, Skb(b""), ct.timeout) is not None) == found


TCP = packets.tcp(CLIENT, SERVER, 1, 2, "S")
UDP = packets.udp(CLIENT, SERVER, 1, 2)


def sctp(*kinds: int) -> bytes:
    return packets.sctp(CLIENT, SERVER, 1, 2, 0, *[(kind, bytes(16)) for kind in kinds])


@pytest.mark.parametrize(
    ("first", "data", "found"),
    [
        (sctp(wire.INIT), sctp(wire.INIT), False),
        (sctp(wire.INIT), sctp(wire.ABORT), False),
        (sctp(wire.INIT), sctp(wire.DATA), True),
        (sctp(wire.INIT), sctp(wire.HEARTBEAT), True),
        (sctp(wire.INIT), sctp(), True),
        (UDP, packets.udp(CLIENT, SERVER, 1, 2, bytes((0, 0, 0, 0, wire.INIT))), True),
        (UDP, packets.udp(CLIENT, SERVER, 1, 2, bytes((0, 0, 0, 0, 0, 0xFF))), True),
        (TCP, TCP, False),
        (TCP, packets.tcp(CLIENT, SERVER, 1, 2, "RA"), False),
        (TCP, packets.tcp(CLIENT, SERVER, 1, 2, "FPAU"), True),
    ],
    ids=["INIT", "ABORT", "DATA", "HEARTBEAT", "no chunk", "UDP", "other UDP", "SYN", "RST", "FIN"],
)
def test_a_packet_that_opens_or_resets_does_not_hit_an_expired_connection(
    first: bytes, data: bytes, found: bool
) -> None:
    """The tracker of the protocol decides; UDP has no such packets."""
    router = Router()
    ct = router.forward(first)
    ct.status |= IPS_ASSURED
    if "ESTABLISHED" in ct.l4proto.state_names:
        ct.state = ct.l4proto.state_names.index("ESTABLISHED")
    ct.end_reason = END_TIMEOUT
    expired_connections = ExpiredConnections()
    expired_connections.destroyed(ct)
    skb = Skb(data)
    assert ip.parse(skb) == 0
    assert (expired_connections.hit(ct.original, skb, ct.timeout) is not None) == found
    assert expired_connections.expired_in_use == found

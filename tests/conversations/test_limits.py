"""A host has at most so many connections, in every mode; others go on."""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED_REPLY
from conntrackd_py.reasons import HOST_LIMIT
from tests.support.invariants import check
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    Play,
    accept,
    advance,
    crash,
    dropped,
    error,
    udp,
)
from tests.support.rules import masquerade


@pytest.fixture(params=["nat", "track"])
def play(request: pytest.FixtureRequest, family: int) -> Play:
    play = Play(family, [masquerade()], mode=request.param)
    limit(play)
    return play


def limit(play: Play, connections: int = 2) -> None:
    table = play.engine.core.table
    table.hosts.configure(connections, 16, [], table.slots)


def test_one_more_is_dropped(play: Play) -> None:
    for sport in (1, 2):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept()
    assert play >> udp(CLIENT, SERVER, sport=3) << dropped(HOST_LIMIT)
    assert play.seen["why"] == "DROPPED: its host has 2 connections, and limits.connections_per_host is 2"
    assert play.engine.core.table.hosts.refused == 1
    assert play >> udp(CLIENT, SERVER, sport=2) << accept(entries=2)
    assert play >> udp(NEIGHBOUR, SERVER, sport=3) << accept(entries=3)
    check(play.engine)


def test_what_others_open_to_it_and_errors_do_not_count(play: Play) -> None:
    for sport in (1, 2):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept()
    assert play >> udp(OTHER, CLIENT, sport=1) << accept()
    assert play >> udp(CLIENT, OTHER, dport=1) << accept(IP_CT_ESTABLISHED_REPLY)
    assert play >> error(CLIENT, OTHER, udp(OTHER, CLIENT, sport=1)) << accept()


def test_the_end_of_one_makes_room(play: Play) -> None:
    for sport in (1, 2):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept(timeout=30)
    assert play >> advance(31)
    assert play >> udp(CLIENT, SERVER, sport=3) << accept(entries=1)
    check(play.engine)


def test_the_router_itself_has_no_limit(play: Play) -> None:
    for sport in range(1, 5):
        assert play >> udp(ROUTER, SERVER, sport=sport) << accept()


def test_restored_connections_count(play: Play) -> None:
    assert play >> udp(CLIENT, SERVER, sport=1) << accept()
    assert play >> crash(1)
    limit(play)
    assert play >> udp(CLIENT, SERVER, sport=2) << accept()
    assert play >> udp(CLIENT, SERVER, sport=3) << dropped(HOST_LIMIT)
    check(play.engine)


def test_a_limit_that_comes_later(family: int) -> None:
    play = Play(family)
    for sport in (1, 2, 3):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept()
    limit(play)
    assert play >> udp(CLIENT, SERVER, sport=4) << dropped(HOST_LIMIT)
    assert play >> udp(CLIENT, SERVER, sport=3) << accept(entries=3)
    limit(play, 0)
    assert play >> udp(CLIENT, SERVER, sport=4) << accept()

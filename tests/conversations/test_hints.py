"""Hints: what the router can tell of packets that nothing is wrong with by themselves.

Connections that timed out while they were in use, with the keepalive that would have saved them, and flows of which
only one side comes this way.
"""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, IP_CT_INVALID, IP_CT_NEW
from conntrackd_py.reasons import TCP_NOT_SYN, TCP_STATE
from tests.support.play import (
    CLIENT,
    OTHER,
    ROUTER,
    SERVER,
    Play,
    accept,
    advance,
    destroyed,
    invalid,
    nothing,
    ping,
    pong,
    tcp,
    udp,
)

FIVE_DAYS = 432000
NO_HINT = "nothing"


def connect(play: Play) -> Play:
    return (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "SA", seq=300, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301)
        << accept(IP_CT_ESTABLISHED, timeout=FIVE_DAYS)
    )


def hints(play: Play) -> tuple[int, int]:
    """How often: expired in use, one-sided."""
    diagnostics = play.engine.diagnostics
    return diagnostics.expired_connections.expired_in_use, diagnostics.one_sided.flows


# --- expired in use ----------------------------------------------------------------------------------------


def test_a_connection_that_dies_in_use(play: Play) -> None:
    """A packet in mid-stream 14 s after the end: picked up again, with a hint about the keepalive."""
    assert (
        connect(play)
        >> advance(FIVE_DAYS + 14)
        << destroyed("timeout")
        >> tcp(CLIENT, SERVER, "PA", seq=101, ack=301, data=b"still here")
        << accept(
            IP_CT_NEW,
            keepalive=FIVE_DAYS / 2,
            why="its tcp connection timed out after 432000 s without a packet, 14 s before this one; "
            "a keepalive every 216000 s would have saved it",
        )
    )
    assert hints(play) == (1, 0)


def test_the_hint_is_given_once(play: Play) -> None:
    assert (
        connect(play)
        >> advance(FIVE_DAYS + 14)
        << destroyed()
        >> tcp(CLIENT, SERVER, "PA", seq=101, ack=301, data=b"1")
        << accept(IP_CT_NEW, keepalive=FIVE_DAYS / 2)
        >> tcp(CLIENT, SERVER, "PA", seq=102, ack=301, data=b"2")
        << accept(IP_CT_NEW, keepalive=NO_HINT)
    )
    assert hints(play) == (1, 0)


def test_the_other_end_may_be_the_one_who_noticed(play: Play) -> None:
    assert (
        connect(play)
        >> advance(FIVE_DAYS + 14)
        << destroyed()
        >> tcp(SERVER, CLIENT, "PA", seq=301, ack=101, data=b"news")
        << accept(IP_CT_NEW, keepalive=FIVE_DAYS / 2)
    )


def test_behind_nat_the_answer_of_a_dead_connection_comes_to_the_router(snat: Play) -> None:
    """Nobody can say any more for whom it is, but the connection it was of is still known."""
    assert (
        snat
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, src=ROUTER)
        >> tcp(SERVER, ROUTER, "SA", seq=300, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301)
        << accept(IP_CT_ESTABLISHED, timeout=FIVE_DAYS)
        >> advance(FIVE_DAYS + 14)
        << destroyed()
        >> tcp(SERVER, ROUTER, "PA", seq=301, ack=101, data=b"news")
        << accept(IP_CT_NEW, dst=ROUTER, keepalive=FIVE_DAYS / 2)
    )


def test_with_data_outstanding_it_was_the_shorter_timeout(play: Play) -> None:
    """The timeout that ran out is the one that was in force: 300 s while an acknowledgement is missing."""
    assert (
        connect(play)
        >> tcp(CLIENT, SERVER, "PA", seq=101, ack=301, data=b"lost?")
        << accept(timeout=300)
        >> advance(310)
        << destroyed()
        >> tcp(CLIENT, SERVER, "PA", seq=101, ack=301, data=b"lost?")
        << accept(IP_CT_NEW, keepalive=150)
    )


def test_refused_as_well_where_nothing_is_picked_up(family: int) -> None:
    """nf_conntrack_tcp_loose off: INVALID, and the sentence says both."""
    play = Play(family, nf_conntrack_tcp_loose=False)
    assert (
        connect(play)
        >> advance(FIVE_DAYS + 1)
        << destroyed()
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301)
        << invalid(TCP_NOT_SYN, keepalive=FIVE_DAYS / 2)
    )
    assert str(play.seen["why"]).startswith(
        "INVALID: ACK without a connection, and nf_conntrack_tcp_loose is off; its tcp"
    )


@pytest.mark.parametrize("flags", ["S", "R", "RA"])
def test_a_new_beginning_or_a_reset_is_no_use(play: Play, flags: str) -> None:
    assert connect(play) >> advance(FIVE_DAYS + 14) << destroyed() >> tcp(CLIENT, SERVER, flags, seq=900) << accept()
    assert hints(play) == (0, 0)


def test_a_connection_that_was_closed_has_done_its_work(play: Play) -> None:
    assert (
        connect(play)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=301)
        << accept()
        >> tcp(SERVER, CLIENT, "FA", seq=301, ack=102)
        << accept()
        >> tcp(CLIENT, SERVER, "A", seq=102, ack=302)
        << accept(state="TIME_WAIT")
        >> advance(121)
        << destroyed("timeout")
        >> tcp(SERVER, CLIENT, "FA", seq=301, ack=102)
        << accept(IP_CT_INVALID)
    )
    assert hints(play) == (0, 0)


def test_long_dead_is_forgotten(play: Play) -> None:
    """Nobody waits an hour for a packet."""
    assert (
        connect(play)
        >> advance(FIVE_DAYS + 3601)
        << destroyed()
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301)
        << accept(IP_CT_NEW, keepalive=NO_HINT)
    )
    assert hints(play) == (0, 0)


def test_a_call_that_falls_silent(play: Play) -> None:
    """A UDP stream, say a game or a call on hold: 120 s, so a keepalive a minute."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> advance(3)
        >> udp(SERVER, CLIENT)
        << accept()
        >> udp(CLIENT, SERVER)
        << accept(timeout=120)
        >> advance(125)
        << destroyed("timeout")
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, keepalive=60)
    )
    assert hints(play) == (1, 0)


def test_a_late_call_to_a_registered_phone(play: Play) -> None:
    """One exchange, then silence, then the server calls: its mapping is gone after 30 s."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(SERVER, CLIENT)
        << accept(timeout=30)
        >> advance(45)
        << destroyed("timeout")
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_NEW, keepalive=15)
    )


def test_another_query_from_the_same_port_is_no_use(play: Play) -> None:
    """A resolver that asks again is content with a new entry."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(SERVER, CLIENT)
        << accept()
        >> advance(45)
        << destroyed()
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, keepalive=NO_HINT)
        >> advance(31)
        << destroyed()
        >> ping(CLIENT, SERVER)
        << accept()
        >> pong(SERVER, CLIENT)
        << accept()
        >> advance(31)
        << destroyed()
        >> ping(CLIENT, SERVER)
        << accept(IP_CT_NEW, keepalive=NO_HINT)
    )
    assert hints(play) == (0, 0)


# --- one-sided ------------------------------------------------------------------------------------------


def test_answers_that_take_another_way(play: Play) -> None:
    """SYN, and then the caller acknowledges an answer that did not pass here: counted once, whatever follows."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301)
        << invalid(TCP_STATE, why="INVALID: ACK in the original direction is not possible in SYN_SENT")
        >> tcp(CLIENT, SERVER, "PA", seq=101, ack=301, data=b"GET /")
        << invalid(TCP_STATE)
        >> tcp(CLIENT, SERVER, "FA", seq=106, ack=301)
        << invalid(TCP_STATE)
    )
    assert hints(play) == (0, 1)


def test_calls_that_take_another_way(play: Play) -> None:
    """A SYN+ACK without a SYN."""
    assert (
        play
        >> tcp(SERVER, CLIENT, "SA", seq=300, ack=101)
        << invalid(TCP_STATE, why="INVALID: SYN+ACK cannot start a connection and belongs to none")
        >> tcp(SERVER, CLIENT, "SA", seq=300, ack=101)
        << invalid(TCP_STATE)
        >> tcp(OTHER, CLIENT, "SA", seq=300, ack=101)
        << invalid(TCP_STATE)
    )
    assert hints(play) == (0, 2)


def test_half_of_a_conversation(play: Play) -> None:
    """Picked up in mid-stream, and never an answer until it times out."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301)
        << accept(IP_CT_NEW, timeout=300)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=501)
        << accept(IP_CT_NEW)
        >> advance(301)
        << destroyed("timeout")
    )
    assert hints(play) == (0, 1)


def test_an_absent_host_is_not_asymmetric_routing(play: Play) -> None:
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> advance(1)
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> advance(60)
        << nothing()
        >> advance(61)
        << destroyed("timeout")
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> advance(31)
        << destroyed("timeout")
    )
    assert hints(play) == (0, 0)

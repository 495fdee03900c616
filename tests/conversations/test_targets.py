"""DNAT to several targets: by source or at random, by weight, and without those that are down."""

from collections import Counter

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_NEW
from conntrackd_py.reasons import NAT_NO_ADDRESS
from tests.support.nat import TARGETS, balancing, chosen, down, source
from tests.support.play import ROUTER, Host, accept, dropped, tcp, udp

SOURCES = 600


def test_a_source_stays_at_its_target(family: int) -> None:
    play = balancing(family, "source")
    assert {number: chosen(play, number) for number in range(40)} == {
        number: chosen(play, number, 6666) for number in range(40)
    }
    assert {chosen(play, number, 7777) for number in range(40)} == set(TARGETS[family])


@pytest.mark.parametrize("balance", ["source", "random"])
def test_each_target_gets_its_share(family: int, balance: str) -> None:
    play = balancing(family, balance, (1, 2, 3))
    found = Counter(chosen(play, number) for number in range(SOURCES))
    for address, weight in zip(TARGETS[family], (1, 2, 3), strict=True):
        assert abs(found[address] - SOURCES * weight / 6) < SOURCES / 15, found


@pytest.mark.parametrize("balance", ["source", "random"])
def test_a_target_that_is_down_gets_no_new_connection(family: int, balance: str) -> None:
    play = balancing(family, balance)
    gone = TARGETS[family][1]
    down(play, gone)
    assert {chosen(play, number) for number in range(60)} == {*TARGETS[family]} - {gone}


def test_only_the_sources_of_a_target_that_goes_down_move(family: int) -> None:
    play = balancing(family, "source")
    before = [chosen(play, number) for number in range(60)]
    gone = TARGETS[family][1]
    down(play, gone)
    after = [chosen(play, number, 6666) for number in range(60)]
    assert all(now == then or then == gone for then, now in zip(before, after, strict=True))
    down(play, gone, False)
    assert [chosen(play, number, 7777) for number in range(60)] == before


def test_a_connection_keeps_its_target(family: int) -> None:
    """Also when it goes down, and when the rules change."""
    play = balancing(family, "source")
    syn = tcp(source(1), ROUTER, "S", seq=1, dport=8080)
    assert play >> syn << accept(IP_CT_NEW)
    target = play.seen["dst"]
    down(play, str(target))
    ct = play.ct
    assert ct is not None
    assert play.engine.stale().why(ct, play.now) == 0
    server = Host("server", str(target), str(target), 2, 80)
    assert play >> tcp(server, source(1), "SA", seq=9, ack=2, sport=80) << accept(src=ROUTER, sport=8080)
    last = tcp(source(1), ROUTER, "A", seq=2, ack=10, dport=8080)
    assert play >> last << accept(IP_CT_ESTABLISHED, dst=target, dport=80)


def test_without_a_target_a_connection_is_refused(family: int) -> None:
    play = balancing(family, "source")
    down(play, "")
    assert play >> udp(source(1), ROUTER, dport=8080) << dropped(NAT_NO_ADDRESS)
    down(play, TARGETS[family][0], False)
    assert chosen(play, 1) == TARGETS[family][0]


def test_a_reload_keeps_targets_down(family: int) -> None:
    """Those that the new rules have too."""
    play = balancing(family, "source")
    down(play, TARGETS[family][0])
    play.engine.nat.replace_rules(list(balancing(family, "random").engine.nat.rules.destination_rules))
    assert TARGETS[family][0] not in {chosen(play, number) for number in range(30)}

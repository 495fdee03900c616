"""The player of conversations itself: every difference fails and is printed, and so does what was never asserted."""

from collections.abc import Callable

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_NEW, IPS_ASSURED, IPS_CONFIRMED, IPS_SRC_NAT
from conntrackd_py.reasons import LEAK_GUARD, TCP_FLAGS
from tests.support.play import (
    CLIENT,
    OTHER,
    SERVER,
    Play,
    Wanted,
    accept,
    advance,
    arrives,
    destroyed,
    dropped,
    invalid,
    leaves,
    nothing,
    tcp,
    udp,
)
from tests.support.transcript import all_asserted

pytest_plugins = ("pytester",)


def failure(play: Play) -> list[str]:
    """What a failed assert prints."""
    with pytest.raises(AssertionError) as caught:
        assert play
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("wanted", "want", "saw"),
    [
        (dropped(LEAK_GUARD), "verdict=drop reason=leak_guard", "verdict=accept reason=ok"),
        (accept(IP_CT_ESTABLISHED), "ctinfo=ESTABLISHED", "ctinfo=NEW"),
        (accept(timeout=31), "timeout=31", "timeout=30.0"),
        (accept(status=IPS_ASSURED), "status=ASSURED", "status=CONFIRMED|SRC_NAT|SRC_NAT_DONE|DST_NAT_DONE"),
        (accept(not_status=IPS_SRC_NAT), "not_status=SRC_NAT", "not_status=CONFIRMED|SRC_NAT|"),
        (accept(exactly=IPS_CONFIRMED), "exactly=CONFIRMED", "exactly=CONFIRMED|SRC_NAT|"),
        (accept(entered=IPS_CONFIRMED), "entered=CONFIRMED", "entered=DST_NAT_DONE"),
        (accept(state="ESTABLISHED"), "state=ESTABLISHED", "state="),
        (invalid(TCP_FLAGS), "ctinfo=INVALID reason=tcp_flags", "ctinfo=NEW reason=ok"),
        (accept(src="192.0.2.1"), "src=192.0.2.1", "src=2"),
        (accept(dst="192.0.2.1"), "dst=192.0.2.1", "dst="),
        (accept(sport=1), "sport=1", "sport=40000"),
        (accept(dport=1), "dport=1", "dport=80"),
        (accept(data=b"other"), "data=b'other'", "data=b'"),
        (accept(entries=2), "entries=2", "entries=1"),
        (accept(events=["NEW", "UPDATE"]), "events=['NEW', 'UPDATE']", "events=['NEW']"),
        (destroyed("timeout"), "ended=['timeout']", "ended=[]"),
        (accept(no_such_fact=1), "no_such_fact=1", "no_such_fact=nothing"),
    ],
    ids=lambda value: "-".join(value.facts) if isinstance(value, Wanted) else "",
)
def test_a_difference_fails_and_prints_both_sides(snat: Play, wanted: Wanted, want: str, saw: str) -> None:
    said = failure(snat >> udp(CLIENT, SERVER) << wanted >> udp(CLIENT, SERVER) << accept(IP_CT_NEW))
    assert len(said) == 4
    assert said[0] == "the conversation went otherwise:"
    assert said[1].startswith("  >> udp client > server << ")
    assert want in said[1]
    assert said[2].startswith("      !! ")
    assert saw in said[2]
    assert said[3] == "  >> udp client > server << verdict=accept ctinfo=NEW"


def test_an_end_that_did_not_come_and_one_that_came(play: Play) -> None:
    begun = play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert failure(begun >> advance(29) << destroyed())[2:] == [
        "  >> 29 s later",
        "  << ended=['timeout']",
        "      !! ended=[]",
    ]
    assert failure(begun >> advance(2) << nothing())[-2:] == ["  << ended=[]", "      !! ended=['timeout']"]


def test_bytes_are_those_of_the_packet_as_it_left(play: Play) -> None:
    said = udp(CLIENT, SERVER, b"hello")
    assert play >> said << accept(data=said.bytes_for(play.family), events=["NEW"]) >> said << accept(events=[])


@pytest.mark.parametrize("fact", ["status", "not_status", "exactly", "entered"])
def test_a_packet_without_a_connection_has_no_status(play: Play, fact: str) -> None:
    """Not even an empty one."""
    assert f"      !! verdict=accept {fact}=nothing" in failure(
        play >> tcp(CLIENT, SERVER, "SF") << accept(**{fact: 0})
    )


def test_after_time_has_passed_nothing_is_known_of_the_packet_before(play: Play) -> None:
    said = failure(
        play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=30) >> advance(1) << accept(IP_CT_NEW, timeout=30)
    )
    assert said[-1] == "      !! verdict=nothing ctinfo=nothing timeout=nothing"


UNFINISHED = [
    "the conversation went otherwise:",
    "  >> udp client > server",
    "      !! no answer wanted: add << after the step",
]


def test_a_step_without_its_answer_fails(play: Play) -> None:
    assert failure(play >> udp(CLIENT, SERVER)) == UNFINISHED


def test_a_step_without_its_answer_fails_in_the_middle(play: Play) -> None:
    said = failure(play >> udp(CLIENT, SERVER) >> advance(1) >> udp(CLIENT, SERVER) << accept())
    assert said == [*UNFINISHED, "  >> 1 s later", "  >> udp client > server << verdict=accept"]


def test_each_of_two_visits_has_its_answer(play: Play) -> None:
    said = failure(play >> arrives(udp(CLIENT, SERVER)) >> leaves() << accept(IP_CT_NEW))
    assert said[1:3] == ["  >> arrives: udp client > server", UNFINISHED[2]]


def not_asserted(test: Callable[[], object]) -> list[str]:
    """What is printed for a test that passes but for its conversations."""
    with pytest.raises(AssertionError, match="a conversation without assert") as caught, all_asserted():
        test()
    return str(caught.value).splitlines()[1:]


def test_a_conversation_without_assert_fails(play: Play) -> None:
    said = not_asserted(lambda: play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW))
    assert said == ["  >> udp client > server << verdict=accept ctinfo=NEW"]


def test_what_follows_the_assert_needs_another(play: Play) -> None:
    def test() -> None:
        assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
        play >> advance(31)

    assert not_asserted(test)[-1] == "  >> 31 s later"


def test_a_conversation_is_not_asserted_by_that_of_another_player(family: int) -> None:
    def test() -> None:
        Play(family) >> udp(CLIENT, OTHER)
        assert Play(family) >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)

    assert not_asserted(test) == ["  >> udp client > other"]


def test_asserted_conversations_pass(family: int) -> None:
    with all_asserted():
        assert Play(family) >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
        assert Play(family) >> udp(CLIENT, OTHER) << accept(IP_CT_NEW)


def test_a_test_that_fails_anyway_keeps_its_own_error(play: Play) -> None:
    def test() -> None:
        play >> udp(CLIENT, SERVER)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), all_asserted():
        test()


def test_pytest_fails_such_a_test_and_no_other(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import pytest_runtest_call")
    pytester.makepyfile(
        """
        from tests.support.play import CLIENT, SERVER, Play, accept, udp

        def test_forgotten():
            Play(4) >> udp(CLIENT, SERVER) << accept()

        def test_asserted():
            assert Play(4) >> udp(CLIENT, SERVER) << accept()
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*a conversation without assert*", "* >> udp client > server << verdict=accept"])

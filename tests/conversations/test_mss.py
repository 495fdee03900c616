"""MSS clamping: a SYN and a SYN/ACK get an MSS that fits the links, in both directions; nothing else changes."""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IP_CT_UNTRACKED
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rewrite.mss import OFF, PMTU
from tests.support.nat import MSS_1460, clamping, mss_of
from tests.support.packets import valid
from tests.support.play import CLIENT, LAN, ROUTER, SERVER, accept, tcp


@pytest.mark.parametrize(
    ("limit", "v4", "v6"), [(PMTU, 1452, 1432), (1400, 1400, 1400), (1460, 1460, 1460), (OFF, 1460, 1460)]
)
@pytest.mark.parametrize("options", [MSS_1460, b"\1" + MSS_1460 + b"\1\1\1", b"\3\3\7" + MSS_1460 + b"\0"])
def test_both_ends_learn_what_fits(family: int, limit: int, v4: int, v6: int, options: bytes) -> None:
    """Also an option at an odd offset."""
    play = clamping(family, limit)
    wanted = v4 if family == 4 else v6
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, options=options) << accept(IP_CT_NEW, src=ROUTER, visits=2)
    assert (mss_of(play.left), valid(play.left)) == (wanted, True)
    answer = tcp(SERVER, ROUTER, "SA", seq=9, ack=2, options=options)
    assert play >> answer << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, visits=1 if limit == OFF else 2)
    assert (mss_of(play.left), valid(play.left)) == (wanted, True)


def test_connections_from_outside_too(family: int) -> None:
    play = clamping(family, PMTU)
    wanted = 1452 if family == 4 else 1432
    syn = tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080, options=MSS_1460)
    assert play >> syn << accept(IP_CT_NEW, dst=CLIENT)
    assert (mss_of(play.left), valid(play.left)) == (wanted, True)
    answer = tcp(CLIENT, SERVER, "SA", seq=9, ack=2, sport=80, dport=5555, options=MSS_1460)
    assert play >> answer << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER)
    assert (mss_of(play.left), valid(play.left)) == (wanted, True)


def test_a_smaller_mss_is_not_raised_and_none_is_added(family: int) -> None:
    play = clamping(family, PMTU)
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, options=b"\x02\x04\x02\x18") << accept()
    assert mss_of(play.left) == 536
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, sport=5) << accept()
    assert mss_of(play.left) == 0
    assert play.engine.mss.clamped == 0


def test_only_a_syn_of_another_host_changes(family: int) -> None:
    play = clamping(family, 1000)
    assert play >> tcp(ROUTER, SERVER, "S", seq=1, sport=5, options=MSS_1460) << accept()
    assert mss_of(play.left) == 1460  # the router's own TCP knows its links
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, options=MSS_1460) << accept()
    assert play >> tcp(SERVER, ROUTER, "SA", seq=9, ack=2, options=MSS_1460) << accept()
    assert play >> tcp(CLIENT, SERVER, "A", seq=2, ack=10, options=MSS_1460) << accept()
    assert mss_of(play.left) == 1460
    assert play >> tcp(SERVER, ROUTER, "A", seq=10, ack=2) << accept(visits=1)


def test_without_a_known_mtu_nothing_changes(family: int) -> None:
    play = clamping(family, PMTU)
    play.engine.mss.mtus = {LAN: 1500}
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, options=MSS_1460) << accept()
    assert mss_of(play.left) == 1460


@pytest.mark.parametrize(
    "options", [b"\1\1\1\1\1\x02\x04\x05", b"\x02\x05\x05\xb4\0\0\0\0", b"\x02\0\x05\xb4", b"\0" + MSS_1460]
)
def test_a_broken_option_is_left_alone(family: int, options: bytes) -> None:
    play = clamping(family, 1000)
    said = tcp(CLIENT, SERVER, "S", seq=1, options=options.ljust(8, b"\0"))
    assert play >> said << accept()
    assert play.left[-8:] == said.bytes_for(family)[-8:]


def test_an_untracked_syn_is_clamped_too(family: int) -> None:
    play = clamping(family, 1000, [RawRule(Match(), notrack=True)])
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, options=MSS_1460) << accept(IP_CT_UNTRACKED, src=CLIENT)
    assert (mss_of(play.left), valid(play.left)) == (1000, True)

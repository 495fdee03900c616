"""The ten states of seed 004, arrow by arrow, with packets: client inside, server outside.

The drawing's words: IN2OUT is what the client sends, OUT2IN what the server sends.
"""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IPS_ASSURED
from conntrackd_py.reasons import TCP_NOT_SYN
from tests.support.play import CLIENT, ROUTER, SERVER, Play, Said, accept, advance, destroyed, invalid, nothing, tcp
from tests.support.rules import masquerade, web_server_inside

TRANSITORY, LONG = 240, 7440


@pytest.fixture
def nat(family: int) -> Play:
    return Play(family, [masquerade()], tcp="rfc7857")


def i2o(flags: str) -> Said:
    return tcp(CLIENT, SERVER, flags, seq=1, ack=1)


def o2i(flags: str) -> Said:
    return tcp(SERVER, ROUTER, flags, seq=1, ack=1)


def established(nat: Play) -> Play:
    return (
        nat
        >> i2o("S")
        << accept(IP_CT_NEW, state="SYN_I2O", timeout=TRANSITORY, src=ROUTER)
        >> o2i("SA")
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=LONG, status=IPS_ASSURED, dst=CLIENT)
    )


def closed(nat: Play) -> Play:
    return (
        established(nat)
        >> i2o("FA")
        << accept(state="FIN_I2O", timeout=LONG)
        >> o2i("FA")
        << accept(state="FIN_TRANS", timeout=TRANSITORY)
    )


def test_opened_from_inside(nat: Play) -> None:
    assert established(nat) >> i2o("A") << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", timeout=LONG)


def test_opened_from_outside(family: int) -> None:
    """CLOSED, SYN OUT2IN, SYN_O2I, SYN IN2OUT, ESTABLISHED: through a port that is forwarded."""
    nat = Play(family, [masquerade(), web_server_inside(family)], tcp="rfc7857")
    call = tcp(SERVER, ROUTER, "S", sport=5555, dport=8080)
    answer = tcp(CLIENT, SERVER, "SA", sport=80, dport=5555)
    assert (
        nat
        >> call
        << accept(IP_CT_NEW, state="SYN_O2I", timeout=TRANSITORY, dst=CLIENT)
        >> answer
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=LONG, src=ROUTER)
        >> tcp(SERVER, ROUTER, "FA", sport=5555, dport=8080)
        << accept(state="FIN_O2I", timeout=LONG)
        >> tcp(CLIENT, SERVER, "FA", sport=80, dport=5555)
        << accept(state="FIN_TRANS", timeout=TRANSITORY)
    )


def test_opened_from_both_sides_at_once(nat: Play) -> None:
    assert nat >> i2o("S") << accept(state="SYN_I2O") >> o2i("S") << accept(state="ESTABLISHED")


def test_without_an_answer(nat: Play) -> None:
    """Transitory timeout, renewed by every repeated SYN."""
    assert (
        nat
        >> i2o("S")
        << accept(state="SYN_I2O", timeout=TRANSITORY)
        >> advance(200)
        >> i2o("S")
        << accept(state="SYN_I2O", timeout=TRANSITORY)
        >> advance(239)
        << nothing()
        >> advance(2)
        << destroyed("timeout")
    )


def test_established_and_silent(nat: Play) -> None:
    assert established(nat) >> advance(LONG - 1) << nothing() >> advance(2) << destroyed("timeout")


@pytest.mark.parametrize("first", ["client", "server"])
def test_closed_by_both(nat: Play, first: str) -> None:
    """FIN one way, FIN the other way: four minutes, in either order."""
    one, other, state = (i2o, o2i, "FIN_I2O") if first == "client" else (o2i, i2o, "FIN_O2I")
    assert (
        established(nat)
        >> one("FA")
        << accept(state=state, timeout=LONG)
        >> one("FA")
        << accept(state=state, timeout=LONG)
        >> other("FA")
        << accept(state="FIN_TRANS", timeout=TRANSITORY)
        >> advance(241)
        << destroyed("timeout")
    )


@pytest.mark.parametrize("first", ["client", "server"])
def test_closed_by_one_and_silent(nat: Play, first: str) -> None:
    """Half closed keeps the established timeout."""
    one = i2o if first == "client" else o2i
    assert established(nat) >> one("FA") << accept(timeout=LONG) >> advance(LONG + 1) << destroyed("timeout")


@pytest.mark.parametrize("sender", ["client", "server"])
def test_reset(nat: Play, sender: str) -> None:
    one = i2o if sender == "client" else o2i
    assert (
        established(nat)
        >> one("R")
        << accept(state="RST_TRANS", timeout=TRANSITORY)
        >> advance(100)
        >> one("R")
        << accept(state="RST_TRANS", timeout=TRANSITORY - 100)
        >> advance(141)
        << destroyed("timeout")
    )


@pytest.mark.parametrize("witness", ["client", "server"])
def test_a_reset_is_undone_by_data(nat: Play, witness: str) -> None:
    """It was forged, or stale: RFC 7857 section 2.2."""
    other = i2o if witness == "client" else o2i
    assert (
        established(nat)
        >> i2o("RA")
        << accept(state="RST_TRANS")
        >> advance(100)
        >> other("PA")
        << accept(state="ESTABLISHED", timeout=LONG)
    )


def test_after_both_fins_nothing_prolongs_the_four_minutes(nat: Play) -> None:
    assert (
        closed(nat)
        >> advance(200)
        >> i2o("A")
        << accept(state="FIN_TRANS", timeout=TRANSITORY - 200)
        >> advance(41)
        << destroyed("timeout")
    )


@pytest.mark.parametrize("caller", ["client", "server"])
def test_reopened_in_fin_trans(nat: Play, caller: str) -> None:
    """Why refuse a 5-tuple whose predecessor is only timing out? An end and a beginning are reported."""
    one, other, state = (i2o, o2i, "REOPEN_SYN_I2O") if caller == "client" else (o2i, i2o, "REOPEN_SYN_O2I")
    assert closed(nat)
    nat.events.clear()
    assert (
        nat
        >> advance(100)
        >> one("S")
        << accept(state=state, timeout=TRANSITORY)
        >> one("S")
        << accept(state=state)
        >> other("SA")
        << accept(state="ESTABLISHED", timeout=LONG, entries=1, ended=["reopened"])
    )
    assert nat.events == ["UPDATE", "DESTROY", "NEW"]


@pytest.mark.parametrize("caller", ["client", "server"])
def test_reopening_without_an_answer(nat: Play, caller: str) -> None:
    one = i2o if caller == "client" else o2i
    assert (
        closed(nat)
        >> one("S")
        << accept(timeout=TRANSITORY)
        >> advance(100)
        >> one("S")
        << accept(timeout=TRANSITORY - 100)
        >> advance(141)
        << destroyed("timeout")
    )


@pytest.mark.parametrize("flags", ["A", "FA", "R", "PA", "SR"])
def test_only_a_syn_starts_a_session(nat: Play, flags: str) -> None:
    assert nat >> tcp(ROUTER, SERVER, flags) << invalid(TCP_NOT_SYN, entries=0)


def test_no_window_is_judged(nat: Play) -> None:
    assert established(nat) >> tcp(CLIENT, SERVER, "PA", seq=1 << 31, data=b"far") << accept(reason="ok")

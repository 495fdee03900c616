"""The figures of "Connection tracking (conntrack) - Part 3: State and Examples" (thermalcircle.de), packet by packet.

`entered`: the status bits after PREROUTING. `exactly`: all of them when the packet has left. Nothing is translated.
Where a newer kernel differs from the figure, the docstring says so.
"""

import pytest

from conntrackd_py.cli.conntrack.format import event_line
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_SEEN_REPLY,
)
from conntrackd_py.control import view
from tests.support.play import CLIENT, SERVER, Play, accept, advance, destroyed, nothing, ping, pong, tcp, udp

CONFIRMED = IPS_CONFIRMED
REPLIED = IPS_CONFIRMED | IPS_SEEN_REPLY
ASSURED = IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED


@pytest.fixture
def play(family: int) -> Play:
    return Play(family, mode="track")


def dead(ct: NfConn | None) -> int:
    """The status bits a dead connection had while it lived."""
    assert ct is not None
    assert ct.status & IPS_DYING
    return ct.status & ~IPS_DYING


# --- seed 001 -------------------------------------------------------------------------------------------


def test_figure_8_a_ping(play: Play) -> None:
    """NEW and, when it leaves, CONFIRMED; the answer SEEN_REPLY; 30 s each; never ASSURED; then DYING and gone."""
    assert (
        play
        >> ping(CLIENT, SERVER, ident=42)
        << accept(IP_CT_NEW, entered=0, exactly=CONFIRMED, timeout=30, entries=1)
        >> advance(1)
        >> pong(SERVER, CLIENT, ident=42)
        << accept(IP_CT_ESTABLISHED_REPLY, entered=REPLIED, exactly=REPLIED, timeout=30)
        >> advance(29)
        << nothing()
        >> advance(2)
        << destroyed("timeout")
    )
    assert dead(play.ct) == REPLIED
    assert len(play.engine.core.table) == 0


def test_figure_10_a_name_is_asked_for(play: Play) -> None:
    """A query and its answer, the same as a ping: NEW, ESTABLISHED_REPLY, 30 s each."""
    assert (
        play
        >> udp(CLIENT, SERVER, b"A google.com?", dport=53)
        << accept(IP_CT_NEW, entered=0, exactly=CONFIRMED, timeout=30)
        >> advance(0.02)
        >> udp(SERVER, CLIENT, b"A 192.0.2.1", sport=53)
        << accept(IP_CT_ESTABLISHED_REPLY, entered=REPLIED, exactly=REPLIED, timeout=30)
        >> advance(31)
        << destroyed("timeout")
    )
    assert dead(play.ct) == REPLIED


def test_figure_10_goes_on(play: Play) -> None:
    """A third packet made it ASSURED in the figure; since Linux 5.12 only two seconds after the first."""
    assert (
        play
        >> udp(CLIENT, SERVER, dport=53)
        << accept(IP_CT_NEW, exactly=CONFIRMED)
        >> udp(SERVER, CLIENT, sport=53)
        << accept(IP_CT_ESTABLISHED_REPLY, exactly=REPLIED)
        >> udp(CLIENT, SERVER, dport=53)
        << accept(IP_CT_ESTABLISHED, exactly=REPLIED, timeout=30)
        >> advance(2.1)
        >> udp(CLIENT, SERVER, dport=53)
        << accept(IP_CT_ESTABLISHED, exactly=ASSURED, timeout=120)
    )


def shake_hands(play: Play) -> Play:
    """Figure 12: three packets, and the timeout of days only after the last."""
    return (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, entered=0, exactly=CONFIRMED, state="SYN_SENT", timeout=120)
        >> tcp(SERVER, CLIENT, "SA", seq=300, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, entered=REPLIED, exactly=REPLIED, state="SYN_RECV", timeout=60)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301)
        << accept(IP_CT_ESTABLISHED, entered=ASSURED, exactly=ASSURED, state="ESTABLISHED", timeout=432000)
    )


def transfer(play: Play) -> Play:
    """Figure 13: short while an acknowledgement is outstanding, long again with it."""
    return (
        play
        >> tcp(CLIENT, SERVER, "PA", seq=101, ack=301, data=b"GET /")
        << accept(IP_CT_ESTABLISHED, exactly=ASSURED, state="ESTABLISHED", timeout=300)
        >> tcp(SERVER, CLIENT, "A", seq=301, ack=106)
        << accept(IP_CT_ESTABLISHED_REPLY, exactly=ASSURED, state="ESTABLISHED", timeout=432000)
    )


def close(play: Play) -> Play:
    """Figure 14: FIN, FIN+ACK, ACK."""
    return (
        play
        >> tcp(CLIENT, SERVER, "FA", seq=106, ack=301)
        << accept(IP_CT_ESTABLISHED, exactly=ASSURED, state="FIN_WAIT", timeout=120)
        >> tcp(SERVER, CLIENT, "FA", seq=301, ack=107)
        << accept(IP_CT_ESTABLISHED_REPLY, exactly=ASSURED, state="LAST_ACK", timeout=30)
        >> tcp(CLIENT, SERVER, "A", seq=107, ack=302)
        << accept(IP_CT_ESTABLISHED, exactly=ASSURED, state="TIME_WAIT", timeout=120)
    )


def test_figure_12_the_handshake(play: Play) -> None:
    assert shake_hands(play)


def test_figure_13_a_payload_and_its_acknowledgement(play: Play) -> None:
    assert transfer(shake_hands(play))


def test_figure_14_the_end(play: Play) -> None:
    assert close(transfer(shake_hands(play))) >> advance(121) << destroyed("timeout")
    assert dead(play.ct) == ASSURED
    assert len(play.engine.core.table) == 0


# --- seed 000 -------------------------------------------------------------------------------------------


def test_the_tcp_diagram(play: Play) -> None:
    """(no entry), NEW, SYN_RECV, ESTABLISHED of five days and reset by each packet, FIN_WAIT, TIME_WAIT, (removed).

    The diagram's NEW is the ctinfo of state SYN_SENT; between FIN_WAIT and TIME_WAIT the server's own FIN passes.
    """
    assert shake_hands(play) >> advance(86400) << nothing()
    assert transfer(play)
    assert play.seen["timeout"] == 432000
    assert close(play) >> advance(119) << nothing() >> advance(2) << destroyed("timeout")


def test_the_tcp_diagram_without_an_answer(play: Play) -> None:
    """The arrow on the right: NEW ends after 120 s."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, state="SYN_SENT", timeout=120)
        >> advance(119)
        << nothing()
        >> advance(2)
        << destroyed("timeout")
    )


def test_the_udp_diagram(play: Play) -> None:
    """NEW of 30 s, with a reply ESTABLISHED of 120 s (for a stream: traffic both ways for two seconds), (removed)."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30)
        >> advance(3)
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY, timeout=30)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, timeout=120, exactly=ASSURED)
        >> advance(119)
        << nothing()
        >> advance(2)
        << destroyed("timeout")
    )


def test_the_udp_diagram_without_an_answer(play: Play) -> None:
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=30) >> advance(31) << destroyed("timeout")


# --- seed 002 -------------------------------------------------------------------------------------------


def test_the_event_log() -> None:
    """`conntrack -E` of one connection; the seed leaves out the protocol's number, conntrack(8) does not."""
    play = Play(4, mode="track")
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100, sport=4123, dport=22)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "SA", seq=300, ack=101, sport=22, dport=4123)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=301, sport=4123, dport=22)
        << accept(IP_CT_ESTABLISHED)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=301, sport=4123, dport=22)
        << accept(IP_CT_ESTABLISHED)
        >> tcp(SERVER, CLIENT, "FA", seq=301, ack=102, sport=22, dport=4123)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=102, ack=302, sport=4123, dport=22)
        << accept(IP_CT_ESTABLISHED)
    )
    there = "src=192.168.1.2 dst=198.51.100.2 sport=4123 dport=22"
    back = "src=198.51.100.2 dst=192.168.1.2 sport=22 dport=4123"
    lines = [event_line(view.event(event, 0.0, False), frozenset()) for event in play.log]
    assert [" ".join(line.split()) for line in lines] == [
        f"[NEW] tcp 6 120 SYN_SENT {there} [UNREPLIED] {back}",
        f"[UPDATE] tcp 6 60 SYN_RECV {there} {back}",
        f"[UPDATE] tcp 6 432000 ESTABLISHED {there} {back} [ASSURED]",
        f"[UPDATE] tcp 6 120 FIN_WAIT {there} {back} [ASSURED]",
        f"[UPDATE] tcp 6 30 LAST_ACK {there} {back} [ASSURED]",
        f"[UPDATE] tcp 6 120 TIME_WAIT {there} {back} [ASSURED]",
    ]

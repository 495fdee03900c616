"""Every cell of the TCP table, reached by real packets: a recipe for each old state, then each packet.

Transcribed by the other axis: a paragraph an old state, a line a direction, where the table in
proto/tcp_states has a row a packet. `kill` is a connection that ends at once, `again` one that ends
and begins again with this packet.
"""

import pytest
from _pytest.mark.structures import ParameterSet

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IP_CT_INVALID, IP_CT_NEW
from tests.support.play import CLIENT, SERVER, Host, Play, Said, accept, tcp

C0, S0 = 100, 900  # initial sequence numbers

# After each recipe: what it leads to, and the next sequence number of client and server.
CALL = tcp(CLIENT, SERVER, "S", seq=C0)
ANSWER = tcp(SERVER, CLIENT, "SA", seq=S0, ack=C0 + 1)
OPEN = [CALL, ANSWER, tcp(CLIENT, SERVER, "A", seq=C0 + 1, ack=S0 + 1)]
CLOSING = [*OPEN, tcp(CLIENT, SERVER, "FA", seq=C0 + 1, ack=S0 + 1)]
LAST = [*CLOSING, tcp(SERVER, CLIENT, "FA", seq=S0 + 1, ack=C0 + 2)]
RECIPES: dict[str, tuple[list[Said], int, int]] = {
    "NONE": ([], C0, S0),
    "SYN_SENT": ([CALL], C0 + 1, S0),
    "SYN_RECV": ([CALL, ANSWER], C0 + 1, S0 + 1),
    "ESTABLISHED": (OPEN, C0 + 1, S0 + 1),
    "FIN_WAIT": (CLOSING, C0 + 2, S0 + 1),
    "CLOSE_WAIT": ([*CLOSING, tcp(SERVER, CLIENT, "A", seq=S0 + 1, ack=C0 + 2)], C0 + 2, S0 + 1),
    "LAST_ACK": (LAST, C0 + 2, S0 + 2),
    "TIME_WAIT": ([*LAST, tcp(CLIENT, SERVER, "A", seq=C0 + 2, ack=S0 + 2)], C0 + 2, S0 + 2),
    "CLOSE": ([*OPEN, tcp(CLIENT, SERVER, "R", seq=C0 + 1)], C0 + 1, S0 + 1),
    "SYN_SENT2": ([CALL, tcp(SERVER, CLIENT, "S", seq=S0)], C0 + 1, S0 + 1),
}

PACKETS = ("syn", "synack", "fin", "ack", "rst", "none")
EXPECTED = """
NONE        original  SS  IV  IV  ES  IV  IV
NONE        reply     SS  IV  IV  ES  IV  IV

SYN_SENT    original  SS  IV  IV  IV  kill IV
SYN_SENT    reply     S2  SR  IV  IG  kill IV

SYN_RECV    original  IG  SR  FW  ES  CL  IV
SYN_RECV    reply     IV  IG  FW  SR  CL  IV

ESTABLISHED original  IG  IV  FW  ES  CL  IV
ESTABLISHED reply     IV  IG  FW  ES  CL  IV

FIN_WAIT    original  IG  IV  LA  CW  CL  IV
FIN_WAIT    reply     IV  IG  LA  CW  CL  IV

CLOSE_WAIT  original  IG  IV  LA  CW  CL  IV
CLOSE_WAIT  reply     IV  IG  LA  CW  CL  IV

LAST_ACK    original  IG  IV  LA  TW  CL  IV
LAST_ACK    reply     IV  IG  LA  TW  CL  IV

TIME_WAIT   original  again IV TW  TW  CL  IV
TIME_WAIT   reply     again IG TW  TW  CL  IV

CLOSE       original  again IV CL  CL  CL  IV
CLOSE       reply     IV  IG  CL  CL  CL  IV

SYN_SENT2   original  S2  SR  IV  IV  CL  IV
SYN_SENT2   reply     S2  SR  IV  IG  CL  IV
"""
# NONE/reply is the first packet of a connection, sent by the server: there is no connection to reply to.

LETTERS = {
    "SS": "SYN_SENT",
    "SR": "SYN_RECV",
    "ES": "ESTABLISHED",
    "FW": "FIN_WAIT",
    "CW": "CLOSE_WAIT",
    "LA": "LAST_ACK",
    "TW": "TIME_WAIT",
    "CL": "CLOSE",
    "S2": "SYN_SENT2",
}
ROWS = [line.split() for line in EXPECTED.split("\n") if line]


def cells(*wanted: str) -> list[ParameterSet]:
    """(old state, direction, packet, cell) of all cells that read so."""
    return [
        pytest.param(state, direction, packet, cell, id=f"{state}-{direction}-{packet}")
        for state, direction, *row in ROWS
        for packet, cell in zip(PACKETS, row, strict=True)
        if cell in wanted
    ]


def every(*wanted: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("state", "direction", "kind", "cell"), cells(*wanted))


def packet_of(kind: str, sender: Host, receiver: Host, first: int, following: int, acknowledge: int) -> Said:
    flags = {"syn": "S", "synack": "SA", "fin": "FA", "ack": "A", "rst": "R", "none": "P"}[kind]
    seq = first if kind.startswith("syn") else following
    return tcp(sender, receiver, flags, seq=seq, ack=0 if kind == "syn" else acknowledge)


def state_of(ct: NfConn | None) -> str:
    return "NONE" if ct is None else ct.l4proto.state_names[ct.state]


def reached(play: Play, state: str, direction: str, kind: str) -> Said:
    """Plays the recipe of the state; the packet that comes next."""
    recipe, client_next, server_next = RECIPES[state]
    for step in recipe:
        assert play >> step << accept()
    assert state_of(play.ct) == state
    if direction == "original":
        return packet_of(kind, CLIENT, SERVER, C0, client_next, server_next)
    return packet_of(kind, SERVER, CLIENT, S0, server_next, client_next)


@every("IV")
def test_invalid(play: Play, state: str, direction: str, kind: str, cell: str) -> None:
    packet = reached(play, state, direction, kind)
    before = play.ct
    assert play >> packet << accept(IP_CT_INVALID, entries=int(before is not None))
    assert play.ct is None
    assert state_of(before) == state


@every("IG")
def test_ignored(play: Play, state: str, direction: str, kind: str, cell: str) -> None:
    packet = reached(play, state, direction, kind)
    before = play.ct
    assert play >> packet << accept(state=state, reason="tcp_ignored")
    assert play.ct is before


@every("kill")
def test_ends_at_once(play: Play, state: str, direction: str, kind: str, cell: str) -> None:
    assert play >> reached(play, state, direction, kind) << accept(entries=0, ended=["rst"])


@every("again")
def test_ends_and_begins_again(play: Play, state: str, direction: str, kind: str, cell: str) -> None:
    packet = reached(play, state, direction, kind)
    before = play.ct
    assert play >> packet << accept(IP_CT_NEW, state="SYN_SENT", timeout=120, ended=["reopened"], entries=1)
    assert play.ct is not before


@every(*LETTERS)
def test_new_state(play: Play, state: str, direction: str, kind: str, cell: str) -> None:
    packet = reached(play, state, direction, kind)
    before = play.ct
    assert play >> packet << accept(state=LETTERS[cell], reason="ok", ended=[], entries=1)
    assert (play.ct is before) == (state != "NONE")


def test_every_cell_has_its_test() -> None:
    assert len(cells("IV", "IG", "kill", "again", *LETTERS)) == len(ROWS) * len(PACKETS) == 120

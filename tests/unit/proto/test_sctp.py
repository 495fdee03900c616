"""SCTP's table, and the rules about tags that conversations seldom meet. tests/oracle compares the rest."""

from conntrackd_py.proto import sctp
from conntrackd_py.wire import sctp as wire


def test_the_table_is_whole() -> None:
    assert len(sctp.TRANSITIONS) == 2 * 11 * 9


def test_some_arrows_by_name() -> None:
    def arrow(direction: int, kind: int, old: str) -> str:
        state = sctp.next_state(direction, kind, sctp.STATE_NAMES.index(old))
        return "IV" if state == sctp.IV else sctp.STATE_NAMES[state]

    assert arrow(0, wire.INIT, "NONE") == "CLOSED"
    assert arrow(1, wire.INIT_ACK, "CLOSED") == "COOKIE_WAIT"
    assert arrow(1, wire.SHUTDOWN, "ESTABLISHED") == "SHUTDOWN_RECD"
    assert arrow(1, wire.HEARTBEAT_ACK, "HEARTBEAT_SENT") == "ESTABLISHED"
    assert arrow(1, wire.INIT, "NONE") == "IV"


def test_other_chunks_move_nothing() -> None:
    for state in range(sctp.STATES):
        assert sctp.next_state(0, wire.DATA, state) == state
        assert sctp.next_state(1, 192, state) == state

"""What the daemon reports of its journal."""

from conntrackd_py.control.journal import JournalState
from tests.support.journals import attach
from tests.support.router import Router


def test_without_a_journal() -> None:
    assert JournalState().report() == {
        "enabled": False,
        "error": "",
        "written": 0,
        "unwritten": 0,
        "side_unwritten": 0,
        "shortened": 0,
        "restored": 0,
        "refused": {},
        "damaged": 0,
        "aside": "",
        "away": None,
        "pause": None,
    }


def test_with_one() -> None:
    router, state = Router(), JournalState()
    state.journal = attach(router.engine)
    state.journal.unwritten = 4
    state.away, state.refused["address_gone"] = 1500, 2
    router.udp()
    report = state.report()
    assert (report["written"], report["unwritten"], report["away"]) == (1, 4, 1.5)
    assert report["refused"] == {"address_gone": 2}

"""docs/trackers.md is what the tables of the trackers say."""

import pytest

from conntrackd_py.proto import rfc7857
from tests.support import diagrams


def test_the_diagrams_are_those_of_the_tables() -> None:
    if not diagrams.PAGE.is_file() or diagrams.PAGE.read_text(encoding="utf-8") != diagrams.page():
        pytest.fail(f"docs/trackers.md is not what the tables give; write it again: {diagrams.COMMAND}", pytrace=False)


def test_an_arrow_gathers_packets_by_direction() -> None:
    text = diagrams.page()
    assert "\n    SYN_SENT --> SYN_RECV: reply synack\n" in text
    assert "\n    FIN_TRANS --> REOPEN_SYN_I2O: I2O S SF SR SFR\n" in text
    assert "\n    ANY --> CLOSE: either rst\n" in text
    assert "ESTABLISHED --> ESTABLISHED" not in text


def test_the_list_of_arrows_reads_back_as_the_table() -> None:
    lines = list(diagrams.arrows_table(diagrams.rfc7857_moves(), rfc7857.STATE_NAMES, rfc7857.DIRECTIONS))
    assert rfc7857._flat("\n".join(lines[1:-1])) == rfc7857.TRANSITIONS

"""The flat table equals the drawn one, cell by cell."""

import pytest

from conntrackd_py.const import ORIGINAL, REPLY
from conntrackd_py.proto.tcp_states import (
    IG,
    IV,
    KIND_NAMES,
    KINDS,
    STATE_NAMES,
    TABLE,
    TCP_CONNTRACK_MAX,
    TRANSITIONS,
    next_state,
)

COLUMNS = ["NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2"]
LINES = [line.split() for line in TABLE.split("\n") if line.strip()]
ROWS = [
    pytest.param(direction, kind, row, id=f"{'reply' if direction else 'original'}-{kind}")
    for direction, lines in ((ORIGINAL, LINES[2:8]), (REPLY, LINES[9:15]))
    for kind, *row in lines
]


def test_its_shape() -> None:
    assert len(TRANSITIONS) == 2 * KINDS * TCP_CONNTRACK_MAX == 120
    assert LINES[0] == COLUMNS
    assert [line[0] for line in LINES[1:]] == ["original", *KIND_NAMES, "reply", *KIND_NAMES]
    assert len(COLUMNS) == len(STATE_NAMES) == TCP_CONNTRACK_MAX


@pytest.mark.parametrize(("direction", "kind", "row"), ROWS)
def test_every_drawn_cell_is_found_by_lookup(direction: int, kind: str, row: list[str]) -> None:
    letters = [*COLUMNS, "IV", "IG"]
    found = [letters[next_state(direction, KIND_NAMES.index(kind), old)] for old in range(TCP_CONNTRACK_MAX)]
    assert found == row


def test_no_row_leads_back_to_none() -> None:
    """Only a new connection is in NONE."""
    assert 0 not in TRANSITIONS
    assert max(TRANSITIONS) == IG


def test_what_has_no_flag_of_tcp_changes_nothing_ever() -> None:
    none = KIND_NAMES.index("none")
    assert {next_state(direction, none, old) for direction in (0, 1) for old in range(TCP_CONNTRACK_MAX)} == {IV}

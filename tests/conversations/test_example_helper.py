"""The helper of docs/helpers.md and its test, as they stand there."""

import re
from pathlib import Path
from typing import Any

from conntrackd_py.const import IP_CT_RELATED
from conntrackd_py.reasons import HELPER_PARTIAL
from tests.support.control import Stream, assigned, expected, shown
from tests.support.play import CLIENT, NEIGHBOUR, ROUTER, SERVER, Play, accept, dropped, restart, tcp
from tests.support.rules import masquerade

PAGE = Path(__file__).parents[2] / "docs" / "helpers.md"
HELPER, TEST = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def example() -> Any:
    names: dict[str, Any] = {"__name__": "rsh_helper"}
    exec(compile(HELPER, str(PAGE), "exec"), names)
    return names["Rsh"]


def test_as_documented() -> None:
    names: dict[str, Any] = {
        "Play": Play,
        "Rsh": example(),
        "Stream": Stream,
        "assigned": assigned,
        "masquerade": masquerade,
        "CLIENT": CLIENT,
        "NEIGHBOUR": NEIGHBOUR,
        "ROUTER": ROUTER,
        "SERVER": SERVER,
        "IP_CT_RELATED": IP_CT_RELATED,
        "accept": accept,
        "tcp": tcp,
    }
    exec(compile(TEST, str(PAGE), "exec"), names)
    names["test_rsh"]()
    assert names["Rsh"].name == "rsh"


def test_later_and_other_bytes_announce_nothing(family: int) -> None:
    play = Play(family, raw_rules=assigned("rsh", 514), helpers=(example(),))
    stream = Stream(play, CLIENT, SERVER, 514).open()
    assert play >> stream.segment(CLIENT, "PA", b"10", seq=stream.seq["client"]) << dropped(HELPER_PARTIAL)
    stream.says(CLIENT, b"x\0")
    stream.says(CLIENT, b"1022\0")
    assert expected(play) == []


def test_after_a_restart_no_later_bytes_count_as_the_first(family: int) -> None:
    play = Play(family, raw_rules=assigned("rsh", 514), helpers=(example(),))
    stream = Stream(play, CLIENT, SERVER, 514).open()
    stream.says(CLIENT, b"1022\0")
    assert len(expected(play)) == 1
    play >> restart()
    stream.says(CLIENT, b"1023\0")
    stream.says(CLIENT, b"10")
    assert [shown(known)[2] for known in expected(play)] == [1022]

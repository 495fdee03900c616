"""The request `targets`, over a real socket."""

from pathlib import Path

import pytest

from tests.support.rules import rules_of
from tests.support.stage import Stage, play

RULES = """
    [[nat]]
    action = "DNAT"
    proto = "tcp"
    comment = "web"
    to = ["192.168.1.10:80 weight 3", "192.168.1.11:80"]

    [[nat]]
    action = "DNAT"
    proto = "udp"
    to = ["192.168.1.10:53", "192.168.1.12"]
"""


def downs(answer: dict[str, object]) -> list[str]:
    found = answer["targets"]
    assert isinstance(found, list)
    return [f"{row['rule']} {row['target']}" for row in found if row["down"]]


@pytest.mark.parametrize(
    ("target", "down"),
    [
        ("192.168.1.10", ["nat[0] 192.168.1.10:80", "nat[1] 192.168.1.10:53"]),
        ("192.168.1.10:80", ["nat[0] 192.168.1.10:80"]),
        ("192.168.1.12", ["nat[1] 192.168.1.12"]),
    ],
)
def test_a_target_is_marked_down_and_up(path: Path, target: str, down: list[str]) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.engine.nat.replace_rules(rules_of(RULES))
        listed = await stage.ask("targets")
        assert listed["targets"][0] == {
            "rule": "nat[0]",
            "comment": "web",
            "target": "192.168.1.10:80",
            "weight": 3,
            "down": False,
            "connections": 0,
        }
        assert downs(await stage.ask("targets", set="down", target=target)) == down
        assert downs((await stage.ask("status"))["status"]) == down
        assert downs(await stage.ask("targets", set="up", target=target)) == []

    play(path, scene)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"set": "down"}, "targets needs set and target, or neither"),
        ({"target": "192.168.1.10"}, "targets needs set and target, or neither"),
        ({"set": "down", "target": "192.168.1.9"}, "Operation failed: no rule has a target 192.168.1.9"),
        ({"set": "down", "target": "192.168.1.10:81"}, "Operation failed: no rule has a target 192.168.1.10:81"),
        ({"set": "down", "target": "web"}, "Invalid IP address `web'"),
        ({"set": "away", "target": "192.168.1.10"}, "Invalid enum value 'away' - at `$.set`"),
    ],
)
def test_what_is_refused(path: Path, arguments: dict[str, str], error: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.engine.nat.replace_rules(rules_of(RULES))
        assert await stage.ask("targets", **arguments) == {"error": error}

    play(path, scene)

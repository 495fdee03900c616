"""conntrack-py(8): its examples are valid, and its list of JSON keys is complete."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import NoReturn

import pytest
from generators import manual_conntrack, roff
from generators import manual_conntrack_text as text
from generators.differences import DIFFERENCES

from conntrackd_py.cli.conntrack.commands import run_command
from conntrackd_py.cli.conntrack.options import BY_KEY, COMMANDS, EVERYTHING
from conntrackd_py.cli.conntrack.parse import parse
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.const import IPS_DYING
from conntrackd_py.control import view
from tests.support.router import Router


class AskedError(Exception):
    """The line is valid: the command would now connect to the daemon."""


def ask() -> NoReturn:
    raise AskedError


def commands_of(line: str) -> list[list[str]]:
    """The words of each conntrack-py in an example of shell."""
    lexer = shlex.shlex(line.replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = []
    inside = False
    for word in lexer:
        if word == "conntrack-py":
            found.append([])
            inside = True
        elif not word.strip("|&;<>()"):
            inside = False
        elif inside:
            found[-1].append(word)
    return found


@pytest.mark.parametrize("line", [line for line, _ in text.EXAMPLES])
def test_an_example_is_valid(line: str) -> None:
    commands = commands_of(line)
    assert commands
    for words in commands:
        parsed = parse(words)
        if parsed.command != "R":
            with pytest.raises(AskedError):
                run_command(parsed, ask)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=[difference.line for difference in DIFFERENCES])
def test_a_difference_is_wrong_usage_or_not(difference: tuple[str, int, int, str]) -> None:
    line, _, ours, _ = difference

    def run() -> None:
        run_command(parse(line.split()), ask)

    with pytest.raises(UsageError if ours == 2 else AskedError):
        run()


def test_every_option_and_command_is_on_the_page() -> None:
    page = manual_conntrack.page()
    for option in EVERYTHING:
        assert roff.inline(manual_conntrack._term(option)) in page
    assert set(text.MORE) <= set(BY_KEY) | {option.key for option in COMMANDS}


def test_the_json_keys_are_those_there_are() -> None:
    router = Router()
    core = router.engine.core
    core.accounting = core.timestamps = True
    core.events.enabled = True
    ct = router.established()
    ct.labels = 3
    listed = view.connection(ct, router.now, True, 0.0, {1: "lan0", 2: "wan0"})
    ct.status |= IPS_DYING
    events = [view.event(event, 0.0, True, True) for event in router.engine.drain_events()]
    known = view.expectation(router.expect(router.established(40001, 21), 3000), router.now)
    expectation_keys = {"timeout", "family", "proto", "protonum", "id", "zone", *text.JSON_EXPECTATION_KEYS}
    assert _keys(listed) <= text.JSON_KEYS.keys()
    assert text.JSON_KEYS.keys() - _keys(listed) == {"zone", "stop"}
    for event in events:
        assert _keys(event) - _keys(listed) <= text.JSON_EVENT_KEYS.keys()
    assert _keys(known) <= expectation_keys
    assert expectation_keys - _keys(known) == {"zone"}


def _keys(described: Mapping[str, object]) -> set[str]:
    return set(described)

"""What completion and manual know of conntrackd-py is what its parsers know."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from generators import completion_bash, completion_fish, completion_zsh, manual_conntrackd
from generators.completion import FILE, MAYBE, NOTHING, VALUE
from generators.subcommands import every

from conntrackd_py.cli.conntrackd.main import COMMANDS, Command, command_line


def test_the_program_itself_is_as_its_parser_has_it() -> None:
    theirs = {tuple(action.option_strings) for action in command_line()._actions if action.option_strings}
    program = next(every())
    assert {option.names for option in program.options} == theirs
    assert [child.name for child in program.subcommands] == list(COMMANDS)


def test_subcommands_of_subcommands() -> None:
    paths = [node.path for node in every()]
    assert paths.index(("rules", "print")) == paths.index(("rules",)) + 1
    assert {"run", "rules", "explain"} <= {path[0] for path in paths if path}


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subcommand unknown to the generators."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what", nargs="*", metavar="WHAT", choices=["flies", "bees"], help="what to count")
        one = parser.add_mutually_exclusive_group()
        one.add_argument("--every", "-n", metavar="SECONDS", default=2, help="seconds between (%(default)s)")
        one.add_argument("--once", action="store_true", help="only once: it's enough")
        parser.add_argument("--colour", nargs="?", choices=["always", "never"])
        parser.add_argument("--log", type=Path, required=True)

    monkeypatch.setitem(COMMANDS, "another", Command("count: [things]", add_arguments, "none"))


@pytest.mark.usefixtures("another")
def test_a_new_subcommand_is_found_with_all_it_has() -> None:
    node = next(node for node in every() if node.path == ("another",))
    by_name = {option.names[-1]: option for option in node.options}
    assert list(by_name) == ["--help", "--every", "--once", "--colour", "--log"]
    assert by_name["--every"].names == ("-n", "--every")
    assert by_name["--every"].help == "seconds between (2)"
    assert [by_name[name].takes for name in ("--every", "--once", "--colour")] == [VALUE, NOTHING, MAYBE]
    assert by_name["--colour"].value.words == ("always", "never")
    assert by_name["--log"].value == FILE
    assert by_name["--log"].required
    (what,) = node.arguments
    assert (what.value.words, what.repeated) == (("flies", "bees"), True)


@pytest.mark.usefixtures("another")
def test_a_new_subcommand_is_completed_and_documented_by_itself() -> None:
    assert "another" in completion_bash.conntrackd()
    assert "-s n -l every -x -d 'Seconds between (2)'" in completion_fish.conntrackd()
    assert "'another:Count: [things]'" in completion_zsh.conntrackd()
    assert "'[Only once\\: it'\\''s enough]'" in completion_zsh.conntrackd()
    page = manual_conntrackd.page()
    assert ".SS another\n" in page.replace('"', "")
    assert "Seconds between (2)." in page

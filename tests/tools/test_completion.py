"""Completion offers what the parser takes: every option with every command, table and protocol, both ways."""

from __future__ import annotations

import pytest
from generators import completion

from conntrackd_py.cli.conntrack.options import ALL, EVERYTHING, OPTIONS, TABLES, Option
from conntrackd_py.cli.conntrack.parse import parse
from conntrackd_py.cli.conntrack.request import read
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.const import PROTO_NAMES

# Names of values in the help that cannot be completed.
FREE = {
    *("", "ip", "ip[/bits]", "[ip[:port]]", "port", "seconds", "mark[/mask]", "mask", "secmark", "zone", "bytes"),
    *("number", "tag", "key", "time"),
}


def legal(command: str, table: str, option: Option, proto: str) -> bool:
    """Whether the parser accepts the option; other options may be missing."""
    value = [] if not option.argument else ["json"] if option.key == "output" else ["tcp"]
    words = [f"-{command}", "file" if command == "R" else table, f"--{option.long[0]}", *value]
    words += ["-p", proto] if option.protos else []
    try:
        parse(words)
    except UsageError as error:
        name = f"`--{option.long[0]}'"
        return f"Illegal option {name}" not in str(error) and f"option {name} needs" not in str(error)
    return True


# With a table that a command does not take, there are no options; test_the_tables_offered is about those.
COMMANDS_AND_TABLES = [
    *((command, "conntrack") for command in ALL),
    *((command, "expect") for command in ALL if "expect" in completion.tables(command)),
]


@pytest.mark.parametrize(("command", "table"), COMMANDS_AND_TABLES)
def test_the_options_offered_are_those_the_parser_takes(command: str, table: str) -> None:
    for option in OPTIONS:
        offered = command in completion.legal(option)[table == "expect"]
        for proto in PROTO_NAMES.values() if option.protos else [""]:
            wanted = offered and (not option.protos or proto in option.protocols)
            assert legal(command, table, option, proto) == wanted, (command, table, option.key, proto)


@pytest.mark.parametrize("command", ALL.replace("R", "").replace("V", "").replace("h", ""))
def test_the_tables_offered_are_those_the_parser_takes(command: str) -> None:
    def taken(table: str) -> bool:
        try:
            parse([f"-{command}", table])
        except UsageError as error:
            return "Can't do" not in str(error)
        return True

    assert completion.tables(command) == tuple(table for table in TABLES if taken(table))


def test_every_kind_of_value_is_completed_or_known_to_be_free() -> None:
    for option in EVERYTHING:
        known = completion.value(option) != completion.FREE
        assert known or option.argument in FREE, f"nothing completes {option.argument} of --{option.long[0]}"


def test_the_words_offered_for_a_value_are_values() -> None:
    def understood(key: str, text: str, proto: str) -> None:
        read({"proto": proto, key: text})

    for option in OPTIONS:
        for word in completion.value(option).words:
            understood(option.key, word, "tcp")
    for proto, states in completion.states().items():
        for state in states:
            understood("state", state, proto)

"""Parses a command line of conntrack-py, as getopt_long does: short clusters (-Lp tcp, -ptcp), `--option=value`,
unique prefixes of long names, options and the table in any order. Messages and exit statuses are those of conntrack(8).

Differences: an option that needs -p may come before it, an extra word is an error, and -L has a table `mappings`.
"""

from typing import Final, NamedTuple

from conntrackd_py.cli.conntrack.options import (
    BY_KEY,
    COMMANDS,
    FORM_OF_EVERY_COMMAND,
    LONG,
    MAPPINGS,
    NEEDS,
    SHORT,
    TABLES,
    Need,
    Option,
)
from conntrackd_py.cli.conntrack.values import UsageError, protocol

LIST_ONLY: Final = ("dying", "unconfirmed", MAPPINGS)
NEVER_ON_EXPECT: Final = {"U": "update", "A": "add"}
FILTERS: Final = frozenset(
    {"src", "dst", "reply_src", "reply_dst", "proto", "status", "mark", "secmark", "label", "zone", "orig_zone"}
    | {"reply_zone", "host", "interface", "older_than", "younger_than", "stale"}
)  # conntrack(8) refuses -z with these, but not with -n, -g and -j


class Parsed(NamedTuple):
    command: str  # its letter; empty when none was given
    table: str
    values: dict[str, str]  # by key; empty for an absent optional argument
    file: str = ""  # of -R


def parse(arguments: list[str]) -> Parsed:
    """Parse a command line. Raises UsageError."""
    given: list[tuple[Option, str]] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            rest += waiting
            break
        if word.startswith("--"):
            given.append(_long(word, waiting))
        elif word.startswith("-") and len(word) > 1:
            given += _cluster(word, waiting)
        else:
            rest.append(word)
    return _assembled(given, rest)


def _long(word: str, waiting: list[str]) -> tuple[Option, str]:
    name, equals, value = word[2:].partition("=")
    meant = {LONG[name]} if name in LONG else {option for long, option in LONG.items() if long.startswith(name)}
    if len(meant) != 1:
        raise UsageError(f"unknown option `{word}'")
    option = meant.pop()
    if equals and not option.argument:
        raise UsageError(f"unknown option `{word}'")
    return option, value if equals else _argument(option, word, waiting)


def _cluster(word: str, waiting: list[str]) -> list[tuple[Option, str]]:
    given: list[tuple[Option, str]] = []
    letters = word[1:]
    while letters:
        option = SHORT.get(letters[0])
        if option is None:
            raise UsageError(f"unknown option `-{letters[0]}'")
        letters = letters[1:]
        if option.argument and letters and (option not in COMMANDS or letters in TABLES):
            given.append((option, letters))
            break
        given.append((option, "" if letters else _argument(option, f"-{option.short}", waiting)))
    return given


def _argument(option: Option, word: str, waiting: list[str]) -> str:
    """The value in the next word; empty if the option takes none."""
    if not option.argument:
        return ""
    optional = option.argument.startswith("[")
    if waiting and not (optional and waiting[0].startswith("-")):
        return waiting.pop(0)
    if optional:
        return ""
    raise UsageError(f"option `{word}' requires an argument")


def _assembled(given: list[tuple[Option, str]], rest: list[str]) -> Parsed:
    commands = [(option, value) for option, value in given if option in COMMANDS]
    if len(commands) > 1:
        raise UsageError("Invalid commands combination")
    command, table = (commands[0][0].key, commands[0][1]) if commands else ("", "")
    file = table if command == "R" else ""
    if command == "R":
        table = ""
    if not table and rest and command:
        table = rest.pop(0)
    if rest:
        raise UsageError(f"unexpected argument `{rest[0]}'")
    if table and table not in TABLES:
        raise UsageError(f"unknown type `{table}'")
    table = table or "conntrack"
    if table == MAPPINGS and command != "L":
        raise UsageError("Can't do that command with table `mappings'")
    if table in LIST_ONLY and command != "L":
        raise UsageError("Can't do that command with tables `dying' and `unconfirmed'")
    if table == "expect" and command in NEVER_ON_EXPECT:
        raise UsageError(f"Can't do --{NEVER_ON_EXPECT[command]} on expectations")
    values: dict[str, str] = {}
    for option, value in given:
        if option not in COMMANDS:
            both = option.key == "output" and "output" in values
            values[option.key] = f"{values['output']},{value}" if both else value
    _check(command, table, values)
    return Parsed(command, table, values, file)


def _check(command: str, table: str, values: dict[str, str]) -> None:
    """Raises UsageError for illegal and missing options and illegal combinations."""
    if command == "R":
        for key in values:
            if "R" not in BY_KEY[key].commands:
                raise UsageError(f"Illegal option `{_name(key)}' with this command")
        return
    proto = protocol(values["proto"]) if "proto" in values else -1
    for key, value in values.items():
        option = BY_KEY[key]
        if option.protos and proto not in option.protos:
            raise UsageError(f"option `{_name(key)}' needs -p {' or '.join(option.protocols)}")
        legal = option.expect if table == "expect" else "" if table == MAPPINGS else option.commands
        if (not command or command not in legal) and not (
            key == "output" and command and value == FORM_OF_EVERY_COMMAND
        ):
            raise UsageError(f"Illegal option `{_name(key)}' with this command")
    if not command:
        return
    for need in NEEDS:
        if command in need.commands and table == need.table and (not need.protos or proto in need.protos):
            _satisfied(need, values)
    _together(command, table, values)


def _satisfied(need: Need, values: dict[str, str]) -> None:
    if any(all(key in values for key in keys) for keys in need.choices):
        return
    if len(need.choices) > 1:
        first, second = need.choices[0]
        raise UsageError(f"you have to specify `{_name(first)}' and `{_name(second)}'")
    missing = next(key for key in need.choices[0] if key not in values)
    raise UsageError(f"You need to supply the `{_name(missing)}' option for this command")


def _together(command: str, table: str, values: dict[str, str]) -> None:
    for mask, address in (("src_mask", "src"), ("dst_mask", "dst")):
        if mask in values and address not in values:
            raise UsageError(f"Can't use {_name(mask)} without {_name(address)}")
    if "any_nat" in values and ("src_nat" in values or "dst_nat" in values):
        raise UsageError("cannot specify `--src-nat' or `--dst-nat' with `--any-nat'")
    if "zero" in values and FILTERS & values.keys():
        raise UsageError("Can't use -z with filtering parameters")
    if command in "IAG" and table == "conntrack":
        for key in ("src", "dst", "reply_src", "reply_dst"):
            if "/" in values.get(key, ""):
                raise UsageError(f"Illegal option `--mask-{key[-3:]}' with this command")


def _name(key: str) -> str:
    return f"--{BY_KEY[key].long[0]}"

"""conntrackd-py's subcommands, read from its argparse parsers: for completion and the manual page.

A new subcommand in COMMANDS appears without a change here.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from conntrackd_py.cli.conntrackd.main import command_line
from generators.completion import FILE, FREE, MAYBE, NOTHING, PROTOCOL, VALUE, Value

PROGRAM: Final = "conntrackd-py"
BY_DESTINATION: Final = {"proto": PROTOCOL}


class Argument(NamedTuple):
    """An option, or a positional argument, which has no names. metavar: name of the value; takes: as in completion.

    repeated: it may be given more than once.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    takes: str
    value: Value
    required: bool
    repeated: bool


class Subcommand(NamedTuple):
    """path: the words of the subcommand; empty for the program itself."""

    path: tuple[str, ...]
    help: str
    options: tuple[Argument, ...]
    arguments: tuple[Argument, ...]
    subcommands: "tuple[Subcommand, ...]"

    @property
    def name(self) -> str:
        return self.path[-1]


# argparse's own help text would be translated.
HELP: Final = Argument(("-h", "--help"), "", "show a short help", NOTHING, FREE, False, False)


def every() -> Iterator[Subcommand]:
    """The program, its subcommands, and the subcommands of these."""
    waiting = [_subcommand((), "", command_line())]
    while waiting:
        node = waiting.pop(0)
        yield node
        waiting = [*node.subcommands, *waiting]


def _subcommand(path: tuple[str, ...], text: str, parser: argparse.ArgumentParser) -> Subcommand:
    options, arguments = [HELP], []
    children: list[Subcommand] = []
    for action in parser._actions:  # noqa: SLF001  argparse has no public accessor
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            children = [_subcommand((*path, name), helps[name], child) for name, child in action.choices.items()]
        elif action.option_strings and "--help" not in action.option_strings:
            options.append(_argument(action))
        elif not action.option_strings:
            arguments.append(_argument(action))
    return Subcommand(path, text, tuple(options), tuple(arguments), tuple(children))


def _argument(action: argparse.Action) -> Argument:
    help_text = action.help or ""
    if "%" in help_text:
        help_text = help_text % vars(action)
    many = action.nargs in ("*", "+")
    return Argument(
        names=tuple(sorted(action.option_strings, key=len)),
        metavar=_metavar(action),
        help=help_text,
        takes=NOTHING if action.nargs == 0 else MAYBE if action.nargs == "?" else VALUE,
        value=_value(action),
        required=action.required,
        repeated=many or isinstance(action.default, list),
    )


def _metavar(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar is not None:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if action.choices is not None:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper()


def _value(action: argparse.Action) -> Value:
    choices: Any = action.choices
    if action.nargs == 0:
        return FREE
    if choices is not None:
        return Value(f"{action.dest}", tuple(str(choice) for choice in choices))
    if action.type is Path or action.metavar in ("FILE", "PATH"):
        return FILE
    return BY_DESTINATION.get(action.dest, FREE)

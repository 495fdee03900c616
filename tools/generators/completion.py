"""What completion knows about conntrack-py: the options each command takes, and the values of each option.

It comes from the tables in cli/conntrack/options.py; completion_bash, _zsh and _fish write it for their shell.
Completion does not check which options exclude or require each other; the parser does.
"""

from typing import Final, NamedTuple

from conntrackd_py.cli.conntrack.options import (
    ALL,
    COMMANDS,
    EVENTS,
    FORM_OF_EVERY_COMMAND,
    FORMS,
    OPTIONS,
    ROLES,
    SORT_KEYS,
    STATUSES,
    TABLES,
    Option,
)
from conntrackd_py.cli.conntrack.output import ALONE
from conntrackd_py.cli.conntrack.parse import LIST_ONLY, NEVER_ON_EXPECT
from conntrackd_py.cli.conntrack.request import STATE_ALIASES
from conntrackd_py.cli.conntrack.values import LABEL_FILES
from conntrackd_py.const import IPPROTO_TCP, PROTO_NAMES
from conntrackd_py.control.matcher import STATES
from conntrackd_py.match.address import FAMILIES

NOTHING: Final = ""
VALUE: Final = "value"
MAYBE: Final = "maybe"  # an optional value


class Value(NamedTuple):
    """A kind of value. name: unique.

    words: the choices; command: a POSIX shell command that prints choices, one a line; files: complete file names.
    several: comma-separated, except the words in `alone`; signed: each word may have a minus before it.
    """

    name: str
    words: tuple[str, ...] = ()
    command: str = ""
    files: bool = False
    several: bool = False
    alone: tuple[str, ...] = ()
    signed: bool = False


FREE: Final = Value("free")  # not completed
FILE: Final = Value("file", files=True)
PROTOCOL: Final = Value("protocol", tuple(PROTO_NAMES.values()))
STATE: Final = Value("state")  # the words depend on the protocol: states()
FORM: Final = Value("form", tuple(FORMS), several=True, alone=ALONE)
TABLE: Final = Value("table")  # the words depend on the command: tables()
LABEL_COMMAND: Final = (
    r"""command sed -n 's/^[[:space:]]*[0-9][0-9a-fA-Fx]*[[:space:]]\{1,\}\([A-Za-z0-9-]\{1,\}\)[[:space:]]*$/\1/p' """
    f"{LABEL_FILES[0]} 2>/dev/null"
)
LABEL: Final = Value("label", command=LABEL_COMMAND, several=True)

# By the name of the value in the help, without [brackets].
VALUES: Final = {
    "table": TABLE,
    "file": FILE,
    "path": FILE,
    "proto": PROTOCOL,
    "family": Value("family", tuple(FAMILIES)),
    "flag[,...]": Value("status", STATUSES, several=True),
    "event[,...]": Value("event", EVENTS, several=True),
    "form[,...]": FORM,
    "key[,...]": Value("sort", SORT_KEYS, several=True, signed=True),
    "label[,...]": LABEL,
    "state": STATE,
    "role": Value("role", ROLES),
    "name": Value("interface", command="command ls /sys/class/net 2>/dev/null"),
}


def value(option: Option) -> Value:
    """The kind of the option's value; FREE for an address, a number, or no value."""
    text = option.argument
    return VALUES.get(text[1:-1] if text.startswith("[") else text, FREE)


def takes(option: Option) -> str:
    """NOTHING, VALUE or MAYBE."""
    if not option.argument:
        return NOTHING
    return MAYBE if option.argument.startswith("[") else VALUE


def legal(option: Option) -> tuple[str, str]:
    """The letters of the commands that take it, on connections and on expectations."""
    if option.key != "output":
        return option.commands, option.expect
    everywhere = ALL.replace("R", "")
    return everywhere, everywhere.translate({ord(letter): None for letter in NEVER_ON_EXPECT})


def forms(command: str, table: str) -> tuple[str, ...]:
    """The forms of -o that a command takes. command: its letter."""
    output = next(option for option in OPTIONS if option.key == "output")
    return (
        FORM.words if command in (output.expect if table == "expect" else output.commands) else (FORM_OF_EVERY_COMMAND,)
    )


def tables(command: str) -> tuple[str, ...]:
    """The tables that a command takes. command: its letter."""
    if command in ("R", "V", "h"):
        return ()
    return tuple(
        table
        for table in TABLES
        if not (table in LIST_ONLY and command != "L") and not (table == "expect" and command in NEVER_ON_EXPECT)
    )


def states() -> dict[str, tuple[str, ...]]:
    """The states by the name of the protocol."""
    found = {PROTO_NAMES[number]: names for number, names in STATES.items()}
    return found | {PROTO_NAMES[IPPROTO_TCP]: (*STATES[IPPROTO_TCP], *STATE_ALIASES)}


def proto_patterns() -> dict[str, str]:
    """A pattern for each protocol: its name in lower case, or its number."""
    return {name: f"{name}|{number}" for number, name in PROTO_NAMES.items()}


def command_patterns() -> dict[str, str]:
    """A shell pattern for each command: its letter and its long names."""
    return {option.key: "|".join(option.names) for option in COMMANDS}


def sentence(text: str) -> str:
    """The text with a capital letter, for the help texts of argparse."""
    return text[:1].upper() + text[1:]

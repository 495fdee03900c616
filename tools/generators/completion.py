"""What completes a command line of conntrack-py: which options are legal, and what their values can be.

Made of the tables of conntrack_options, as the parser is; completion_bash, _zsh and _fish write it in their shell's
language. A shell does not repeat all of the parser: what may not stand together, and what must, it leaves to it.
"""

from typing import Final, NamedTuple

from conntrackd_py.cli.conntrack.filter import STATE_ALIASES
from conntrackd_py.cli.conntrack.labels import PATHS
from conntrackd_py.cli.conntrack.options import (
    ALL,
    COMMANDS,
    EVENTS,
    FORMS,
    OPTIONS,
    OURS_EVERYWHERE,
    ROLES,
    SORT_KEYS,
    STATUSES,
    TABLES,
    Option,
)
from conntrackd_py.cli.conntrack.output import ALONE
from conntrackd_py.cli.conntrack.parse import LIST_ONLY, NEVER_ON_EXPECT
from conntrackd_py.const import IPPROTO_TCP, PROTO_NAMES
from conntrackd_py.control.matcher import FAMILIES, STATES

WRITTEN: Final = "Written by scripts/generate from the tables of the program; do not edit."

NOTHING: Final = ""
VALUE: Final = "value"
MAYBE: Final = "maybe"  # a value that may be absent


class Value(NamedTuple):
    """What completes a value. name: of the kind, unique.

    words: to choose from; command: for a POSIX shell, prints more of them, one a line; files: names of files.
    several: separated by commas, but those of `alone` by themselves; signed: a minus may stand before each.
    """

    name: str
    words: tuple[str, ...] = ()
    command: str = ""
    files: bool = False
    several: bool = False
    alone: tuple[str, ...] = ()
    signed: bool = False


FREE: Final = Value("free")  # whatever the operator knows
FILE: Final = Value("file", files=True)
PROTOCOL: Final = Value("protocol", tuple(PROTO_NAMES.values()))
STATE: Final = Value("state")  # its words are those of the protocol: states()
FORM: Final = Value("form", tuple(FORMS), several=True, alone=ALONE)
TABLE: Final = Value("table")  # its words are those of the command: tables()
LABEL_COMMAND: Final = (
    r"""command sed -n 's/^[[:space:]]*[0-9][0-9a-fA-Fx]*[[:space:]]\{1,\}\([A-Za-z0-9-]\{1,\}\)[[:space:]]*$/\1/p' """
    f"{PATHS[0]} 2>/dev/null"
)
LABEL: Final = Value("label", command=LABEL_COMMAND, several=True)

# By what the help calls the value; [brackets] around all of it are the option's affair.
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
    """What completes the option's value; FREE for an address, a number, or no value at all."""
    text = option.argument
    return VALUES.get(text[1:-1] if text.startswith("[") else text, FREE)


def takes(option: Option) -> str:
    """NOTHING, VALUE or MAYBE."""
    if not option.argument:
        return NOTHING
    return MAYBE if option.argument.startswith("[") else VALUE


def names(option: Option) -> list[str]:
    """As they are typed, the short one first."""
    return ([f"-{option.short}"] if option.short else []) + [f"--{name}" for name in option.long]


def protocols(option: Option) -> list[str]:
    """Those with which it is legal; none: it is with or without any."""
    return [PROTO_NAMES[number] for number in option.protos]


def legal(option: Option) -> tuple[str, str]:
    """The letters of the commands that take it, on connections and on expectations."""
    if option.key != "output":
        return option.commands, option.expect
    everywhere = ALL.replace("R", "")
    return everywhere, everywhere.translate({ord(letter): None for letter in NEVER_ON_EXPECT})


def forms(command: str, table: str) -> tuple[str, ...]:
    """Of -o with this command, by its letter."""
    output = next(option for option in OPTIONS if option.key == "output")
    return FORM.words if command in (output.expect if table == "expect" else output.commands) else (OURS_EVERYWHERE,)


def tables(command: str) -> tuple[str, ...]:
    """That may stand after a command, by its letter."""
    if command in ("R", "V", "h"):
        return ()
    return tuple(
        table
        for table in TABLES
        if not (table in LIST_ONLY and command != "L") and not (table == "expect" and command in NEVER_ON_EXPECT)
    )


def states() -> dict[str, tuple[str, ...]]:
    """By the protocol's name."""
    found = {PROTO_NAMES[number]: names for number, names in STATES.items()}
    return found | {PROTO_NAMES[IPPROTO_TCP]: (*STATES[IPPROTO_TCP], *STATE_ALIASES)}


def letters(option: Option) -> str:
    """Of a command: the letter and every long name, as a shell's pattern has them."""
    return "|".join(names(option))


def proto_patterns() -> dict[str, str]:
    """A pattern for each protocol: its name in lower case, or its number."""
    return {name: f"{name}|{number}" for number, name in PROTO_NAMES.items()}


def command_patterns() -> dict[str, str]:
    return {option.key: letters(option) for option in COMMANDS}


def sentence(text: str) -> str:
    """With a capital letter: argparse's helps begin with a small one."""
    return text[:1].upper() + text[1:]

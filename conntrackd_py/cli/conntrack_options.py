"""The options of conntrack-py, one table: parsing, --help, completion and manual page are all made of it.

Read as getopt_long reads them: short clusters (-Lp tcp, -ptcp), `--option=value`, unique prefixes of long
names, options and the table's name in any order. Messages and exit statuses are conntrack(8)'s.
"""

from typing import Final, NamedTuple


class Option(NamedTuple):
    """key: where the value goes; argument: its name in the help, [in brackets] when it may be absent."""

    key: str
    short: str
    long: tuple[str, ...]  # the first is its name in messages
    argument: str
    commands: str  # short letters of the commands that take it
    help: str


COMMANDS: Final = (
    Option("L", "L", ("dump", "list"), "[table]", "", "List connections"),
    Option("D", "D", ("delete",), "[table]", "", "Delete connections"),
    Option("E", "E", ("event",), "[table]", "", "Show events"),
    Option("F", "F", ("flush",), "[table]", "", "Flush the table"),
    Option("C", "C", ("count",), "[table]", "", "Show how many there are"),
    Option("S", "S", ("stats",), "[table]", "", "Show statistics"),
    Option("V", "V", ("version",), "", "", "Show the version"),
    Option("h", "h", ("help",), "", "", "Show this help"),
)
MATCHING: Final = "LDE"
OPTIONS: Final = (
    Option("proto", "p", ("protonum", "proto"), "proto", MATCHING, "Layer 4 protocol, name or number"),
    Option("family", "f", ("family",), "family", MATCHING, "Layer 3 protocol: ipv4 or ipv6"),
    Option("src", "s", ("src", "orig-src"), "ip[/bits]", MATCHING, "Source address, original direction"),
    Option("dst", "d", ("dst", "orig-dst"), "ip[/bits]", MATCHING, "Destination address, original direction"),
    Option("reply_src", "r", ("reply-src",), "ip[/bits]", MATCHING, "Source address, reply direction"),
    Option("reply_dst", "q", ("reply-dst",), "ip[/bits]", MATCHING, "Destination address, reply direction"),
    Option("sport", "", ("sport", "orig-port-src"), "port", MATCHING, "Source port, original direction"),
    Option("dport", "", ("dport", "orig-port-dst"), "port", MATCHING, "Destination port, original direction"),
    Option("reply_sport", "", ("reply-port-src",), "port", MATCHING, "Source port, reply direction"),
    Option("reply_dport", "", ("reply-port-dst",), "port", MATCHING, "Destination port, reply direction"),
    Option("icmp_type", "", ("icmp-type", "icmpv6-type"), "number", MATCHING, "ICMP type"),
    Option("icmp_code", "", ("icmp-code", "icmpv6-code"), "number", MATCHING, "ICMP code"),
    Option("icmp_id", "", ("icmp-id", "icmpv6-id"), "number", MATCHING, "ICMP identifier"),
    Option("state", "", ("state",), "state", MATCHING, "Protocol state, as ESTABLISHED"),
    Option("status", "u", ("status",), "flag[,...]", MATCHING, "Status flags, as ASSURED"),
    Option("mark", "m", ("mark",), "mark[/mask]", MATCHING, "Connection mark"),
    Option("zone", "w", ("zone",), "zone", MATCHING, "Zone, of both directions"),
    Option("orig_zone", "", ("orig-zone",), "zone", MATCHING, "Zone of the original direction only"),
    Option("reply_zone", "", ("reply-zone",), "zone", MATCHING, "Zone of the reply direction only"),
    Option("src_nat", "n", ("src-nat",), "[ip[:port]]", MATCHING, "Source-translated, to this address"),
    Option("dst_nat", "g", ("dst-nat",), "[ip[:port]]", MATCHING, "Destination-translated, to this address"),
    Option("any_nat", "j", ("any-nat",), "[ip[:port]]", MATCHING, "Translated, to this address"),
    Option("mask", "e", ("event-mask",), "event[,...]", "E", "NEW, UPDATES, DESTROY, ALL"),
    Option("output", "o", ("output",), "form[,...]", MATCHING, "extended, timestamp, id, ktimestamp, labels; or json"),
    Option("socket", "", ("socket",), "path", "LDEFCS", "The daemon's control socket"),
)
OF_EXPECTATIONS: Final = frozenset({"family", "output", "socket"})
TABLES: Final = ("conntrack", "expect", "dying", "unconfirmed")
EVERYTHING: Final = COMMANDS + OPTIONS
SHORT: Final = {option.short: option for option in EVERYTHING if option.short}
LONG: Final = {name: option for option in EVERYTHING for name in option.long}


class UsageError(Exception):
    """The command line cannot be understood: exit status 2."""


class Parsed(NamedTuple):
    command: str  # its letter; empty when none was given
    table: str
    values: dict[str, str]  # by key; empty for an absent optional argument


def parse(arguments: list[str]) -> Parsed:
    """Read a command line. Raises UsageError."""
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
    return _checked(given, rest)


def _long(word: str, waiting: list[str]) -> tuple[Option, str]:
    name, equals, value = word[2:].partition("=")
    meant = {LONG[name]} if name in LONG else {option for long, option in LONG.items() if long.startswith(name)}
    if len(meant) != 1:
        raise UsageError(f"unknown option `{word}'")
    option = meant.pop()
    if equals and not option.argument:
        raise UsageError(f"option `--{option.long[0]}' takes no argument")
    return option, value if equals else _argument(option, word, waiting)


def _cluster(word: str, waiting: list[str]) -> list[tuple[Option, str]]:
    given: list[tuple[Option, str]] = []
    letters = word[1:]
    while letters:
        option = SHORT.get(letters[0])
        if option is None:
            raise UsageError(f"unknown option `-{letters[0]}'")
        letters = letters[1:]
        if option.argument and letters and option not in COMMANDS:
            given.append((option, letters))
            break
        given.append((option, "" if letters else _argument(option, f"-{option.short}", waiting)))
    return given


def _argument(option: Option, word: str, waiting: list[str]) -> str:
    """The next word, when the option takes one."""
    if not option.argument:
        return ""
    optional = option.argument.startswith("[")
    if waiting and not (optional and waiting[0].startswith("-")):
        return waiting.pop(0)
    if optional:
        return ""
    raise UsageError(f"option `{word}' requires an argument")


def _checked(given: list[tuple[Option, str]], rest: list[str]) -> Parsed:
    commands = [(option, value) for option, value in given if option in COMMANDS]
    if len(commands) > 1:
        raise UsageError("Invalid commands combination")
    command, table = (commands[0][0].key, commands[0][1]) if commands else ("", "")
    if not table and rest and command:
        table = rest.pop(0)
    if rest:
        raise UsageError(f"unexpected argument `{rest[0]}'")
    if table and table not in TABLES:
        raise UsageError(f"unknown type `{table}'")
    values: dict[str, str] = {}
    for option, value in given:
        if option in COMMANDS:
            continue
        if command not in option.commands:
            raise UsageError(f"Illegal option `--{option.long[0]}' with this command")
        both = option.key == "output" and "output" in values
        values[option.key] = f"{values['output']},{value}" if both else value
    if table in ("dying", "unconfirmed") and command != "L":
        raise UsageError("Can't do that command with tables `dying' and `unconfirmed'")
    if table == "expect" and command == "L":
        for option, _ in given:
            if option not in COMMANDS and option.key not in OF_EXPECTATIONS:
                raise UsageError(f"Illegal option `--{option.long[0]}' with this command")
    return Parsed(command, table or "conntrack", values)


def usage(program: str, version: str) -> str:
    lines = [
        f"Connection tracking in userspace, as conntrack(8) shows it. Version {version}",
        f"Usage: {program} command [table] [options]",
        "",
        "Commands:",
    ]
    lines += [_help(option) for option in COMMANDS]
    lines += ["", f"Tables: {', '.join(TABLES)}", "", "Options:"]
    lines += [_help(option) for option in OPTIONS]
    return "\n".join(lines)


def _help(option: Option) -> str:
    names = ", ".join(([f"-{option.short}"] if option.short else []) + [f"--{name}" for name in option.long])
    return f"  {f'{names} {option.argument}'.rstrip():<44} {option.help}"

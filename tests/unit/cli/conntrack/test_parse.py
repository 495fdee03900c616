"""Command lines: the command, its table, and the messages of conntrack(8) for wrong ones."""

import pytest

from conntrackd_py.cli.conntrack.parse import parse
from conntrackd_py.cli.conntrack.values import UsageError


@pytest.mark.parametrize(
    ("line", "command", "table"),
    [
        ("", "", "conntrack"),
        ("-L", "L", "conntrack"),
        ("-L dying", "L", "dying"),
        ("-L mappings -o json", "L", "mappings"),
        ("--dump unconfirmed -p tcp", "L", "unconfirmed"),
        ("-p tcp -L dying", "L", "dying"),
        ("-E conntrack", "E", "conntrack"),
        ("-C expect", "C", "expect"),
        ("--stats", "S", "conntrack"),
    ],
)
def test_the_command_and_its_table(line: str, command: str, table: str) -> None:
    parsed = parse(line.split())
    assert (parsed.command, parsed.table) == (command, table)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-X", "unknown option `-X'"),
        ("--bogus", "unknown option `--bogus'"),
        ("-L --s 10.0.0.1", "unknown option `--s'"),
        ("-L bogus", "unknown type `bogus'"),
        ("-L conntrack extra", "unexpected argument `extra'"),
        ("-L -D", "Invalid commands combination"),
        ("-L -L", "Invalid commands combination"),
        ("-V -L", "Invalid commands combination"),
        ("-L -p", "option `-p' requires an argument"),
        ("-L --src", "option `--src' requires an argument"),
        ("-L -p nosuch", "`nosuch' unsupported protocol"),
        ("-L -p 256", "`256' unsupported protocol"),
        ("-L -p -1", "`-1' unsupported protocol"),
        ("-L --sport 5", "option `--sport' needs -p tcp or udp or udplite or sctp or dccp"),
        ("-L -p udp --state ESTABLISHED", "option `--state' needs -p tcp or sctp or dccp"),
        ("-L -w", "option `-w' requires an argument"),
        ("-C -w 7", "Illegal option `--zone' with this command"),
        ("-L expect -s 10.0.0.1", "Illegal option `--src' with this command"),
        ("-L -e NEW", "Illegal option `--event-mask' with this command"),
        ("-F -p tcp", "Illegal option `--protonum' with this command"),
        ("-C -f ipv4", "Illegal option `--family' with this command"),
        ("-D dying", "Can't do that command with tables `dying' and `unconfirmed'"),
        ("-D mappings", "Can't do that command with table `mappings'"),
        ("-L mappings -p tcp", "Illegal option `--protonum' with this command"),
        ("-L mappings -o xml", "Illegal option `--output' with this command"),
        ("-L -n -j", "cannot specify `--src-nat' or `--dst-nat' with `--any-nat'"),
    ],
)
def test_usage_errors(line: str, why: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(line.split())
    assert str(raised.value) == why

"""Options as filters, and mistakes told in conntrack(8)'s words."""

import pytest
from msgspec import convert

from conntrackd_py.cli.conntrack.filter import event_mask, filter_of
from conntrackd_py.cli.conntrack.parse import parse
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.control.protocol.requests import Filter


@pytest.mark.parametrize(
    ("line", "spec"),
    [
        ("-L", {}),
        ("-L -p tcp", {"proto": 6}),
        ("-L -p TCP", {"proto": 6}),
        ("-Lptcp", {"proto": 6}),
        ("-Lp tcp", {"proto": 6}),
        ("-L --prot 17", {"proto": 17}),
        ("-L --protonum=udp", {"proto": 17}),
        ("-L -p igmp", {"proto": 2}),
        ("-L -s 10.0.0.1 -d 10.0.0.0/8", {"src": "10.0.0.1", "dst": "10.0.0.0/8"}),
        ("-L --orig-src 10.0.0.1 --reply-dst 10.0.0.2", {"src": "10.0.0.1", "reply_dst": "10.0.0.2"}),
        ("-L -s 10.0.0.1 -s 10.0.0.2", {"src": "10.0.0.2"}),
        ("-L -f ipv6 -r fd00::1", {"family": "ipv6", "reply_src": "fd00::1"}),
        ("-L --dport 0x50 -p tcp --orig-port-src 010", {"proto": 6, "dport": 80, "sport": 8}),
        ("-L -p icmp --icmp-type 8 --icmp-id=7", {"proto": 1, "icmp_type": 8, "icmp_id": 7}),
        ("-L -p tcp --state LISTEN", {"proto": 6, "state": "SYN_SENT2"}),
        ("-L -u assured,SEEN_REPLY", {"status": ["ASSURED", "SEEN_REPLY"]}),
        ("-L -m 5", {"mark": 5}),
        ("-L -m 0x10/0xf0", {"mark": 16, "mark_mask": 240}),
        ("-L -w 7", {"zone": 7}),
        ("-L --zone=0x7 --orig-zone 0 --reply-zone 65535", {"zone": 7, "orig_zone": 0, "reply_zone": 65535}),
        ("-L -n", {"src_nat": True}),
        ("-L -n 192.0.2.1:80 -g", {"src_nat": "192.0.2.1:80", "dst_nat": True}),
        ("-L -j [2001:db8::1]:53", {"any_nat": "[2001:db8::1]:53"}),
    ],
)
def test_options_become_a_filter(line: str, spec: dict[str, object]) -> None:
    assert filter_of(parse(line.split()).values) == convert(spec, Filter)


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
        ("-L -f IPv4", "`IPv4' unsupported protocol"),
        ("-L -s 1.2.3", "Invalid IP address `1.2.3'"),
        ("-L -s 10.0.0.0/33", "Invalid netmask `33'"),
        ("-L -s 10.0.0.1 -d fd00::1", "mismatched address family"),
        ("-L -p tcp --sport abc", "`abc' is not a number"),
        ("-L --sport 5", "option `--sport' needs -p tcp or udp or udplite or sctp or dccp"),
        ("-L -p udp --state ESTABLISHED", "option `--state' needs -p tcp or sctp or dccp"),
        ("-L -u BOGUS", "Bad parameter `BOGUS'"),
        ("-L -m abc", "`abc' is not a number"),
        ("-L -w", "option `-w' requires an argument"),
        ("-L -w abc", "`abc' is not a number"),
        ("-L -w 65536", "`65536' is not a number from 0 to 65535"),
        ("-C -w 7", "Illegal option `--zone' with this command"),
        ("-L expect -s 10.0.0.1", "Illegal option `--src' with this command"),
        ("-L -m 0x5/", "`' is not a number"),
        ("-L -e NEW", "Illegal option `--event-mask' with this command"),
        ("-F -p tcp", "Illegal option `--protonum' with this command"),
        ("-C -f ipv4", "Illegal option `--family' with this command"),
        ("-D dying", "Can't do that command with tables `dying' and `unconfirmed'"),
        (
            "-L -g [2001:db8::1]",
            "Invalid IP address `[2001:db8::1]': write [address]:port, or the address without brackets",
        ),
        ("-L -n -j", "cannot specify `--src-nat' or `--dst-nat' with `--any-nat'"),
    ],
)
def test_mistakes(line: str, why: str) -> None:
    with pytest.raises(UsageError) as raised:
        filter_of(parse(line.split()).values)
    assert str(raised.value) == why


@pytest.mark.parametrize(
    ("line", "command", "table"),
    [
        ("", "", "conntrack"),
        ("-L", "L", "conntrack"),
        ("-L dying", "L", "dying"),
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


def test_outputs_add_up_and_events_are_chosen() -> None:
    assert parse(["-L", "-o", "extended", "-o", "id"]).values["output"] == "extended,id"
    assert event_mask(parse(["-E", "-e", "new,DESTROY"]).values) == ("NEW", "DESTROY")
    assert event_mask(parse(["-E"]).values) == ("ALL",)
    with pytest.raises(UsageError, match="Bad parameter `NEW,BOGUS'"):
        event_mask(parse(["-E", "-e", "NEW,BOGUS"]).values)

"""Options become filters; errors have the messages of conntrack(8)."""

import pytest
from msgspec import convert

from conntrackd_py.cli.conntrack.parse import parse
from conntrackd_py.cli.conntrack.request import event_mask, filter_of
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
        ("-L -f IPv4", "`IPv4' unsupported protocol"),
        ("-L -s 1.2.3", "Invalid IP address `1.2.3'"),
        ("-L -s 10.0.0.0/33", "Invalid netmask `33'"),
        ("-L -s 10.0.0.1 -d fd00::1", "mismatched address family"),
        ("-L -p tcp --sport abc", "`abc' is not a number"),
        ("-L -u BOGUS", "Bad parameter `BOGUS'"),
        ("-L -m abc", "`abc' is not a number"),
        ("-L -w abc", "`abc' is not a number"),
        ("-L -w 65536", "`65536' is not a number from 0 to 65535"),
        ("-L -m 0x5/", "`' is not a number"),
        (
            "-L -g [2001:db8::1]",
            "Invalid IP address `[2001:db8::1]': write [address]:port, or the address without brackets",
        ),
    ],
)
def test_usage_errors(line: str, why: str) -> None:
    with pytest.raises(UsageError) as raised:
        filter_of(parse(line.split()).values)
    assert str(raised.value) == why


def test_outputs_add_up_and_events_are_chosen() -> None:
    assert parse(["-L", "-o", "extended", "-o", "id"]).values["output"] == "extended,id"
    assert event_mask(parse(["-E", "-e", "new,DESTROY"]).values) == ("NEW", "DESTROY")
    assert event_mask(parse(["-E"]).values) == ("ALL",)
    with pytest.raises(UsageError, match="Bad parameter `NEW,BOGUS'"):
        event_mask(parse(["-E", "-e", "NEW,BOGUS"]).values)

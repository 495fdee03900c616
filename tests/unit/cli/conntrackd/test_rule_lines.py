"""One line a rule."""

import tomllib

import pytest

from conntrackd_py.cli.conntrackd.rule_lines import rule_lines
from conntrackd_py.settings.load import parse


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '[[nat]]\naction = "MASQUERADE"\nout_interface = "eth0"',
            "nat[0]: MASQUERADE: family ipv4, out_interface eth0",
        ),
        ('[[nat]]\naction = "ACCEPT"\nfamily = "any"', "nat[0]: ACCEPT: family any"),
        (
            '[[nat]]\naction = "SNAT"\nto = "192.0.2.1-192.0.2.9:1024-65535"\nproto = "udp"\nrandom = true\n'
            'persistent = true\nsource = "!10.0.0.0/255.0.0.0"',
            "nat[0]: SNAT to 192.0.2.1-192.0.2.9:1024-65535 random persistent: "
            "family ipv4, source !10.0.0.0/8, proto udp",
        ),
        (
            '[[nat]]\naction = "DNAT"\nto = "[2001:db8::1]:80"\nproto = 6\ndport = "8000:8001"\nin_interface = "!eth+"',
            "nat[0]: DNAT to [2001:db8::1]:80: family ipv6, in_interface !eth+, proto tcp, dport 8000:8001",
        ),
        (
            '[[nat]]\naction = "DNAT"\nto = ":50-59/80"\nproto = ["tcp", "udp"]\ndport = [80, "90:91"]\n'
            'source = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1-192.0.2.9"]\nmark = "!1/3"\nct = "mark 1"',
            "nat[0]: DNAT to :50-59/80: family ipv4, source 10.0.0.0/8 192.0.2.1-192.0.2.9, proto tcp udp, "
            "dport 80 90:91, mark !0x1/0x3, ct mark 0x1",
        ),
        (
            '[[nat]]\naction = "DNAT"\nto = ["10.0.0.1:80 weight 3", "10.0.0.2"]\nproto = "tcp"\nin_interface = "wan0"',
            "nat[0]: DNAT to 10.0.0.1:80 weight 3, 10.0.0.2 weight 1 balance source: "
            "family ipv4, in_interface wan0, proto tcp",
        ),
        (
            '[[nat]]\naction = "DNAT"\nto = "10.0.0.1"\nhairpin = true\nin_interface = "wan0"',
            "nat[0]: DNAT to 10.0.0.1 hairpin: family ipv4, in_interface wan0",
        ),
        (
            '[[nat]]\naction = "NETMAP"\nto = "10.1.0.7/16"\nin_interface = "wan0"',
            "nat[0]: NETMAP to 10.1.0.0/16: family ipv4, in_interface wan0",
        ),
        (
            '[[nat]]\naction = "SNPT"\nto = "2001:db8:1::/48"\nsource = "fd00:1::/48"',
            "nat[0]: SNPT to 2001:db8:1::/48: family ipv6, source fd00:1::/48",
        ),
        ('[[nat]]\naction = "DNAT"\nto = "2001:db8::1"', "nat[0]: DNAT to 2001:db8::1: family ipv6"),
        (
            '[[nat]]\naction = "REDIRECT"\nto = 8080\nproto = "tcp"\nsport = "!80"',
            "nat[0]: REDIRECT to :8080: family ipv4, proto tcp, sport !80",
        ),
        (
            '[[filter.rule]]\nhooks = ["in", "forward"]\naction = "drop"\nproto = "!2"\n'
            'ct = "state established,related"',
            "filter.rule[0]: drop: hooks in forward, family any, proto !2, ct state established,related",
        ),
        (
            '[[filter.rule]]\nhook = "out"\naction = "reject"\nproto = "tcp"\nreject_with = "tcp-reset"\n'
            'ct = "-m conntrack --ctstate NEW,SNAT"\ndestination = "fd00::1"',
            "filter.rule[0]: reject with tcp-reset: hooks out, family ipv6, destination fd00::1, proto tcp, "
            "-m conntrack --ctstate NEW,SNAT",
        ),
        (
            '[[nat]]\naction = "MASQUERADE"\nmapping = "endpoint-independent"\nfiltering = "address"\nhairpin = true',
            "nat[0]: MASQUERADE mapping endpoint-independent filtering address hairpin: family ipv4",
        ),
        ("[[raw]]\nnotrack = true", "raw[0]: notrack: family any"),
        (
            '[[raw]]\nzone = 5\ntcp_tracker = "rfc7857"\ntimeouts = { nf_conntrack_udp_timeout = 3 }',
            "raw[0]: zone_orig 5, zone_reply 5, tcp_tracker rfc7857, nf_conntrack_udp_timeout 3: family any",
        ),
        ("[[raw]]\nzone = 0", "raw[0]: zone 0: family any"),
        ('[[connmark]]\nset = "0x10/0xff"', "connmark[0]: set 0x10/0xff: hooks prerouting output, family any"),
        ("[[connmark]]\nset = 1", "connmark[0]: set 0x1: hooks prerouting output, family any"),
        ("[[connmark]]\nsave = true", "connmark[0]: save: hooks prerouting output, family any"),
        ("[[connmark]]\nrestore = 0xff", "connmark[0]: restore 0xff: hooks prerouting output, family any"),
        (
            '[[connmark]]\nlabel = 5\nhooks = ["forward"]\nfamily = "ipv6"',
            "connmark[0]: label 5: hooks forward, family ipv6",
        ),
    ],
)
def test_a_rule(text: str, line: str) -> None:
    assert list(rule_lines(parse(tomllib.loads(text), "FILE"))) == [line]


def test_rules_of_all_kinds_in_the_order_of_a_packet() -> None:
    text = '[[filter.rule]]\nhook = "in"\naction = "drop"\n[[nat]]\naction = "ACCEPT"\n[[raw]]\nzone = 1\n'
    lines = rule_lines(parse(tomllib.loads(text + "[[connmark]]\nset = 1\n" + '[[nat]]\naction = "ACCEPT"'), "FILE"))
    assert [line.partition(":")[0] for line in lines] == ["raw[0]", "connmark[0]", "nat[0]", "nat[1]", "filter.rule[0]"]

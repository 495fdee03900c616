"""[[nat]] tables: what iptables would take becomes a NatRule, what it would refuse is refused with the reason."""

import tomllib
from ipaddress import ip_address

import pytest

from conntrackd_py import const
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rules import (
    ANY_PROTO,
    NAT_ACCEPT,
    NAT_DNAT,
    NAT_MASQUERADE,
    NAT_REDIRECT,
    NAT_SNAT,
    NatRule,
)
from conntrackd_py.nat.ruleset import Flow, Ruleset
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import parse


def rule(text: str) -> NatRule:
    (only,) = parse(tomllib.loads(f"[[nat]]\n{text}"), "FILE").nat
    return only


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        rule(text)
    return str(caught.value)


def packed(text: str) -> bytes:
    return ip_address(text).packed if text else b""


def test_a_rule_with_everything() -> None:
    made = rule(
        """
        in_interface = "eth+"
        source = "!10.0.0.0/8"
        destination = "203.0.113.7"
        proto = "tcp"
        sport = "1024:"
        dport = "!80"
        action = "DNAT"
        to = "192.168.1.10-192.168.1.20:8000-8010"
        random = true
        persistent = true
        comment = "the web servers"
        """
    )
    assert made.action == NAT_DNAT
    assert made.in_interface is not None
    assert made.in_interface.matches("eth7")
    assert made.source is not None
    assert made.source.matches(packed("192.0.2.1"))
    assert not made.source.matches(packed("10.1.2.3"))
    assert made.destination is not None
    assert made.destination.matches(packed("203.0.113.7"))
    assert not made.destination.matches(packed("203.0.113.8"))
    assert made.protonum == const.IPPROTO_TCP
    assert made.sport is not None
    assert (made.sport.low, made.sport.high) == (1024, 65535)
    assert made.dport is not None
    assert not made.dport.matches(80)
    assert (made.to_low, made.to_high) == (packed("192.168.1.10"), packed("192.168.1.20"))
    assert (made.port_low, made.port_high) == (8000, 8010)
    assert (made.random, made.persistent, made.family) == (True, True, 4)
    assert made.label == "nat[0]"


def test_absent_fields_match_anything() -> None:
    made = rule('action = "ACCEPT"')
    assert made.action == NAT_ACCEPT
    assert (made.in_interface, made.out_interface, made.source, made.destination) == (None, None, None, None)
    assert (made.protonum, made.sport, made.dport, made.family) == (ANY_PROTO, None, None, 0)


@pytest.mark.parametrize(
    ("to", "low", "high", "ports"),
    [
        ("203.0.113.1", "203.0.113.1", "203.0.113.1", (0, 0)),
        ("203.0.113.1-203.0.113.9", "203.0.113.1", "203.0.113.9", (0, 0)),
        ("203.0.113.1:1024-65535", "203.0.113.1", "203.0.113.1", (1024, 65535)),
        ("203.0.113.1-203.0.113.9:80", "203.0.113.1", "203.0.113.9", (80, 80)),
        (":8080", "", "", (8080, 8080)),
        ("2001:db8::1", "2001:db8::1", "2001:db8::1", (0, 0)),
        ("2001:db8::1-2001:db8::9", "2001:db8::1", "2001:db8::9", (0, 0)),
        ("[2001:db8::1]:80", "2001:db8::1", "2001:db8::1", (80, 80)),
        ("[2001:db8::1]", "2001:db8::1", "2001:db8::1", (0, 0)),
        ("[2001:db8::1-2001:db8::9]:80-90", "2001:db8::1", "2001:db8::9", (80, 90)),
        ("[2001:db8::1]-[2001:db8::9]:80", "2001:db8::1", "2001:db8::9", (80, 80)),
    ],
)
@pytest.mark.parametrize("action", ["SNAT", "DNAT"])
def test_targets_are_spelled_as_in_iptables(action: str, to: str, low: str, high: str, ports: tuple[int, int]) -> None:
    made = rule(f'action = "{action}"\nproto = "tcp"\nto = "{to}"')
    assert (made.to_low, made.to_high) == (packed(low), packed(high))
    assert (made.port_low, made.port_high) == ports


@pytest.mark.parametrize(("action", "number"), [("MASQUERADE", NAT_MASQUERADE), ("REDIRECT", NAT_REDIRECT)])
@pytest.mark.parametrize(
    ("to", "ports"),
    [("to = 8080", (8080, 8080)), ('to = ":8080"', (8080, 8080)), ('to = "1024-65535"', (1024, 65535)), ("", (0, 0))],
)
def test_the_routers_own_address_takes_ports_only(action: str, number: int, to: str, ports: tuple[int, int]) -> None:
    made = rule(f'action = "{action}"\nproto = "udp"\n{to}')
    assert (made.action, made.to_low) == (number, b"")
    assert (made.port_low, made.port_high) == ports


@pytest.mark.parametrize(
    ("ports", "low", "high"),
    [("80", 80, 80), ('"80"', 80, 80), ('"1000:2000"', 1000, 2000), ('":1023"', 0, 1023), ('"1024:"', 1024, 65535)],
)
def test_matched_ports(ports: str, low: int, high: int) -> None:
    made = rule(f'action = "ACCEPT"\nproto = "sctp"\ndport = {ports}')
    assert made.dport is not None
    assert (made.dport.low, made.dport.high) == (low, high)


@pytest.mark.parametrize(
    ("proto", "number"),
    [('"tcp"', 6), ('"UDP"', 17), ('"ipv6-icmp"', 58), ('"47"', 47), ("50", 50), ('"all"', ANY_PROTO)],
)
def test_protocols_by_name_and_number(proto: str, number: int) -> None:
    assert rule(f'action = "ACCEPT"\nproto = {proto}').protonum == number


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ('source = "10.0.0.0/255.0.0.0"', 4),
        ('destination = "2001:db8::/32"', 6),
        ('proto = "icmp"', 4),
        ('proto = "icmpv6"', 6),
        ('family = "ipv6"', 6),
        ("", 0),
    ],
)
def test_the_family_follows_from_what_the_rule_says(text: str, family: int) -> None:
    assert rule(f'action = "MASQUERADE"\n{text}').family == family


@pytest.mark.parametrize(
    ("text", "source", "covered"),
    [
        ("", "10.0.0.1", True),
        ("", "fd00::1", True),
        ('family = "ipv4"', "10.0.0.1", True),
        ('family = "ipv4"', "fd00::1", False),
        ('family = "ipv6"', "fd00::1", True),
        ('source = "10.0.0.0/8"', "10.0.0.1", True),
        ('source = "!10.0.0.0/8"', "fd00::1", False),
        ('source = "fd00::/8"', "fd00::1", True),
        ('proto = "icmpv6"', "fd00::1", False),
    ],
)
def test_a_rule_covers_the_packets_it_names(text: str, source: str, covered: bool) -> None:
    """With the engine's own matching: a UDP packet from this source."""
    rules = Ruleset([rule(f'action = "MASQUERADE"\n{text}')], Interfaces())
    address = packed(source)
    flow = Flow(address, address, const.IPPROTO_UDP, 1, 2, indev=0, outdev=0)
    assert (rules.source(flow) is not None) is covered


def test_bits_beyond_the_prefix_are_ignored_as_iptables_does() -> None:
    made = rule('action = "SNAT"\nto = "192.0.2.1"\nsource = "192.168.1.77/24"')
    assert made.action == NAT_SNAT
    assert made.source is not None
    assert made.source.matches(packed("192.168.1.1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: nat[0].action: is required: one of ACCEPT, SNAT, DNAT, MASQUERADE, REDIRECT"),
        ('action = "snat"\nto = "192.0.2.1"', 'nat[0].action = "snat": must be one of ACCEPT, SNAT,'),
        ('action = "SNAT"', "nat[0].to: SNAT needs it"),
        ('action = "ACCEPT"\nto = "192.0.2.1"', 'nat[0].to = "192.0.2.1": ACCEPT translates nothing'),
        ('action = "ACCEPT"\nsoruce = "10.0.0.1"', 'nat[0].soruce = "10.0.0.1": unknown key, did you mean source?'),
        (
            'action = "SNAT"\nto = "192.0.2.1"\nin_interface = "eth0"',
            'nat[0].in_interface = "eth0": SNAT works at POSTROUTING, which knows only out_interface',
        ),
        (
            'action = "REDIRECT"\nout_interface = "eth0"',
            'nat[0].out_interface = "eth0": REDIRECT works at PREROUTING, which knows only in_interface',
        ),
        ('action = "ACCEPT"\nin_interface = "a"\nout_interface = "b"', "no point of the way knows both interfaces"),
        ('action = "ACCEPT"\nin_interface = "a-very-long-name"', "is longer than the 15 characters"),
        ('action = "ACCEPT"\nin_interface = ""', 'nat[0].in_interface = "": must not be empty'),
        ('action = "ACCEPT"\ndport = 80', "nat[0].dport = 80: needs proto tcp, udp, udplite, dccp or sctp"),
        ('action = "ACCEPT"\nproto = "gre"\nsport = 80', "nat[0].sport = 80: needs proto"),
        ('action = "MASQUERADE"\nto = "1024-65535"', 'nat[0].to = "1024-65535": with ports needs proto'),
        ('action = "MASQUERADE"\nproto = "tcp"\nto = "192.0.2.1"', "has '192.0.2.1' where a port (1 to 65535) belongs"),
        ('action = "ACCEPT"\nproto = "tcp"\ndport = "2000:1000"', "ends before it begins"),
        ('action = "ACCEPT"\nproto = "tcp"\ndport = "80-90"', "has '80-90' where a port (0 to 65535) belongs"),
        ('action = "ACCEPT"\nproto = "tcp"\ndport = 65536', "where a port (0 to 65535) belongs"),
        ('action = "ACCEPT"\nproto = "tpc"', "did you mean tcp?"),
        ('action = "ACCEPT"\nproto = "!tcp"', 'nat[0].proto = "!tcp": must be one of'),
        ('action = "ACCEPT"\nsource = "10.0.0.0/33"', "must be an address, address/prefix or address/netmask"),
        ('action = "ACCEPT"\nsource = "10.0.0.0/0.0.0.255"', "has a netmask with gaps"),
        ('action = "ACCEPT"\nsource = "router.example"', "must be an address"),
        ('action = "SNAT"\nto = "192.0.2.9-192.0.2.1"', "an address range that ends before it begins"),
        ('action = "SNAT"\nto = "192.0.2.9-2001:db8::1"', "where an address belongs|mixes IPv4 and IPv6"),
        ('action = "SNAT"\nto = "somewhere"', "has 'somewhere' where an address belongs"),
        ('action = "SNAT"\nto = ""', "must be address"),
        ('action = "DNAT"\nproto = "tcp"\nto = "192.0.2.1:"', "must be address"),
        ('action = "DNAT"\nproto = "tcp"\nto = "192.0.2.1:0"', "has '0' where a port (1 to 65535) belongs"),
        ('action = "DNAT"\nproto = "tcp"\nto = "[2001:db8::1]80"', "must be [address] or [address]:port"),
        (
            'action = "SNAT"\nsource = "10.0.0.0/8"\nto = "2001:db8::1"',
            'nat[0].to = "2001:db8::1": is IPv6, but source is IPv4',
        ),
        ('action = "ACCEPT"\nproto = "icmpv6"\nsource = "10.0.0.1"', "nat[0].proto"),
        ('action = "ACCEPT"\nfamily = "ipv6"\ndestination = "10.0.0.1"', "is IPv4, but family is IPv6"),
        ('action = "MASQUERADE"\npersistent = true', "nat[0].persistent = true: MASQUERADE has no persistent"),
        ('action = "ACCEPT"\nrandom = "yes"', 'nat[0].random = "yes": must be true or false'),
    ],
)
def test_what_iptables_would_refuse_is_refused(text: str, message: str) -> None:
    said = refusal(text)
    assert any(part in said for part in message.split("|"))


def test_a_later_rule_is_named_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^FILE: nat\[2\]\.to = "):
        parse(tomllib.loads('[[nat]]\naction = "ACCEPT"\n' * 2 + '[[nat]]\naction = "SNAT"\nto = "x"\n'), "FILE")

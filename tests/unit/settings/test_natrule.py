"""[[nat]] tables, and the errors: a rule that iptables would refuse is refused."""

import tomllib
from ipaddress import ip_address

import pytest

from conntrackd_py import const
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rules import (
    FILTER_ADDRESS_PORT,
    FILTER_NONE,
    NAT_ACCEPT,
    NAT_DNAT,
    NAT_MASQUERADE,
    NAT_REDIRECT,
    NAT_SNAT,
    NatRule,
)
from conntrackd_py.nat.ruleset import Ruleset, packet_info
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
    assert made.match.in_interface is not None
    assert made.match.in_interface.has("eth7")
    assert made.match.source is not None
    assert made.match.source.has(packed("192.0.2.1"))
    assert not made.match.source.has(packed("10.1.2.3"))
    assert made.match.destination is not None
    assert made.match.destination.has(packed("203.0.113.7"))
    assert not made.match.destination.has(packed("203.0.113.8"))
    assert made.match.only_protocol() == const.IPPROTO_TCP
    assert made.match.sport is not None
    assert made.match.sport.bounds == [1024, 65535]
    assert made.match.dport is not None
    assert not made.match.dport.has(80)
    assert (made.to.low, made.to.high) == (packed("192.168.1.10"), packed("192.168.1.20"))
    assert (made.to.port_low, made.to.port_high) == (8000, 8010)
    assert (made.to.random, made.to.persistent, made.match.family) == (True, True, 4)
    assert made.label == "nat[0]"


def test_lists_marks_and_expressions() -> None:
    made = rule(
        """
        out_interface = ["wan+", "ppp0"]
        source = ["10.0.0.0/8", "192.168.0.0-192.168.0.9"]
        proto = ["tcp", "udp"]
        dport = [443, "80:81"]
        mark = "!0x1"
        ct = "mark 7"
        action = "MASQUERADE"
        random_fully = true
        """
    )
    match = made.match
    assert match.out_interface is not None
    assert (match.out_interface.has("wan1"), match.out_interface.has("lan0")) == (True, False)
    assert match.source is not None
    assert match.source.bounds == [packed(a) for a in ("10.0.0.0", "10.255.255.255", "192.168.0.0", "192.168.0.9")]
    assert match.dport is not None
    assert match.dport.bounds == [80, 81, 443, 443]
    assert (match.fits_protocol(6), match.fits_protocol(17), match.fits_protocol(1)) == (True, True, False)
    assert match.mark is not None
    assert (match.mark.value, match.mark.mask, match.mark.invert) == (1, 0xFF, True)
    assert match.ct is not None
    assert made.to.random


def test_a_base_port() -> None:
    to = rule('action = "DNAT"\nproto = "udp"\nto = "[fd00::1]:5000-5099/8000"').to
    assert (to.port_low, to.port_high, to.base) == (5000, 5099, 8000)


def test_absent_fields_match_anything() -> None:
    made = rule('action = "ACCEPT"')
    assert made.action == NAT_ACCEPT
    assert (made.match.in_interface, made.match.out_interface, made.match.source, made.match.destination) == (
        None,
        None,
        None,
        None,
    )
    assert (made.match.proto, made.match.sport, made.match.dport, made.match.family) == (None, None, None, 4)


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
    assert (made.to.low, made.to.high) == (packed(low), packed(high))
    assert (made.to.port_low, made.to.port_high) == ports


@pytest.mark.parametrize(("action", "number"), [("MASQUERADE", NAT_MASQUERADE), ("REDIRECT", NAT_REDIRECT)])
@pytest.mark.parametrize(
    ("to", "ports"),
    [("to = 8080", (8080, 8080)), ('to = ":8080"', (8080, 8080)), ('to = "1024-65535"', (1024, 65535)), ("", (0, 0))],
)
def test_the_routers_own_address_takes_ports_only(action: str, number: int, to: str, ports: tuple[int, int]) -> None:
    made = rule(f'action = "{action}"\nproto = "udp"\n{to}')
    assert (made.action, made.to.low) == (number, b"")
    assert (made.to.port_low, made.to.port_high) == ports


@pytest.mark.parametrize(
    ("ports", "low", "high"),
    [("80", 80, 80), ('"80"', 80, 80), ('"1000:2000"', 1000, 2000), ('":1023"', 0, 1023), ('"1024:"', 1024, 65535)],
)
def test_matched_ports(ports: str, low: int, high: int) -> None:
    made = rule(f'action = "ACCEPT"\nproto = "sctp"\ndport = {ports}')
    assert made.match.dport is not None
    assert made.match.dport.bounds == [low, high]


@pytest.mark.parametrize(
    ("proto", "number"),
    [('"tcp"', 6), ('"UDP"', 17), ('"ipv6-icmp"', 58), ('"47"', 47), ("50", 50), ('"all"', -1)],
)
def test_protocols_by_name_and_number(proto: str, number: int) -> None:
    assert rule(f'action = "ACCEPT"\nproto = {proto}').match.only_protocol() == number


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ('source = "10.0.0.0/255.0.0.0"', 4),
        ('destination = "2001:db8::/32"', 6),
        ('proto = "icmp"', 4),
        ('proto = "icmpv6"', 6),
        ('family = "ipv6"', 6),
        ('family = "any"', 0),
        ('family = "any"\nproto = "udp"', 0),
        ('proto = "udp"\nto = ":8080"', 4),
        ("", 4),
    ],
)
def test_the_family_follows_from_what_the_rule_says(text: str, family: int) -> None:
    assert rule(f'action = "MASQUERADE"\n{text}').match.family == family


@pytest.mark.parametrize(
    ("text", "source", "covered"),
    [
        ("", "10.0.0.1", True),
        ("", "fd00::1", False),
        ('family = "any"', "10.0.0.1", True),
        ('family = "any"', "fd00::1", True),
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
    info = packet_info(address, address, const.IPPROTO_UDP, 1, 2)
    assert (rules.source(info, 1) is not None) is covered


def test_bits_beyond_the_prefix_are_ignored_as_iptables_does() -> None:
    made = rule('action = "SNAT"\nto = "192.0.2.1"\nsource = "192.168.1.77/24"')
    assert made.action == NAT_SNAT
    assert made.match.source is not None
    assert made.match.source.has(packed("192.168.1.1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: nat[0].action: is required: one of ACCEPT, SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP, SNPT, DNPT"),
        ('action = "snat"\nto = "192.0.2.1"', 'nat[0].action = "snat": must be one of ACCEPT, SNAT,'),
        ('action = "SNAT"', "nat[0].to: SNAT needs it"),
        ('action = "ACCEPT"\nto = "192.0.2.1"', 'nat[0].to = "192.0.2.1": ACCEPT translates nothing'),
        ('action = "ACCEPT"\nsoruce = "10.0.0.1"', 'nat[0].soruce = "10.0.0.1": unknown key, did you mean source?'),
        (
            'action = "SNAT"\nto = "192.0.2.1"\nin_interface = "eth0"',
            'nat[0].in_interface = "eth0": SNAT applies at POSTROUTING, where only out_interface is known',
        ),
        (
            'action = "REDIRECT"\nout_interface = "eth0"',
            'nat[0].out_interface = "eth0": REDIRECT applies at PREROUTING, where only in_interface is known',
        ),
        ('action = "ACCEPT"\nin_interface = "a"\nout_interface = "b"', "no hook of NAT knows both interfaces"),
        ('action = "ACCEPT"\nin_interface = "a-very-long-name"', "is longer than the 15 characters"),
        ('action = "ACCEPT"\nin_interface = ""', 'nat[0].in_interface = "": must not be empty'),
        ('action = "ACCEPT"\ndport = 80', "nat[0].dport = 80: needs proto tcp, udp, udplite, dccp or sctp"),
        ('action = "ACCEPT"\nproto = "gre"\nsport = 80', "nat[0].sport = 80: needs proto"),
        ('action = "MASQUERADE"\nto = "1024-65535"', 'nat[0].to = "1024-65535": with ports needs proto'),
        ('action = "MASQUERADE"\nproto = "tcp"\nto = "192.0.2.1"', "'192.0.2.1' is not a port (0 to 65535)"),
        ('action = "ACCEPT"\nproto = "tcp"\ndport = "2000:1000"', "ends before it begins"),
        ('action = "ACCEPT"\nproto = "tcp"\ndport = "80-90"', "'80-90' is not a port (0 to 65535)"),
        ('action = "ACCEPT"\nproto = "tcp"\ndport = 65536', "is not a port (0 to 65535)"),
        ('action = "ACCEPT"\nproto = "tpc"', "did you mean tcp?"),
        ('action = "ACCEPT"\nproto = "!tcp"', 'nat[0].proto = "!tcp": cannot be inverted'),
        ('action = "ACCEPT"\nsource = "10.0.0.0/33"', "must be an address, address/prefix or address/netmask"),
        ('action = "ACCEPT"\nsource = "10.0.0.0/0.0.0.255"', "has a netmask with gaps"),
        ('action = "ACCEPT"\nsource = "router.example"', "must be an address"),
        ('action = "SNAT"\nto = "192.0.2.9-192.0.2.1"', "ends before it begins"),
        ('action = "SNAT"\nto = "192.0.2.9-2001:db8::1"', "mixes IPv4 and IPv6"),
        ('action = "SNAT"\nto = "somewhere"', "'somewhere' is not an address"),
        ('action = "SNAT"\nto = ""', "must not be empty"),
        ('action = "DNAT"\nproto = "tcp"\nto = "192.0.2.1:"', "must be address"),
        ('action = "DNAT"\nproto = "tcp"\nto = "192.0.2.1:0"', "0 is not a port to translate to"),
        ('action = "DNAT"\nproto = "tcp"\nto = "[2001:db8::1]80"', "must be [address] or [address]:port"),
        (
            'action = "SNAT"\nsource = "10.0.0.0/8"\nto = "2001:db8::1"',
            'nat[0].to = "2001:db8::1": is IPv6, but source is IPv4',
        ),
        ('action = "ACCEPT"\nproto = "icmpv6"\nsource = "10.0.0.1"', "nat[0].proto"),
        ('action = "ACCEPT"\nfamily = "ipv6"\ndestination = "10.0.0.1"', "is IPv4, but family is IPv6"),
        (
            'action = "ACCEPT"\nfamily = "any"\ndestination = "10.0.0.1"',
            'family = "any": is any, but destination is IPv4',
        ),
        ('action = "SNAT"\nfamily = "any"\nto = "2001:db8::1"', 'family = "any": is any, but to is IPv6'),
        ('action = "ACCEPT"\nfamily = "both"', 'family = "both": must be one of ipv4, ipv6, any'),
        ('action = "MASQUERADE"\npersistent = true', "nat[0].persistent = true: MASQUERADE has no persistent"),
        ('action = "ACCEPT"\nsource = []', "nat[0].source = []: must not be empty"),
        ('action = "ACCEPT"\nsource = ["10.0.0.1", "fd00::1"]', "mixes IPv4 and IPv6"),
        ('action = "ACCEPT"\nsource = ["10.0.0.1", "!10.0.0.2"]', "is inverted in part: write ! before each item of"),
        ('action = "ACCEPT"\nsource = ["10.0.0.1", 5]', "must be an address, address/prefix or address/netmask"),
        ('action = "ACCEPT"\nsource = [["10.0.0.1"]]', "must be a string"),
        ('action = "ACCEPT"\nsource = "10.0.0.9-10.0.0.1"', "10.0.0.9-10.0.0.1 ends before it begins"),
        ('action = "ACCEPT"\nproto = ["tcp", "icmp"]\ndport = 80', "nat[0].dport = 80: needs proto tcp, udp, udplite,"),
        ('action = "ACCEPT"\nproto = ["tcp", "all"]', "no such protocol: all"),
        ('action = "ACCEPT"\nmark = "0x1ff"', 'nat[0].mark = "0x1ff": has bits of steering.mark_mask (0xffffff00)'),
        ('action = "ACCEPT"\nmark = "0/0xfff"', "has bits of steering.mark_mask (0xffffff00), which the daemon writes"),
        ('action = "ACCEPT"\nmark = "3/1"', "has bits outside its mask"),
        ('action = "ACCEPT"\nmark = "0/0"', "has a mask of 0"),
        ('action = "ACCEPT"\nmark = "x"', "'x' is not a mark (0 to 4294967295)"),
        ('action = "ACCEPT"\nmark = [1]', "must be a string"),
        ('action = "ACCEPT"\nct = "state"', "nat[0].ct"),
        ('action = "DNAT"\nrandom_fully = true\nto = "10.0.0.1"', "DNAT has no random_fully"),
        ('action = "DNAT"\nproto = "tcp"\nto = "10.0.0.1:80/80"', "a base port is not 0, and stands after a range"),
        ('action = "DNAT"\nproto = "tcp"\nto = "10.0.0.1:80-90/0"', "a base port is not 0, and stands after a range"),
        ('action = "SNAT"\nproto = "tcp"\nto = "10.0.0.1:80-90/1"', "has a base port, but SNAT has none"),
        (
            'action = "DNAT"\nproto = "tcp"\nrandom = true\nto = ":80-90/1"',
            "has a base port, but random chooses another",
        ),
        ('action = "SNAT"\nto = ["10.0.0.1", "10.0.0.2"]', "SNAT takes no list"),
        ('action = "DNAT"\nto = ["10.0.0.1"]', "takes 2 to 64 targets"),
        ('action = "DNAT"\nto = ["10.0.0.1", "fd00::1"]', "mixes IPv4 and IPv6"),
        ('action = "DNAT"\nto = ["10.0.0.1", "10.0.0.1 weight 2"]', "has a duplicate"),
        ('action = "DNAT"\nto = ["10.0.0.1", "10.0.0.2 weight 0"]', "0 is not a weight (1 to 100)"),
        ('action = "DNAT"\nto = ["10.0.0.1", "10.0.0.2 weight 101"]', "'101' is not a weight (0 to 100)"),
        ('action = "DNAT"\nto = ["10.0.0.1", ":80"]', "has a target without an address"),
        ('action = "DNAT"\nto = ["10.0.0.1", 80]', "'80' is not an address"),
        ('action = "DNAT"\nto = ["10.0.0.1", "10.0.0.2:80"]', "with ports needs proto"),
        ('action = "DNAT"\nto = "10.0.0.1"\nbalance = "source"', 'nat[0].balance = "source": needs a list of targets'),
        ('action = "DNAT"\nto = ["10.0.0.1", "10.0.0.2"]\nbalance = "hash"', "must be one of source, random"),
        ('action = "SNAT"\nto = "10.0.0.1"\nhairpin = true', "nat[0].hairpin = true: SNAT has no hairpin"),
        ('action = "DNAT"\nto = "10.0.0.1"\nmapping = "endpoint-independent"', "it is for SNAT and MASQUERADE"),
        ('action = "MASQUERADE"\nmapping = "symmetric"', "must be one of endpoint-dependent, endpoint-independent"),
        ('action = "MASQUERADE"\nfiltering = "address"', 'needs mapping = "endpoint-independent"'),
        ('action = "MASQUERADE"\nparity = true', 'nat[0].parity = true: needs mapping = "endpoint-independent"'),
        ('action = "DNAT"\nto = "10.0.0.1"\nhairpin = true', "needs the outer address: in `destination`, or as an"),
        (
            'action = "DNAT"\nto = "10.0.0.1"\ndestination = "!10.0.0.2"\nhairpin = true',
            "needs a destination without !: the outer address",
        ),
        ('action = "NETMAP"\nin_interface = "wan0"', "nat[0].to: NETMAP needs it"),
        (
            'action = "NETMAP"\nto = "10.0.0.0/8"',
            "nat[0].in_interface: NETMAP needs in_interface to translate the dest",
        ),
        ('action = "NETMAP"\nout_interface = "a"\nto = "10.0.0.1-10.0.0.9"', "must be an address, address/prefix or"),
        ('action = "NETMAP"\nout_interface = "a"\nto = "10.0.0.1:80"', "must be an address, address/prefix or"),
        ('action = "NETMAP"\nout_interface = "a"\nto = "10.0.0.0/0.0.0.255"', "must be an address, address/prefix or"),
        ('action = "NETMAP"\nout_interface = "a"\nto = "10.0.0.0/8"\nrandom = true', "NETMAP has no random"),
        ('action = "SNPT"\nin_interface = "a"\nto = "fd00::/48"', "SNPT applies at POSTROUTING"),
        ('action = "SNPT"\nto = "fd00::/48"', "nat[0].source: SNPT needs one prefix here"),
        ('action = "SNPT"\nsource = "!fd01::/48"\nto = "fd00::/48"', "SNPT needs one prefix here"),
        ('action = "DNPT"\nsource = "fd01::/48"\nto = "fd00::/48"', "nat[0].destination: DNPT needs one prefix here"),
        ('action = "DNPT"\ndestination = "fd01::/56"\nto = "fd00::/48"', "must have as many bits of prefix as destin"),
        ('action = "SNPT"\nsource = "fd01::/72"\nto = "fd00::/72"', "SNPT needs an IPv6 prefix of at most 64 bits"),
        ('action = "SNPT"\nsource = "10.0.0.0/8"\nto = "11.0.0.0/8"', "SNPT needs an IPv6 prefix of at most 64 bits"),
        ('action = "SNPT"\nsource = "10.0.0.0/8"\nto = "fd00::/48"', "is IPv6, but source is IPv4"),
        ('action = "ACCEPT"\nrandom = "yes"', 'nat[0].random = "yes": must be true or false'),
    ],
)
def test_what_iptables_would_refuse_is_refused(text: str, message: str) -> None:
    said = refusal(text)
    assert any(part in said for part in message.split("|"))


def test_a_later_rule_is_named_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^FILE: nat\[2\]\.to = "):
        parse(tomllib.loads('[[nat]]\naction = "ACCEPT"\n' * 2 + '[[nat]]\naction = "SNAT"\nto = "x"\n'), "FILE")


def test_hooks() -> None:
    made = rule('action = "NETMAP"\nhooks = ["output", "prerouting"]\nto = "10.0.0.0/8"')
    assert made.hooks == (const.LOCAL_OUT, const.PRE_ROUTING)
    assert rule('action = "SNAT"\nhooks = ["input"]\nin_interface = "lan0"\nto = "10.0.0.1"').hooks == (const.LOCAL_IN,)


def test_the_type_of_the_destination() -> None:
    text = 'action = "DNAT"\nto = "10.0.0.1"\n'
    assert [rule(text + f'destination_type = "{value}"').to_local for value in ("local", "!local")] == [1, -1]
    assert rule(text).to_local == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('action = "MASQUERADE"\nhooks = ["input"]', "MASQUERADE applies at postrouting"),
        ('action = "DNAT"\nto = "10.0.0.1"\nhooks = ["postrouting"]', "DNAT applies at prerouting and output"),
        ('action = "NETMAP"\nto = "10.0.0.0/8"\nhooks = ["input", "output"]', "the source at the others"),
        ('action = "DNAT"\nto = "10.0.0.1"\nin_interface = "a"\nhooks = ["output"]', "prerouting and input only"),
        ('action = "ACCEPT"\nout_interface = "a"\nhooks = ["prerouting"]', "postrouting only"),
        ('action = "DNAT"\nto = "10.0.0.1"\nhooks = ["forward"]', "must be of prerouting, input"),
        ('action = "ACCEPT"\ndestination_type = "local"', "known before routing only"),
        ('action = "REDIRECT"\nhooks = ["output"]', 'remove "lo" from steering.exclude_interfaces'),
        (
            'action = "SNAT"\nto = "10.0.0.1"\nhooks = ["input"]\n[steering]\nlocal = false',
            "need steering.local = true",
        ),
    ],
)
def test_hooks_that_do_not_fit(text: str, why: str) -> None:
    assert why in refusal(text)


def test_a_mapping() -> None:
    text = 'action = "MASQUERADE"\nmapping = "endpoint-independent"\n'
    strict = rule(text).independent
    assert strict is not None
    assert (strict.filtering, strict.parity, strict.hairpin) == (FILTER_ADDRESS_PORT, False, False)
    cone = rule(f'{text}filtering = "endpoint-independent"\nparity = true\nhairpin = true').independent
    assert cone is not None
    assert (cone.filtering, cone.parity, cone.hairpin) == (FILTER_NONE, True, True)
    assert rule('action = "MASQUERADE"\nmapping = "endpoint-dependent"').independent is None

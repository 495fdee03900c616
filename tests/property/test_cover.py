"""A rule that is reported as covered gets no packet: compared with the matching of the engine."""

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IP_CT_INVALID, IP_CT_UNTRACKED
from conntrackd_py.match.match import ABSENT, UNREAD, Match, PacketInfo
from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.ruleset import Ruleset, packet_info
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.settings.cover import Extent
from conntrackd_py.settings.load import parse
from conntrackd_py.settings.match import ct_of, match_of
from conntrackd_py.settings.table import Report, Table
from tests.support.packets import address

NAMES = ["", "eth0", "eth1", "wan0"]
V4 = ["10.0.0.1", "10.0.1.1", "192.0.2.1"]
V6 = ["fd00::1", "2001:db8::1"]
interfaces = st.sampled_from(["eth0", "eth+", "wan0", "!eth0", "!eth+", "+"])
v4 = st.sampled_from(["10.0.0.0/24", "10.0.0.0/16", "10.0.0.1", "!10.0.0.0/24", "0.0.0.0/0", "!192.0.2.1"])
v6 = st.sampled_from(["fd00::/8", "!fd00::1", "::/0"])
ports = st.sampled_from([80, "80:81", "0:65535", "!80", "81:", ":80"])
CT = ["state new", "state new,established", "state != invalid", "mark 1", "state new ct mark 1", "direction original"]
CT += ["-m conntrack --ctstate NEW,SNAT", "-m conntrack --ctstate INVALID", "! mark 1"]
PROTOS = standard_protos(Tunables())

Rule = dict[str, object]


@st.composite
def matches(draw: st.DrawFn, *keys: str) -> Rule:
    """keys: the interfaces of the hook."""
    family = draw(st.sampled_from(["ipv4", "ipv6", "any"]))
    values: Rule = {"family": family}
    for key in keys:
        values |= draw(st.fixed_dictionaries({}, optional={key: interfaces}))
    if family != "any":
        networks = v4 if family == "ipv4" else v6
        values |= draw(st.fixed_dictionaries({}, optional={"source": networks, "destination": networks}))
    if draw(st.booleans()):
        values["proto"] = draw(st.sampled_from(["tcp", "udp"]))
        values |= draw(st.fixed_dictionaries({}, optional={"sport": ports, "dport": ports}))
    return values


@st.composite
def packets(draw: st.DrawFn) -> PacketInfo:
    hosts = st.sampled_from(draw(st.sampled_from([V4, V6]))).map(address)
    numbers = st.sampled_from([0, 79, 80, 81, 82, 65535, ABSENT, UNREAD])
    info = packet_info(draw(hosts), draw(hosts), draw(st.sampled_from([1, 6, 17, 58])), draw(numbers), draw(numbers))
    info.in_interface, info.out_interface = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES))
    return info


def extent_and_match(values: Rule) -> tuple[Extent, Match]:
    match = match_of(Table(values, "rule", {"": "FILE"}, Report()))
    return Extent(match), match


@given(matches("in_interface", "out_interface"), matches("in_interface", "out_interface"), st.lists(packets()))
def test_what_the_covered_match_has_the_other_has_too(first: Rule, second: Rule, infos: list[PacketInfo]) -> None:
    (outer, one), (inner, two) = extent_and_match(first), extent_and_match(second)
    assert outer.covers(outer)
    covered = outer.covers(inner)
    for info in infos:
        assert not (covered and two.fits(info, False)) or one.fits(info, False)


@st.composite
def skbs(draw: st.DrawFn) -> Skb:
    skb = Skb(b"")
    skb.ctinfo = draw(st.sampled_from([0, 1, 2, 3, 4, IP_CT_INVALID, IP_CT_UNTRACKED]))
    if skb.ctinfo not in (IP_CT_INVALID, IP_CT_UNTRACKED):
        t = tuples.make(bytes(8), bytes(4), 17)
        skb.ct = NfConn(t, tuples.swapped(t, bytes(4)), PROTOS[17], 0)
        skb.ct.mark, skb.ct.status = draw(st.sampled_from([0, 1, 2])), draw(st.integers(0, 0x3FF))
    return skb


@given(st.sampled_from(CT), st.sampled_from(CT), st.lists(skbs()))
def test_ct_expressions(first: str, second: str, found: list[Skb]) -> None:
    one, two = (Match(ct=ct_of(Table({"ct": text}, "rule", {"": "FILE"}, Report()))) for text in (first, second))
    covered = Extent(one).covers(Extent(two))
    for skb in found:
        info = PacketInfo({})
        assert not (covered and two.matches(skb, info, 0)) or one.matches(skb, info, 0)


def nat_rules(action: str, interface: str) -> st.SearchStrategy[Rule]:
    return matches(interface).map(lambda values: values | {"action": action})


RULES = st.one_of(
    nat_rules("MASQUERADE", "out_interface"),
    nat_rules("ACCEPT", "out_interface"),
    nat_rules("ACCEPT", "in_interface"),
    nat_rules("REDIRECT", "in_interface"),
    matches("in_interface")
    .filter(lambda values: values["family"] == "ipv4")
    .map(lambda values: values | {"action": "DNAT", "to": "10.0.0.9"}),
)


@given(st.lists(RULES, min_size=2, max_size=5), st.lists(st.tuples(packets(), st.integers(0, 4)), max_size=20))
def test_no_connection_gets_a_rule_that_is_reported(rules: list[Rule], found: list[tuple[PacketInfo, int]]) -> None:
    settings = parse({"nat": rules}, "FILE")
    reported = {warning.path for warning in settings.warnings}
    links = Interfaces()
    for index, name in enumerate(NAMES[1:], 1):
        links.replace(index, Link(name, []))
    ruleset = Ruleset(list(settings.nat), links)
    for info, device in found:
        info.sport, info.dport = max(info.sport, ABSENT), max(info.dport, ABSENT)  # a connection has read its packet
        for rule in (ruleset.source(info, device or 1), ruleset.destination(info, device)):
            assert rule is None or rule.label not in reported

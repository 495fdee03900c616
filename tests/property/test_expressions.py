"""Any ct expression: what is printed is read back as the same, and both spellings hold for the same packets."""

import contextlib
from collections.abc import Callable

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import Counters, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IP_CT_INVALID, IP_CT_UNTRACKED, IPS_CONFIRMED
from conntrackd_py.filter import iptables, iptables_text, nft, nft_ruleset, nft_text
from conntrackd_py.match.expr import Expr
from conntrackd_py.match.words import Inexpressible, ParseError
from conntrackd_py.proto.standard import standard_protos

PROTOS = standard_protos(Tunables())
NOW = 1_000_000

ports = st.integers(0, 65535)
marks = st.integers(0, 0xFFFFFFFF)
prefixes = st.sampled_from(["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "fd00::/16", "fd00::1", "::/0"])
operators = st.sampled_from(["", "!= "])
directions = st.sampled_from(["original", "reply"])


def some(values: dict[str, int] | list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3, unique=True).map(",".join)


def ranges(values: st.SearchStrategy[int], between: str, unit: str = "") -> st.SearchStrategy[str]:
    def spell(pair: tuple[int, int]) -> str:
        low, high = min(pair), max(pair)
        return f"{low}{unit}" if low == high else f"{low}{unit}{between}{high}{unit}"

    return st.tuples(values, values).map(spell)


def built(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda found: template.format(*found))


numbers = ranges(ports, "-")
nft_terms = st.one_of(
    built("ct state {}{}", st.sampled_from(["", "! "]), some(nft.STATES)),
    built("ct status {}{}", st.sampled_from(["", "! ", "== ", "!= "]), some(nft.STATUSES)),
    built("ct status & {} == {}", some(nft.STATUSES), some(nft.STATUSES)),
    built("ct direction {}{}", operators, directions),
    built("ct mark {}{}", operators, ranges(marks, "-")),
    built("ct mark & {} {} {}", marks.map(hex), st.sampled_from(["==", "!=", "<", ">="]), marks.map(str)),
    built("ct mark {}{{ {}, {} }}", operators, ranges(marks, "-"), ranges(marks, "-")),
    built("ct expiration {}{}", operators, ranges(st.integers(0, 500), "-", "s")),
    built("ct {} ip saddr {}{}", directions, operators, prefixes.filter(lambda text: ":" not in text)),
    built("ct {} ip6 daddr {}{}", directions, operators, prefixes.filter(lambda text: ":" in text)),
    built("ct {} proto-src {}{}", directions, operators, numbers),
    built("ct {} proto-dst {}{{ {}, {} }}", directions, operators, numbers, numbers),
    built("ct protocol {}{}", operators, st.integers(0, 255).map(str)),
    built("ct {} bytes {}{}", directions, operators, ranges(st.integers(0, 1 << 63), "-")),
)
inverted = st.sampled_from(["", "! "])
options = st.one_of(
    built("{}--ctstate {}", inverted, some(iptables.STATES)),
    built("{}--ctstatus {}", inverted, some(iptables.STATUSES)),
    built("{}--ctdir {}", inverted, some(["ORIGINAL", "REPLY"]).filter(lambda text: "," not in text)),
    built("{}--ctproto {}", inverted, st.integers(0, 255).map(str)),
    built("{}{} {}", inverted, st.sampled_from(sorted(iptables.ADDRESS_OPTIONS)), prefixes),
    built("{}{} {}", inverted, st.sampled_from(sorted(iptables.PORT_OPTIONS)), ranges(ports, ":")),
    built("{}--ctexpire {}", inverted, ranges(st.integers(0, 500), ":")),
)


def distinct(found: list[str]) -> list[str]:
    """Each option once, as one -m allows."""
    return list({option.removeprefix("! ").split()[0]: option for option in found}.values())


blocks = st.one_of(
    st.lists(options, min_size=1, max_size=4).map(lambda found: "-m conntrack " + " ".join(distinct(found))),
    built("-m connmark {}--mark {}/{}", inverted, marks.map(str), marks.map(hex)),
)


def parsed_nft(text: str) -> Expr:
    """What nft itself would take though it is always or never true is no example."""
    try:
        return nft.parse(text)
    except ParseError as error:
        if "true" not in error.why:
            raise
        reject()


def expressible(write: Callable[[Expr], str], expr: Expr) -> str:
    """What cannot be said in that spelling is no example."""
    try:
        return write(expr)
    except Inexpressible:
        reject()


# Two of three expressions cannot be said in the other spelling. None at all would still be an error.
MANY_REJECTED = settings(suppress_health_check=[HealthCheck.filter_too_much])


@st.composite
def skbs(draw: st.DrawFn) -> Skb:
    skb = Skb(b"")
    skb.ctinfo = draw(st.sampled_from([0, 1, 2, 3, 4, IP_CT_INVALID, IP_CT_UNTRACKED]))
    if skb.ctinfo in (IP_CT_INVALID, IP_CT_UNTRACKED):
        return skb
    pair = draw(st.sampled_from([bytes((10, 0, 0, 1, 10, 0, 0, 2)), b"\xfd" + bytes(30) + b"\1"]))
    protonum = draw(st.sampled_from([6, 17]))
    l4 = draw(ports).to_bytes(2, "big") + draw(ports).to_bytes(2, "big")
    t = tuples.make(pair, l4, protonum)
    ct = NfConn(t, tuples.swapped(t, l4[2:] + l4[:2]), PROTOS[protonum], 0)
    ct.status = draw(st.integers(0, 0x3FF)) | draw(st.sampled_from([0, IPS_CONFIRMED]))
    ct.mark = draw(marks)
    ct.timeout = NOW + draw(st.integers(0, 500_000))
    counters = ct.counters = Counters()
    counters.bytes_original, counters.bytes_reply = draw(st.integers(0, 1 << 63)), draw(st.integers(0, 100))
    skb.ct = ct
    return skb


@MANY_REJECTED
@given(st.lists(nft_terms, min_size=1, max_size=4).map(" ".join), skbs())
def test_nft(text: str, skb: Skb) -> None:
    expr = parsed_nft(text)
    assert nft.parse(nft_text.text(expr)).form() == expr.form()
    again = iptables.parse(expressible(iptables_text.text, expr))
    assert again.matches(skb, NOW) == expr.matches(skb, NOW)


@MANY_REJECTED
@given(st.lists(blocks, min_size=1, max_size=3).map(" ".join), skbs())
def test_iptables(text: str, skb: Skb) -> None:
    expr = iptables.parse(text)
    assert iptables.parse(iptables_text.text(expr)).form() == expr.form()
    again = nft.parse(expressible(nft_text.text, expr))
    assert again.matches(skb, NOW) == expr.matches(skb, NOW)


@given(st.text(alphabet="ctsaue {}!=&|,-/0x1\n#\"", max_size=40) | st.lists(st.sampled_from(
    ["ct", "state", "status", "mark", "original", "saddr", "!=", "{", "}", "&", ",", "new", "1", "(", ")", "/", "-m",
     "conntrack", "--ctstate", "!", "NEW", "table", "ip", "t", "chain", "\n", "type", "filter", "hook", "input",
     "priority", "0", ";", "accept"]), max_size=20).map(" ".join))  # fmt: skip
def test_nonsense_is_an_error_and_nothing_else(text: str) -> None:
    for parse in (nft.parse, iptables.parse, nft_ruleset.parse):
        with contextlib.suppress(ParseError):
            parse(text)

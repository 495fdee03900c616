"""A ruleset in nft's syntax -> chains: tables ip, ip6 and inet with filter chains at input, forward and output.

    table ip filter {
            chain forward {
                    type filter hook forward priority filter; policy drop;
                    iif eth0 oif eth1 ct state new,established,related accept
            }
    }

A rule is a line of matches (interfaces, addresses, protocol, ports, ct expressions) and one verdict. `counter` is
accepted and changes nothing: every rule counts. Anything else of nft is refused with its line, never ignored.
"""

from typing import Final, final

from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP, PROTO_NUMBERS, WITH_PORTS
from conntrackd_py.filter import nft, reject
from conntrackd_py.filter.nft_tokens import END, NEWLINE, Cursor, shown
from conntrackd_py.filter.policy import ACCEPT, CONTINUE, DROP, REJECT, Chain, FilterRule
from conntrackd_py.match.address import Addresses, addresses
from conntrackd_py.match.expr import Expr, Term
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers, numbers
from conntrackd_py.match.words import ParseError, address_range, integer, lookup, protocol

FAMILIES: Final = {"ip": 4, "ip6": 6, "inet": 0}
HOOKS: Final = {"input": LOCAL_IN, "forward": FORWARD, "output": LOCAL_OUT}
PRIORITIES: Final = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
MOST: Final = 1 << 30  # a priority
POLICIES: Final = {"accept": NF_ACCEPT, "drop": NF_DROP}
INTERFACES: Final = ("iif", "oif", "iifname", "oifname")
META_KEYS: Final = (*INTERFACES, "l4proto")
VERDICTS: Final = {"accept": ACCEPT, "drop": DROP, "reject": REJECT}
REJECT_V4: Final = {
    "net-unreachable": reject.NET_UNREACHABLE,
    "host-unreachable": reject.HOST_UNREACHABLE,
    "prot-unreachable": reject.PROTO_UNREACHABLE,
    "port-unreachable": reject.PORT_UNREACHABLE,
    "net-prohibited": reject.NET_PROHIBITED,
    "host-prohibited": reject.HOST_PROHIBITED,
    "admin-prohibited": reject.ADMIN_PROHIBITED,
}
REJECT_V6: Final = {
    "no-route": reject.NET_UNREACHABLE,
    "admin-prohibited": reject.ADMIN_PROHIBITED,
    "addr-unreachable": reject.HOST_UNREACHABLE,
    "port-unreachable": reject.PORT_UNREACHABLE,
    "policy-fail": reject.POLICY_FAIL,
    "reject-route": reject.REJECT_ROUTE,
}
REJECT_BOTH: Final = {
    "no-route": reject.NET_UNREACHABLE,
    "admin-prohibited": reject.ADMIN_PROHIBITED,
    "host-unreachable": reject.HOST_UNREACHABLE,
    "port-unreachable": reject.PORT_UNREACHABLE,
}
MATCHES: Final = (*INTERFACES, "ip", "ip6", "tcp", "udp", "th", "meta", "ct", "counter", "comment")


class RulesetError(ParseError):
    """The ruleset is wrong or not supported; `line` is where."""

    def __init__(self, line: int, error: ParseError) -> None:
        super().__init__(f"line {line}: {error.why}", error.word, error.known)
        self.line = line


@final
class Placed:
    """A chain and its priority."""

    def __init__(self, chain: Chain, priority: int) -> None:
        self.chain = chain
        self.priority = priority


def parse(text: str) -> list[Chain]:
    """The chains of all tables, by priority. Raises RulesetError."""
    cursor = Cursor(text, lines=True)
    placed: list[Placed] = []
    try:
        while _more(cursor, END):
            if cursor.skip("flush"):
                cursor.expect("ruleset", "after flush")
                continue
            cursor.skip("add")
            cursor.expect("table", "at the top of a ruleset")
            _table(cursor, placed)
    except ParseError as error:
        raise RulesetError(cursor.line, error) from error
    placed.sort(key=_priority)
    return [one.chain for one in placed]


def _priority(one: Placed) -> int:
    return one.priority


def _more(cursor: Cursor, end: str) -> bool:
    """Skip ends of statements; whether more comes before `end`, which is taken."""
    while cursor.peek() in (NEWLINE, ";"):
        cursor.take()
    if cursor.peek() == END and end != END:
        raise ParseError(f"expected {end}, found the end of the text")
    return not cursor.skip(end) if end != END else cursor.peek() != END


def _table(cursor: Cursor, placed: list[Placed]) -> None:
    word = cursor.value("a family or a name")
    family, name = 4, word
    if cursor.peek() not in ("{", NEWLINE):
        family = lookup(word, FAMILIES, "family of filter tables")
        name = cursor.value("the name of a table")
    _open(cursor, f"after table {name}")
    while _more(cursor, "}"):
        if not cursor.skip("chain"):
            raise ParseError(
                f"expected chain, found {shown(cursor.peek())}: only chains are supported in a table", cursor.peek()
            )
        chain = f"{name} {cursor.value('the name of a chain')}"
        placed.append(_chain(cursor, family, chain))


def _open(cursor: Cursor, where: str) -> None:
    while cursor.skip(NEWLINE):
        pass
    cursor.expect("{", where)


def _chain(cursor: Cursor, family: int, label: str) -> Placed:
    _open(cursor, f"after chain {label.split()[1]}")
    placed: Placed | None = None
    while _more(cursor, "}"):
        if cursor.skip("type"):
            placed = _base(cursor, family, label)
        elif cursor.skip("comment"):
            cursor.value("a comment")
        elif placed is None:
            break
        elif cursor.skip("policy"):
            placed.chain.default = lookup(cursor.value("accept or drop"), POLICIES, "policy")
        else:
            placed.chain.rules.append(_rule(cursor, family, f"{label} line {cursor.line}"))
        if cursor.peek() not in (";", NEWLINE, "}"):
            raise ParseError(f"expected the end of the statement, found {shown(cursor.peek())}", cursor.peek())
    if placed is None:
        raise ParseError(f"chain {label.split()[1]} must begin with type filter hook ...")
    return placed


def _base(cursor: Cursor, family: int, label: str) -> Placed:
    """`filter hook forward priority filter`, after type."""
    cursor.expect("filter", "after type (no other chains are supported)")
    cursor.expect("hook", "after type filter")
    hook = lookup(cursor.value("a hook"), HOOKS, "supported hook")
    cursor.expect("priority", "after the hook")
    return Placed(Chain(hook, [], NF_ACCEPT, family, label), _priority_number(cursor))


def _priority_number(cursor: Cursor) -> int:
    """`10`, `-10`, `filter` or `filter + 10`."""
    word = cursor.value("a priority")
    if word not in PRIORITIES:
        number = integer(word.removeprefix("-"), MOST, "priority")
        return -number if word.startswith("-") else number
    base = PRIORITIES[word]
    sign = cursor.peek()
    if sign not in ("+", "-"):
        return base
    cursor.take()
    number = integer(cursor.value("a number"), MOST, "number")
    return base + number if sign == "+" else base - number


@final
class Draft:
    """A rule that is being read."""

    def __init__(self, label: str, family: int) -> None:
        self.match = Match()
        self.rule = FilterRule(CONTINUE, self.match, label=label)
        self.table_family = family
        self.terms: list[Term] = []

    def once(self, taken: object, word: str) -> None:
        if taken is not None:
            raise ParseError(f"{word} repeats a match of the same rule", word)

    def of_family(self, family: int, word: str) -> None:
        known = self.match.family or self.table_family
        if known and known != family:
            raise ParseError(f"{word} is for IPv{family}, but this rule is for IPv{known}", word)
        self.match.family = family

    def of_protocol(self, found: Numbers, word: str) -> None:
        """The same protocol may be repeated, as in `ip protocol tcp tcp dport 22`."""
        if self.match.proto is not None and self.match.proto.bounds != found.bounds:
            raise ParseError(f"{word} contradicts the protocol given before", word)
        self.match.proto = found

    def done(self) -> FilterRule:
        if self.terms:
            self.match.ct = Expr(self.terms)
        self.match.settle()
        return self.rule


def _rule(cursor: Cursor, family: int, label: str) -> FilterRule:
    draft = Draft(label, family)
    while cursor.peek() not in (";", NEWLINE, "}", END):
        word = cursor.value("a match or a verdict")
        if word in VERDICTS:
            draft.rule.action = VERDICTS[word]
            if word == "reject" and cursor.skip("with"):
                _reject_with(cursor, draft)
            if cursor.skip("comment"):
                draft.rule.comment = cursor.value("a comment")
            break
        _match(cursor, draft, word)
    return draft.done()


def _match(cursor: Cursor, draft: Draft, word: str) -> None:
    if word == "meta":
        word = cursor.value("a meta key")
        if word not in META_KEYS:
            raise ParseError(f"meta {word} is not supported", word, META_KEYS)
    if word == "ct":
        draft.terms.append(nft.term(cursor))
    elif word in INTERFACES:
        _interface(cursor, draft, word)
    elif word == "l4proto":
        draft.of_protocol(_protocols(cursor), word)
    elif word in ("ip", "ip6"):
        _network_header(cursor, draft, word)
    elif word == "th" or word in PROTO_NUMBERS:
        _ports(cursor, draft, word)
    elif word == "comment":
        draft.rule.comment = cursor.value("a comment")
    elif word == "counter":
        if cursor.skip("packets"):
            cursor.value("a number")
            cursor.expect("bytes", "after packets")
            cursor.value("a number")
    else:
        raise ParseError(f"{word} is not supported", word, (*MATCHES, *VERDICTS))


def _inverted(cursor: Cursor) -> bool:
    cursor.skip("==")
    return cursor.skip("!=")


def _interface(cursor: Cursor, draft: Draft, word: str) -> None:
    invert = _inverted(cursor)
    names = [name[:-1] + "+" if name.endswith("*") else name for name in nft.values(cursor, "an interface")]
    if word.startswith("i"):
        draft.once(draft.match.in_interface, word)
        draft.match.in_interface = InterfaceNames(names, invert)
    else:
        draft.once(draft.match.out_interface, word)
        draft.match.out_interface = InterfaceNames(names, invert)


def _protocols(cursor: Cursor) -> Numbers:
    invert = _inverted(cursor)
    bounds: list[int] = []
    for name in nft.values(cursor, "a protocol"):
        bounds += [protocol(name), protocol(name)]
    return numbers(bounds, invert, 255)


def _network_header(cursor: Cursor, draft: Draft, word: str) -> None:
    draft.of_family(4 if word == "ip" else 6, word)
    field = cursor.value("a field of the header")
    if field == ("protocol" if word == "ip" else "nexthdr"):
        draft.of_protocol(_protocols(cursor), field)
    elif field in ("saddr", "daddr"):
        _address(cursor, draft, field, 4 if word == "ip" else 16)
    else:
        raise ParseError(f"{word} {field} is not supported", field, ("saddr", "daddr", "protocol", "nexthdr"))


def _address(cursor: Cursor, draft: Draft, field: str, length: int) -> None:
    invert = _inverted(cursor)
    bounds: list[bytes] = []
    for value in nft.values(cursor, "an address"):
        bounds += address_range(value)
    if any(len(bound) != length for bound in bounds):
        raise ParseError(f"the address of {field} is of the other family", field)
    found: Addresses = addresses(bounds, invert)
    if field == "saddr":
        draft.once(draft.match.source, field)
        draft.match.source = found
    else:
        draft.once(draft.match.destination, field)
        draft.match.destination = found


def _ports(cursor: Cursor, draft: Draft, word: str) -> None:
    if word != "th":
        number = protocol(word)
        if number not in WITH_PORTS:
            raise ParseError(f"{word} has no ports; its other fields are not supported", word)
        draft.of_protocol(Numbers([number, number]), word)
    field = cursor.value("sport or dport")
    if field not in ("sport", "dport"):
        raise ParseError(f"{word} {field} is not supported", field, ("sport", "dport"))
    found = nft.ports(cursor)
    if field == "sport":
        draft.once(draft.match.sport, field)
        draft.match.sport = found
    else:
        draft.once(draft.match.dport, field)
        draft.match.dport = found


def _reject_with(cursor: Cursor, draft: Draft) -> None:
    word = cursor.value("icmp, icmpv6, icmpx or tcp reset")
    if word == "tcp":
        cursor.expect("reset", "after tcp")
        draft.of_protocol(Numbers([6, 6]), "tcp reset")
        draft.rule.reject = reject.TCP_RESET
        return
    kinds = {"icmp": REJECT_V4, "icmpv6": REJECT_V6, "icmpx": REJECT_BOTH}
    if word not in kinds:
        raise ParseError(f"no such reject type: {word}", word, (*kinds, "tcp"))
    if word != "icmpx":
        draft.of_family(4 if word == "icmp" else 6, word)
    cursor.skip("type")
    draft.rule.reject = lookup(cursor.value("an ICMP code"), kinds[word], f"code of {word}")

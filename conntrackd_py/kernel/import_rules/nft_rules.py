"""The nat chains of nft text, and the chains that say notrack or set a zone -> base chains with their rules."""

from typing import Final, final

from conntrackd_py.const import PRI_CONNTRACK
from conntrackd_py.filter import nft
from conntrackd_py.filter.nft_tokens import END, Cursor, shown
from conntrackd_py.kernel.doctor.ruleset import DROP, Chain
from conntrackd_py.kernel.import_rules.conditions import Value, combined
from conntrackd_py.kernel.import_rules.walk import ACCEPT, GOTO, HOOKS, JUMP, NAT, POLICY, RAW, RETURN, Base, Entry
from conntrackd_py.kernel.translate.marks import UntranslatableError
from conntrackd_py.kernel.translate.nft_scan import Found, Scan
from conntrackd_py.kernel.translate.places import is_ours
from conntrackd_py.match.words import ParseError, integer, protocol, protocol_name

FAMILIES: Final = ("ip", "ip6", "inet")
NFPROTO: Final = {"ip": "ipv4", "ip6": "ipv6"}
INTERFACES: Final = {
    "iif": "in_interface",
    "iifname": "in_interface",
    "oif": "out_interface",
    "oifname": "out_interface",
}
WITH_PORTS: Final = ("tcp", "udp", "udplite", "sctp", "dccp")
FIELDS: Final = {"saddr": "source", "daddr": "destination"}
VERDICTS: Final = {"accept": ACCEPT, "return": RETURN, "jump": JUMP, "goto": GOTO}
ACTIONS: Final = {"snat": "SNAT", "dnat": "DNAT", "masquerade": "MASQUERADE", "redirect": "REDIRECT"}
FLAGS: Final = {"random": "random", "fully-random": "random_fully", "persistent": "persistent"}
XT_CT: Final = "xt target CT"  # how nft prints a target of iptables' table raw
ELSEWHERE: Final = "only rules before tracking are imported; give the helper or timeout in a [[raw]] rule"
MARK_MAX: Final = 0xFFFFFFFF


def read(text: str) -> tuple[list[Base], list[Entry], set[str]]:
    """The base chains, rules elsewhere that set a helper or timeout, and nothing, as of iptables."""
    scan = Scan(text)
    tables: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    raw: set[tuple[str, str]] = set()  # tables with rules for [[raw]]
    strays: list[Entry] = []
    for found in scan.found:
        chain = found.chain
        if is_ours(chain):
            continue
        entry = _entry(found, text.count("\n", 0, found.words[0].begin) + 1)
        tables.setdefault((chain.family, chain.table), {}).setdefault(chain.name, []).append(entry)
        if entry.does == RAW or XT_CT in entry.text:
            raw.add((chain.family, chain.table))
        elif "set" in entry.text and any(f"ct {what} set" in entry.text for what in ("helper", "timeout")):
            strays.append(Entry(entry.line, entry.text, problem=ELSEWHERE))
    bases = []
    for chain in scan.chains.values():
        table = (chain.family, chain.table)
        kind = _kind(chain, table in raw)
        if kind and chain.family in FAMILIES and not is_ours(chain):
            chains = tables.get(table, {})
            users = {one.name: chains.get(one.name, []) for one in scan.chains.values() if not one.hook}
            if chain.policy == DROP:
                strays.append(Entry(0, f"chain {chain.name} {{ policy drop; }}", problem=POLICY))
            bases.append(Base(kind, chain.hook, chain.priority, chain.family, chains.get(chain.name, []), users))
    return bases, strays, set()


def _kind(chain: Chain, raw: bool) -> str:
    if chain.nat:
        return NAT if chain.hook in HOOKS else ""
    return RAW if raw and chain.hook in ("prerouting", "output") and chain.priority < PRI_CONNTRACK else ""


def _entry(found: Found, line: int) -> Entry:
    entry = Entry(line, " ".join(found.rule.text.split()))
    reader = _Reader(entry)
    try:
        reader.read(Cursor(found.rule.text))
    except UntranslatableError as error:
        entry.problem = str(error)
    except ParseError as error:
        entry.problem = error.why
    return entry


@final
class _Reader:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def read(self, cursor: Cursor) -> None:
        while cursor.peek() != END:
            self._part(cursor, cursor.value("a match or a statement"))
        if not self.entry.does:
            raise UntranslatableError("it has no verdict that translates or ends the chain")

    def _part(self, cursor: Cursor, word: str) -> None:
        if word == "meta":
            word = cursor.value("a meta key")
        if word in INTERFACES:
            names = self._values(cursor)
            names = Value(tuple(one[:-1] + "+" if one.endswith("*") else one for one in names.items), names.invert)
            self._match(INTERFACES[word], names)
        elif word in ("l4proto", "nfproto", "mark", "fib"):
            self._meta(cursor, word)
        elif word in NFPROTO:
            self._network(cursor, word)
        elif word in WITH_PORTS or word == "th":
            self._ports(cursor, word)
        elif word == "ct":
            self._ct(cursor)
        elif word == "counter":
            self._counter(cursor)
        elif word == "comment":
            self.entry.keys["comment"] = cursor.value("a comment")
        else:
            self._statement(cursor, word)

    def _meta(self, cursor: Cursor, word: str) -> None:
        if word == "l4proto":
            self._protocols(self._values(cursor))
        elif word == "nfproto":
            self._match("family", self._values(cursor))
        elif word == "mark":
            self._mark(cursor)
        else:
            for expected in ("daddr", "type"):
                cursor.expect(expected, "after fib")
            found = self._values(cursor)
            if found.items != ("local",):
                raise UntranslatableError("of the types of fib only local has a counterpart")
            self._match("destination_type", found)

    def _mark(self, cursor: Cursor) -> None:
        mask = ""
        if cursor.skip("&") or cursor.skip("and"):
            mask = f"/{integer(cursor.value('a mask'), MARK_MAX, 'mask'):#x}"
        if cursor.peek() == "set":
            raise UntranslatableError("it sets the packet mark")
        found = self._values(cursor)
        if len(found.items) > 1:
            raise UntranslatableError("a set of marks has no counterpart")
        self._match("mark", Value((f"{integer(found.items[0], MARK_MAX, 'mark'):#x}{mask}",), found.invert))

    def _network(self, cursor: Cursor, word: str) -> None:
        self._match("family", Value((NFPROTO[word],)))
        field = cursor.value("a field of the header")
        if field in FIELDS:
            self._match(FIELDS[field], self._values(cursor))
        elif field in ("protocol", "nexthdr"):
            self._protocols(self._values(cursor))
        else:
            raise UntranslatableError(f"{word} {field} has no counterpart")

    def _protocols(self, found: Value) -> None:
        names = (protocol_name(protocol("icmpv6" if one == "ipv6-icmp" else one)) for one in found.items)
        self._match("proto", Value(tuple(names), found.invert))

    def _ports(self, cursor: Cursor, word: str) -> None:
        if word != "th":
            self._match("proto", Value((word,)))
        field = cursor.value("sport or dport")
        if field not in ("sport", "dport"):
            raise UntranslatableError(f"{word} {field} has no counterpart")
        found = self._values(cursor)
        self._match(field, Value(tuple(one.replace("-", ":") for one in found.items), found.invert))

    def _ct(self, cursor: Cursor) -> None:
        begin = cursor.at
        original = cursor.peek() in ("original", "reply") and cursor.peek(1) == "zone"
        if cursor.peek(1 if original else 0) == "zone" and cursor.peek(2 if original else 1) == "set":
            direction = cursor.take() if original else ""
            cursor.at += 2
            key = {"": "zone", "original": "zone_orig", "reply": "zone_reply"}[direction]
            self.entry.does = RAW
            self.entry.keys[key] = integer(cursor.value("a zone"), 0xFFFF, "zone")
            return
        if cursor.peek(1) == "set":
            raise UntranslatableError(f"ct {cursor.peek()} set has no counterpart here")
        nft.term(cursor)
        self._match("ct", Value((" ".join(["ct", *cursor.words[begin : cursor.at]]),)))

    def _counter(self, cursor: Cursor) -> None:
        if cursor.skip("packets"):
            cursor.value("a number")
            cursor.expect("bytes", "after packets")
            cursor.value("a number")

    def _statement(self, cursor: Cursor, word: str) -> None:
        entry = self.entry
        if word in VERDICTS and entry.does == RAW:
            if VERDICTS[word] in (JUMP, GOTO):
                raise UntranslatableError(f"{word} after another statement has no counterpart")
        elif word in VERDICTS:
            entry.does = VERDICTS[word]
            if entry.does in (JUMP, GOTO):
                entry.action = cursor.value("a chain")
        elif word in ACTIONS:
            entry.does, entry.action = NAT, ACTIONS[word]
            self._translation(cursor)
        elif word == "notrack":
            entry.does, entry.keys["notrack"] = RAW, True
        else:
            raise UntranslatableError(f"{word} has no counterpart")

    def _translation(self, cursor: Cursor) -> None:
        """`snat [ip|ip6] [prefix] to ADDRESS[:PORT] [FLAGS]`."""
        entry = self.entry
        if cursor.peek() in NFPROTO:
            self._match("family", Value((NFPROTO[cursor.take()],)))
        if cursor.skip("prefix"):
            raise UntranslatableError("a prefix of nft has no counterpart: write it as NETMAP")
        if cursor.skip("to"):
            entry.keys["to"] = _target(cursor)
        while cursor.peek() in FLAGS:
            entry.keys[FLAGS[cursor.take()]] = True
            cursor.skip(",")

    def _values(self, cursor: Cursor) -> Value:
        cursor.skip("==")
        invert = cursor.skip("!=")
        if cursor.peek() == "@" or cursor.peek().startswith("@"):
            raise UntranslatableError(f"the named set {cursor.peek()} has no counterpart")
        if cursor.peek() in ("<", ">", "<=", ">=", "&", "|", ".", "map", "vmap"):
            raise UntranslatableError(f"{cursor.peek()} has no counterpart")
        items = tuple(nft.values(cursor, "a value"))
        _no_variables(items)
        if cursor.peek() in (".", "vmap", "map"):
            raise UntranslatableError(f"{cursor.peek()} has no counterpart")
        return Value(items, invert)

    def _match(self, key: str, value: Value) -> None:
        if key == "family" and (value.invert or len(value.items) > 1):
            raise UntranslatableError("a set of families has no counterpart")
        both = combined(self.entry.when, {key: value})
        if both is None:
            raise UntranslatableError("its conditions contradict each other")
        self.entry.when = both


def _target(cursor: Cursor) -> str:
    """The words up to a flag, a comment or the end: `10.0.0.1`, `:80`, `[fd00::1]:80`."""
    parts: list[str] = []
    while cursor.peek() not in (END, ",", "comment", *FLAGS):
        word = cursor.take()
        if word in ("{", "map", ".", "numgen", "jhash", "symhash") or word.startswith("@"):
            raise UntranslatableError(f"a target by {shown(word)} has no counterpart")
        parts.append(word)
    _no_variables(tuple(parts))
    return "".join(parts)


def _no_variables(words: tuple[str, ...]) -> None:
    for word in words:
        if word.startswith("$"):
            raise UntranslatableError(f"{word} is a variable: print the ruleset with `nft list ruleset`")

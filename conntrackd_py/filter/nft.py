"""Ct expressions in nft's syntax (nft(8), CONNTRACK EXPRESSIONS): text -> Expr.

Without an operator, `status` and `state` match if one of the bits is set; every other key must be equal. With `==` and
`!=` they compare the whole word, as in nft: `ct status == assured` matches connections with no other bit. A packet has
one state bit, so `ct state != established,related` is always true; it is refused.
"""

from typing import Final

from conntrackd_py.const import (
    AF_INET,
    AF_INET6,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
)
from conntrackd_py.filter.nft_tokens import END, NEWLINE, Cursor, shown
from conntrackd_py.match.address import addresses
from conntrackd_py.match.expr import (
    AVGPKT,
    BYTES,
    DIRECTION,
    DIRECTIONS,
    EITHER,
    EXPIRATION,
    L3PROTO,
    LARGEST,
    MARK,
    PACKETS,
    PROTO_DST,
    PROTO_SRC,
    PROTOCOL,
    STATE_ALL,
    STATE_ESTABLISHED,
    STATE_INVALID,
    STATE_NEW,
    STATE_RELATED,
    STATE_UNTRACKED,
    STATUS,
    ZONE,
    Address,
    Expr,
    Number,
    State,
    Term,
)
from conntrackd_py.match.numbers import Numbers, exactly, numbers
from conntrackd_py.match.words import ParseError, address_range, integer, lookup, milliseconds, protocol

STATES: Final = {
    "invalid": STATE_INVALID,
    "established": STATE_ESTABLISHED,
    "related": STATE_RELATED,
    "new": STATE_NEW,
    "untracked": STATE_UNTRACKED,
}
STATUSES: Final = {
    "expected": IPS_EXPECTED,
    "seen-reply": IPS_SEEN_REPLY,
    "assured": IPS_ASSURED,
    "confirmed": IPS_CONFIRMED,
    "snat": IPS_SRC_NAT,
    "dnat": IPS_DST_NAT,
    "dying": IPS_DYING,
}
STATUSES_READ: Final = {**STATUSES, "seen_reply": IPS_SEEN_REPLY}
L3PROTOS: Final = {"ipv4": AF_INET, "ipv6": AF_INET6}
KEYS: Final = {
    "status": STATUS,
    "direction": DIRECTION,
    "mark": MARK,
    "zone": ZONE,
    "expiration": EXPIRATION,
    "l3proto": L3PROTO,
    "protocol": PROTOCOL,
    "proto-src": PROTO_SRC,
    "proto-dst": PROTO_DST,
    "bytes": BYTES,
    "packets": PACKETS,
    "avgpkt": AVGPKT,
}
DIRECTED: Final = (PROTO_SRC, PROTO_DST)  # keys that need a direction, as saddr and daddr do
UNDIRECTED: Final = (STATUS, DIRECTION, MARK, EXPIRATION)
ADDRESSES: Final = ("saddr", "daddr")
NOT_YET: Final = ("label", "helper", "id", "event", "secmark", "count")
OPERATORS: Final = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">=", "and": "&"}
COMPARISONS: Final = ("==", "!=", "<", ">", "<=", ">=", "!")
SETS: Final = ("", "==", "!=")


def parse(text: str) -> Expr:
    """The expression; each term begins with `ct`, optional for the first. Raises ParseError."""
    cursor = Cursor(text)
    if cursor.peek() != "ct":
        cursor.words.insert(0, "ct")
        cursor.numbers.insert(0, 1)
    found: list[Term] = []
    while cursor.peek() != END:
        if not cursor.skip("ct"):
            raise ParseError(f"expected ct, found {shown(cursor.peek())}", cursor.peek())
        found.append(term(cursor))
    return Expr(found)


def term(cursor: Cursor) -> Term:
    """One term, its `ct` already taken."""
    word = cursor.value("a ct key such as state")
    direction = EITHER
    if word in DIRECTIONS:
        direction = DIRECTIONS[word]
        word = cursor.value("a ct key such as saddr")
    family = 0
    if word in ("ip", "ip6"):
        family = 4 if word == "ip" else 16
        word = cursor.value("saddr or daddr")
        if word not in ADDRESSES:
            raise ParseError(f"expected saddr or daddr, found {word}", word, ADDRESSES)
    if word in ADDRESSES:
        return _address(cursor, word, direction, family)
    if word == "state":
        _undirected(word, direction)
        return _state(cursor)
    if word in NOT_YET:
        raise ParseError(f"ct {word} is not supported", word)
    if word not in KEYS:
        raise ParseError(f"no such ct key: {word}", word, (*KEYS, "state", *ADDRESSES))
    key = KEYS[word]
    if key in UNDIRECTED:
        _undirected(word, direction)
    if key in DIRECTED and direction == EITHER:
        raise ParseError(f"ct {word} needs a direction: ct original {word} or ct reply {word}", word)
    mask, found = _comparison(cursor, key)
    return Number(key, direction, mask, found)


def _undirected(word: str, direction: int) -> None:
    if direction != EITHER:
        raise ParseError(f"ct {word} has no direction", word)


def _state(cursor: Cursor) -> State:
    """The states for which the relation holds."""
    operator = _operator_ahead(cursor)
    mask, found = _comparison(cursor, STATUS, STATES)
    accepted = 0
    for bit in STATES.values():
        if found.has(bit & mask):
            accepted |= bit
    if accepted in (0, STATE_ALL):
        always = "always" if accepted else "never"
        raise ParseError(f"{always} true: {operator} compares the whole state; write ct state [!] established,related")
    if operator in ("!", "!="):
        return State(STATE_ALL & ~accepted, True)
    return State(accepted)


def _operator_ahead(cursor: Cursor) -> str:
    return OPERATORS.get(cursor.peek(), cursor.peek())


def _address(cursor: Cursor, word: str, direction: int, family: int) -> Address:
    if direction == EITHER:
        raise ParseError(f"ct {word} needs a direction: ct original {word} or ct reply {word}", word)
    operator = _operator(cursor)
    if operator not in SETS:
        raise ParseError(f"{operator} cannot compare addresses", operator)
    bounds: list[bytes] = []
    for value in values(cursor, "an address"):
        bounds += address_range(value)
    if len({len(bound) for bound in bounds} | ({family} if family else set())) > 1:
        raise ParseError("mixes IPv4 and IPv6")
    return Address(direction, word == "saddr", addresses(bounds, operator == "!="))


def _operator(cursor: Cursor) -> str:
    """Take the next word if it is a comparison; otherwise empty."""
    operator = _operator_ahead(cursor)
    if operator not in COMPARISONS:
        return ""
    cursor.take()
    return operator


def values(cursor: Cursor, what: str) -> list[str]:
    """One value, or the values of a set in braces, possibly on several lines."""
    if not cursor.skip("{"):
        return [cursor.value(what)]
    found: list[str] = []
    while not cursor.skip("}"):
        if cursor.skip(NEWLINE):
            continue
        found.append(cursor.value(what))
        while cursor.skip(NEWLINE):
            pass
        if cursor.peek() != "}":
            cursor.expect(",", "between the elements of a set")
    if not found:
        raise ParseError("an empty set")
    return found


def _comparison(cursor: Cursor, key: int, bits: dict[str, int] = STATUSES_READ) -> tuple[int, Numbers]:
    """Mask and set of a relation `[& mask] [operator] value`. bits: the names of bits."""
    most = LARGEST[key]
    mask = most
    masked = _operator_ahead(cursor) in ("&", "|", "^", "or", "xor", "<<", ">>")
    if masked:
        operator = cursor.take()
        if operator not in ("&", "and"):
            raise ParseError(f"{operator} is not supported, only & (and)", operator)
        mask = _bits(cursor, bits) if key == STATUS else integer(cursor.value("a mask"), most, "mask")
    operator = _operator(cursor)
    if key == STATUS:
        return _bit_relation(cursor, operator, mask, masked, bits)
    return mask, _number_set(cursor, operator, key)


def ports(cursor: Cursor) -> Numbers:
    """A set of ports, as after `tcp dport`."""
    return _number_set(cursor, _operator(cursor), PROTO_DST)


def _number_set(cursor: Cursor, operator: str, key: int) -> Numbers:
    most = LARGEST[key]
    if operator == "!":
        raise ParseError("! is for state and status; write !=", "!")
    if operator in ("<", ">", "<=", ">="):
        return _inequality(operator, _value(cursor.value("a number"), key), most)
    bounds: list[int] = []
    for word in values(cursor, "a value"):
        bounds += _range(word, key)
    return numbers(bounds, operator == "!=", most)


def _bit_relation(cursor: Cursor, operator: str, mask: int, masked: bool, bits: dict[str, int]) -> tuple[int, Numbers]:
    if operator not in ("", "!", "==", "!="):
        raise ParseError(f"{operator} cannot compare bits", operator)
    if cursor.peek() == "{":
        if operator == "!":
            raise ParseError("! cannot stand before a set; write !=", "!")
        bounds: list[int] = []
        for word in values(cursor, "a bit"):
            one = _bit(word, bits)
            bounds += [one, one]
        return mask, exactly(bounds, operator == "!=")
    value = _bits(cursor, bits)
    if operator in ("", "!=") and not masked and cursor.skip("/"):  # how nft lists & mask == value
        return _bits(cursor, bits), exactly([value, value], operator == "!=")
    if operator in ("==", "!=") or masked:
        if operator in ("", "!"):
            raise ParseError("& needs == or != after its mask")
        return mask, exactly([value, value], operator == "!=")
    if not value:
        raise ParseError("0 names no bit")
    return value, exactly([0, 0], operator == "")


def _bits(cursor: Cursor, bits: dict[str, int]) -> int:
    """`a`, `a,b`, `a|b`, `(a|b)` or a number."""
    parenthesis = cursor.skip("(")
    value = _bit(cursor.value("a bit"), bits)
    while cursor.skip(",") or cursor.skip("|"):
        value |= _bit(cursor.value("a bit"), bits)
    if parenthesis:
        cursor.expect(")", "to close the parenthesis")
    return value


def _bit(word: str, bits: dict[str, int]) -> int:
    if word[:1].isdigit():
        return integer(word, LARGEST[STATUS], "number")
    return lookup(word, bits, "ct state" if bits is STATES else "ct status")


def _inequality(operator: str, value: int, most: int) -> Numbers:
    if operator == "<":
        low, high = 0, value - 1
    elif operator == "<=":
        low, high = 0, value
    else:
        low, high = (value + 1 if operator == ">" else value), most
    if low > high:
        raise ParseError("can never be true")
    return Numbers([low, high])


def _range(word: str, key: int) -> list[int]:
    """`value` or `low-high`."""
    low, dash, high = word.partition("-")
    if not dash or key == PROTOCOL:
        value = _value(word, key)
        return [value, value]
    bounds = [_value(low, key), _value(high, key)]
    if bounds[1] < bounds[0]:
        raise ParseError(f"{word} ends before it begins", word)
    return bounds


def _value(word: str, key: int) -> int:
    if key == EXPIRATION:
        return milliseconds(word, LARGEST[key])
    if key == PROTOCOL:
        return protocol(word)
    if key == DIRECTION:
        return lookup(word, DIRECTIONS, "direction")
    if key == L3PROTO and word in L3PROTOS:
        return L3PROTOS[word]
    what = "port" if key in DIRECTED else "number"
    return integer(word, LARGEST[key], what)

"""What a rule matches, in the words of the configuration, with the set operations that jumps and returns need.

A packet must meet all conditions. Intersections and differences are exact; what the configuration cannot express raises
UntranslatableError. `None` stands for conditions that no packet meets.
"""

from dataclasses import dataclass
from typing import Final

from conntrackd_py.kernel.translate.marks import UntranslatableError
from conntrackd_py.match.address import VERSIONS, range_text
from conntrackd_py.match.words import address_range, colon_range

ADDRESSES: Final = ("source", "destination")
PORTS: Final = ("sport", "dport")
INTERFACES: Final = ("in_interface", "out_interface")
OTHER_FAMILY: Final = {"ipv4": "ipv6", "ipv6": "ipv4"}
# A field is negated after those without which a packet does not have it.
ORDER: Final = ("family", "in_interface", "out_interface", "destination_type", "source", "destination", "proto")
MOST_PIECES: Final = 32

Bounds = tuple[int, int, int]  # first, last, length of an address in bytes


@dataclass(frozen=True)
class Value:
    """One of the items, or with invert none of them."""

    items: tuple[str, ...]
    invert: bool = False


Conditions = dict[str, Value]


def combined(one: Conditions, other: Conditions) -> Conditions | None:
    """Both. Raises UntranslatableError."""
    found = dict(one)
    for key, value in other.items():
        both = value if key not in found else _both(key, found[key], value)
        if both is None:
            return None
        found[key] = both
    return found if len(families(found)) < 2 else None


def families(conditions: Conditions) -> set[str]:
    """The families of the addresses, and `family`."""
    found = set(conditions["family"].items) if "family" in conditions else set()
    for key in ADDRESSES:
        if key in conditions:
            found |= {f"ipv{VERSIONS[_bounds(key, item)[2]]}" for item in conditions[key].items}
    return found


def without(pieces: list[Conditions], removed: Conditions) -> list[Conditions]:
    """What is left of the pieces. The new pieces do not overlap. Raises UntranslatableError."""
    if not removed.keys().isdisjoint(PORTS) and ("proto" not in removed or removed["proto"].invert):
        raise UntranslatableError("packets without ports would have to be matched too")
    left: list[Conditions] = []
    for piece in pieces:
        if combined(piece, removed) is None:
            left.append(piece)
            continue
        held = piece
        for key in sorted(removed, key=lambda key: ORDER.index(key) if key in ORDER else len(ORDER)):
            outside = combined(held, {key: _negated(key, removed[key])})
            if outside is not None:
                left.append(outside)
            held = combined(held, {key: removed[key]}) or held
    if len(left) > MOST_PIECES:
        raise UntranslatableError("too many conditions would have to be combined")
    return left


def _negated(key: str, value: Value) -> Value:
    if key == "ct":
        raise UntranslatableError("the opposite of a ct expression is needed")
    if key == "family":
        return Value((OTHER_FAMILY[value.items[0]],))
    return Value(value.items, not value.invert)


def _both(key: str, one: Value, other: Value) -> Value | None:
    if one == other:
        return one
    if key == "ct":
        return Value((f"{one.items[0]} {other.items[0]}",))
    if one.invert and other.invert and key != "mark":
        return Value((*one.items, *(item for item in other.items if item not in one.items)), True)
    if key == "mark":
        if one.items == other.items:
            return None
        raise UntranslatableError("two marks would have to be compared")
    if one.invert:
        one, other = other, one
    items: list[str] = []
    if other.invert:
        items = list(one.items)
        for item in other.items:
            items = [part for left in items for part in _outside(key, left, item)]
    else:
        items = [found for a in one.items for b in other.items if (found := _common(key, a, b))]
    return Value(tuple(dict.fromkeys(items))) if items else None


def _common(key: str, one: str, other: str) -> str:
    """What both items match; empty: nothing."""
    if key in INTERFACES:
        return one if _within(one, other) else other if _within(other, one) else ""
    if key not in (*ADDRESSES, *PORTS):
        return one if one == other else ""
    (low, high, size), (first, last, length) = _bounds(key, one), _bounds(key, other)
    low, high = max(low, first), min(high, last)
    return _text(key, low, high, size) if size == length and low <= high else ""


def _outside(key: str, item: str, removed: str) -> list[str]:
    """What `item` matches and `removed` does not."""
    if not _common(key, item, removed):
        return [item]
    if key in INTERFACES and not _within(item, removed):
        raise UntranslatableError(f"{item} without {removed} cannot be written in one rule")
    if key not in (*ADDRESSES, *PORTS):
        return []
    (low, high, size), (first, last, _) = _bounds(key, item), _bounds(key, removed)
    parts = [(low, min(high, first - 1)), (max(low, last + 1), high)]
    return [_text(key, *part, size) for part in parts if part[0] <= part[1]]


def _within(name: str, other: str) -> bool:
    return name == other or (other.endswith("+") and name.removesuffix("+").startswith(other[:-1]))


def _bounds(key: str, item: str) -> Bounds:
    if key in PORTS:
        low, high = colon_range(item, 65535, "port")
        return low, high, 0
    first, last = address_range(item)
    return int.from_bytes(first, "big"), int.from_bytes(last, "big"), len(first)


def _text(key: str, low: int, high: int, size: int) -> str:
    if key in PORTS:
        return str(low) if low == high else f"{low}:{high}"
    return range_text(low.to_bytes(size, "big"), high.to_bytes(size, "big"))


def at_hook(when: Conditions, hook: str) -> Conditions | None:
    """The conditions as the chain of this hook judges them. Raises UntranslatableError.

    A packet has no outgoing interface before routing: `-o` matches nothing there, `! -o` everything (ip_packet_match).
    """
    unknown = "in_interface" if hook == "output" else "out_interface"
    if hook == "postrouting" and "in_interface" in when:
        raise UntranslatableError("at postrouting only out_interface can be matched")
    if hook == "output" and "out_interface" in when:
        raise UntranslatableError("the daemon translates at output before it knows the outgoing interface")
    if hook == "postrouting" or unknown not in when:
        return when
    if not when[unknown].invert and "+" not in when[unknown].items:
        return None
    return {key: value for key, value in when.items() if key != unknown}

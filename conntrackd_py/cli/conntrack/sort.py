"""--sort and --limit. The daemon lists its table unsorted; sorting is done here."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Any, Final

from conntrackd_py.cli.conntrack.options import SORT_KEYS
from conntrackd_py.cli.conntrack.values import UsageError

Fields = dict[str, Any]


class Reversed:
    """Inverts the order of a value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "Reversed") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and bool(other.value == self.value)

    __hash__ = None  # type: ignore[assignment]  # never hashed


def _both(name: str) -> Callable[[Fields], Any]:
    return lambda ct: ct["orig"].get(name, 0) + ct["reply"].get(name, 0)


def _address(name: str) -> Callable[[Fields], Any]:
    def value(ct: Fields) -> Any:
        address = ip_address(ct["orig"][name])
        return address.version, int(address)

    return value


VALUES: Final[dict[str, Callable[[Fields], Any]]] = {
    "proto": lambda ct: ct["protonum"],
    "src": _address("src"),
    "dst": _address("dst"),
    "sport": lambda ct: ct["orig"].get("sport", 0),
    "dport": lambda ct: ct["orig"].get("dport", 0),
    "state": lambda ct: ct.get("state", ""),
    "timeout": lambda ct: ct["timeout"],
    "packets": _both("packets"),
    "bytes": _both("bytes"),
    "mark": lambda ct: ct["mark"],
    "zone": lambda ct: ct.get("zone", ct["orig"].get("zone", 0)),
    "start": lambda ct: ct.get("start", 0),
    "id": lambda ct: ct["id"],
}


def key_of(text: str) -> Callable[[Fields], Any]:
    """The sort function of --sort: keys by priority, a minus for descending. Raises UsageError."""
    parts = []
    for word in text.split(","):
        name = word.removeprefix("-")
        if name not in SORT_KEYS:
            raise UsageError(f"Bad parameter `{word}'")
        parts.append((VALUES[name], word.startswith("-")))
    return lambda ct: tuple(Reversed(value(ct)) if down else value(ct) for value, down in parts)


def ordered(entries: Iterable[Fields], key: Callable[[Fields], Any], limit: int | None) -> Iterator[Fields]:
    """The entries in order. With a limit, only that many are kept in memory."""
    if limit is None:
        return iter(sorted(entries, key=key))
    return iter(heapq.nsmallest(limit, entries, key=key))

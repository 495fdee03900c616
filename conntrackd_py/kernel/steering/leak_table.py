"""The leak table: nftables rules of the kernel that drop what a source rule covers and the daemon did not pass.

It stands just after the daemon's last visit. A packet leaves if its mark has the bit "done", if its source is an
address of the router, if its interface or family is not steered, or if no source rule covers it. So nothing leaves
untranslated when another program deletes the steering rules. The table belongs to the daemon's process (nftables.py):
no other program can flush it, and it ends with the daemon. Then the steering rules drop.

While the steering rules are missing, replies to translated connections reach the router itself. Its TCP would answer
with RST, its UDP with port unreachable, and the sender would end the connection. The table drops these answers.

A mark from elsewhere is not believed: the bit is cleared at PREROUTING before the steering rules, as they do too.

Where nft cannot say a condition, or cannot read a field of the packet, a translating rule covers it and an ACCEPT rule
does not.
"""

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, final

from conntrackd_py.engine.mark_codec import done_bit, not_a_field
from conntrackd_py.kernel import netlink
from conntrackd_py.kernel.steering.nft_rules import ERROR_ABOUT_FIRST
from conntrackd_py.kernel.steering.nftables import Nftables, quoted
from conntrackd_py.match.address import Addresses
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rules import NAT_ACCEPT, NatRule
from conntrackd_py.nat.ruleset import Ruleset
from conntrackd_py.settings.schema import NAT, Settings

NAME: Final = "conntrackd_py_guard"
COUNTER: Final = "untranslated"
AFTER_LAST_VISIT: Final = -140  # the steering rules stand at mangle, -150
BEFORE_FIRST_VISIT: Final = -310  # and at raw, -300
ALL_BITS: Final = 0xFFFFFFFF
OWN: Final = "fib saddr type local"
REFUSALS: Final = (
    "tcp flags & rst == rst",
    "icmp type destination-unreachable icmp code port-unreachable",
    "icmpv6 type destination-unreachable icmpv6 code port-unreachable",
)


class NoTableError(Exception):
    """Why these settings cannot have a leak table."""


def ruleset(settings: Settings, *, keep: bool = False) -> str:
    """The table as nft text; empty if no source rule needs it. keep: the kernel tracks. Raises NoTableError."""
    if settings.mode != NAT or not settings.leak_guard:
        return ""
    rules = Ruleset(list(settings.nat), Interfaces()).source_rules
    if all(rule.action == NAT_ACCEPT for rule in rules):
        return ""
    mark_mask = settings.steering.mark_mask
    done, others = done_bit(mark_mask), ALL_BITS ^ not_a_field(mark_mask)
    if not done:
        raise NoTableError("steering.mark_mask is 0: packets that the daemon passed cannot be told apart")
    chains, leaving = [], [*_exempt(settings, done), *_own(settings, keep)]
    for number, rule in enumerate(rules):
        if rule.action == NAT_ACCEPT:
            leaving += [f"{one} return" for one in _exactly(rule.match)]
        else:
            chains.append(_chain(f"rule_{number}", _not_covered(rule)))
            leaving += [f"{one} jump rule_{number}" for one in _at_least(rule.match)]
    base = "type filter hook {} priority {}"
    clear = f"meta mark & {done:#x} != 0 meta mark set meta mark & {others:#x}"
    chains.append(_chain("entering", [base.format("prerouting", BEFORE_FIRST_VISIT), clear]))
    chains.append(_chain("leaving", [base.format("postrouting", AFTER_LAST_VISIT), *leaving]))
    return f"table inet {NAME} {{\nflags owner\ncounter {COUNTER} {{\n}}\n{''.join(chains)}}}\n"


def _chain(name: str, lines: list[str]) -> str:
    return f"chain {name} {{\n" + "".join(f"{line.strip()}\n" for line in lines) + "}\n"


def _exempt(settings: Settings, done: int) -> list[str]:
    """Packets that the daemon passed, and packets that are not steered."""
    steering = settings.steering
    lines = [f"meta mark & {done:#x} != 0 return"]
    for name in steering.exclude_interfaces:
        if not quoted(name):
            raise NoTableError(f"steering.exclude_interfaces: nft cannot match {name!r}")
        lines.append(f"oifname {quoted(name)} return")
    if len(steering.families) == 1:
        lines.append(f"meta nfproto != {steering.families[0]} return")
    return lines


def _own(settings: Settings, keep: bool) -> list[str]:
    """Packets of the router. Those that the daemon did not pass although it sees them: no refusals leave."""
    lines = []
    if settings.steering.local:
        if keep:  # the steering rules do not queue an error about a first packet; a match on ct turns tracking on
            lines.append(f"{OWN} {ERROR_ABOUT_FIRST} return")
        lines += [f"{OWN} {refusal} counter name {COUNTER} drop" for refusal in REFUSALS]
    return [*lines, f"{OWN} return"]


def _not_covered(rule: NatRule) -> list[str]:
    """Return the packets that this translating rule does not match; drop the others, also those that cannot be read."""
    match, to = rule.match, rule.to
    lines = [f"{_numbers(key, numbers, outside=True)} return" for key, numbers in _fields(match)]
    if to.low:
        lines.append(f"{_addresses('saddr', Addresses([to.low, to.high]))} return")
    return [*lines, f"counter name {COUNTER} drop"]


def _at_least(match: Match) -> list[str]:
    """Conditions, one of which every packet meets that the match fits, leaving out its numbers."""
    names, common = match.out_interface, _common(match)
    if names is None or not all(map(quoted, names.names)):
        return [common]
    return [f"{one} {common}" for one in _interfaces(names)]


def _exactly(match: Match) -> list[str]:
    """Conditions that only packets meet that the match fits."""
    names = match.out_interface
    if match.conditional or (names is not None and not all(map(quoted, names.names))):
        return []
    numbers = " ".join(_numbers(key, numbers) for key, numbers in _fields(match))
    return [f"{one} {_common(match)} {numbers}" for one in (_interfaces(names) if names is not None else [""])]


def _common(match: Match) -> str:
    parts = [f"meta nfproto ipv{match.family}"] if match.family else []
    parts += [
        _addresses(key, wanted)
        for key, wanted in (("saddr", match.source), ("daddr", match.destination))
        if wanted is not None
    ]
    return " ".join(parts)


def _interfaces(names: InterfaceNames) -> list[str]:
    """Alternatives."""
    if names.invert:
        return [" ".join(f"oifname != {quoted(name)}" for name in names.names)]
    return [f"oifname {quoted(name)}" for name in names.names]


def _addresses(key: str, wanted: Addresses) -> str:
    v4 = wanted.length == 4
    texts = [inet_ntop(AF_INET if v4 else AF_INET6, address) for address in wanted.bounds]
    return f"{'ip' if v4 else 'ip6'} {key} {_set(texts, wanted.invert)}"


def _fields(match: Match) -> list[tuple[str, Numbers]]:
    fields = (("meta l4proto", match.proto), ("th sport", match.sport), ("th dport", match.dport))
    return [(key, numbers) for key, numbers in fields if numbers is not None]


def _numbers(key: str, numbers: Numbers, *, outside: bool = False) -> str:
    """outside: a condition for the numbers that are not in the set."""
    return f"{key} {_set([str(bound) for bound in numbers.bounds], numbers.invert != outside)}"


def _set(bounds: list[str], invert: bool) -> str:
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    ranges = ", ".join(low if low == high else f"{low}-{high}" for low, high in pairs)
    return f"{'!= ' if invert else ''}{{ {ranges} }}"


@final
class LeakTable:
    """The table in the kernel. `put` and `remove` block for a system call or two; one call at a time."""

    def __init__(self) -> None:
        self.nftables: Nftables | None = None
        self.text = ""  # of the table in the kernel; empty: none
        self.dropped_before = 0  # by former tables
        self.highest = 0  # read so far: a counter never goes back

    def put(self, text: str) -> None:
        """Replace the table by this one, in one transaction; an empty text removes it. Raises NftablesError."""
        if text == self.text:
            return
        if self.nftables is None:
            self.nftables = Nftables()
        dropped = self.dropped()
        # An added table is there to be deleted, whether it was there before or not.
        self.nftables.run(f"add table inet {NAME} {{ flags owner; }}\ndelete table inet {NAME}\n{text}")
        self.dropped_before, self.text = dropped, text

    def end(self) -> None:
        """The table ends with its socket."""
        if self.nftables is not None:
            self.dropped()
            self.nftables.close()
        self.nftables, self.text = None, ""

    def dropped(self) -> int:
        """Packets dropped since the start: one small netlink request."""
        now = self.dropped_before + (netlink.nft_counter(NAME, COUNTER) if self.text else 0)
        self.highest = max(self.highest, now)
        return self.highest

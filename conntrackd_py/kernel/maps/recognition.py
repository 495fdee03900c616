"""Recognition: the kernel remembers the tuples of established TCP and UDP connections, and marks their packets KNOWN.

The steering rules then queue a known packet apart from first packets, so a flood of new connections cannot crowd it
out. The kernel fills the set itself: there is no transaction for a connection.

    prerouting   -301   before the first visit: clear marks from elsewhere; a packet whose tuple is in the set is KNOWN
    prerouting   -250   KNOWN ends here, for packets that were not queued
    input          55   remember the tuple of an established packet to the router
    postrouting  -145   remember the inverse of an established packet that leaves: packets of the other direction arrive
                        with that tuple (after the last rewriting; with "done", so that the leak table lets it pass)

KNOWN chooses the queue and nothing else: the daemon judges the packet as any other. So a tuple of an ended connection
does no harm. A tuple is forgotten FORGET_AFTER its last packet. While the set is full, no new tuple is remembered.
"""

from typing import Final

from conntrackd_py.engine.mark_codec import done_bit, established, known_mark
from conntrackd_py.kernel.steering.nftables import quoted

SET: Final = "known"
MOST_KNOWN: Final = 131072  # tuples of a family; a connection has two
FORGET_AFTER: Final = 60  # seconds
BEFORE_FIRST_VISIT: Final = -301  # iptables' table raw is at -300, the steering rules of nft at -299
AFTER_INPUT_VISIT: Final = 55  # iptables' table security is at 50
ALL_BITS: Final = 0xFFFFFFFF
PROTOCOLS: Final = {"ip": "meta l4proto", "ip6": "ip6 nexthdr"}  # IPv6: nothing stands before the ports


def known_set(address: str) -> str:
    """address: the nft type of an address."""
    return (
        f"set {SET} {{\ntype {address} . {address} . inet_proto . inet_service . inet_service\n"
        f"size {MOST_KNOWN}\nflags dynamic,timeout\ntimeout {FORGET_AFTER}s\n}}\n"
    )


def chains(family: str, mask: int, excluded: tuple[str, ...], *, offload: bool = False) -> str:
    """The chains of this nft family as nft text. mask: steering.mark_mask, not 0. excluded: interfaces.

    offload: the chain `flows` (flows.py) sees packets without other bits of the mark first.
    """
    known, field = known_mark(mask)
    arriving = f"{{ {_tuple(family)} }}"
    recognise = [
        *(f"iifname {name} return" for name in map(quoted, excluded) if name),
        f"meta mark & {field:#x} != 0 meta mark set meta mark & {ALL_BITS ^ field:#x}",
        *([_without_others(mask) + "jump flows"] if offload else []),
        f"{_ports(family)} {_tuple(family)} @{SET} update @{SET} {arriving} meta mark set meta mark | {known:#x}",
    ]
    own = [f"{_has_reply(mask, 0)} {_ports(family)} update @{SET} {arriving}"]
    return chain("recognise", "prerouting", BEFORE_FIRST_VISIT, recognise) + chain(
        "remember_own", "input", AFTER_INPUT_VISIT, own
    )


def unqueued(mask: int) -> str:
    """KNOWN ends here, for a packet that was not queued."""
    known, field = known_mark(mask)
    return f"meta mark & {field:#x} == {known:#x} meta mark set meta mark & {ALL_BITS ^ known:#x}"


def remember(family: str, mask: int) -> str:
    """The rule for a packet that leaves."""
    return f"{_has_reply(mask, done_bit(mask))} {_ports(family)} {remembered(family)}"


def remembered(family: str) -> str:
    """The statement that remembers the inverse tuple."""
    return f"update @{SET} {{ {family} daddr . {family} saddr . meta l4proto . th dport . th sport }}"


def _tuple(family: str) -> str:
    return f"{family} saddr . {family} daddr . meta l4proto . th sport . th dport"


def _ports(family: str) -> str:
    return f"{PROTOCOLS[family]} {{ tcp, udp }}"


def _has_reply(mask: int, done: int) -> str:
    marks = established(mask)
    return f"meta mark & {marks[0][1] | done:#x} {{ {', '.join(f'{value | done:#x}' for value, _ in marks)} }}"


def _without_others(mask: int) -> str:
    return f"meta mark & {ALL_BITS ^ mask:#x} == 0 " if mask != ALL_BITS else ""


def chain(name: str, hook: str, priority: int, lines: list[str]) -> str:
    """A base chain as nft text."""
    return "\n".join((f"chain {name} {{", f"type filter hook {hook} priority {priority}", *lines, "}", ""))

"""Recognition: the kernel remembers the tuples of established TCP and UDP connections, and marks their packets KNOWN.

The steering rules then queue a known packet apart from first packets, so a flood of new connections cannot crowd it
out. The kernel fills the set itself: there is no transaction for a connection.

    prerouting   -301   before the first visit: clear marks from elsewhere; a packet whose tuple is in the set is KNOWN
    prerouting   -298   KNOWN ends here, for packets that were not queued
    input          55   remember the tuple of an established packet to the router
    postrouting  -139   remember the inverse of an established packet that leaves: packets of the other direction arrive
                        with that tuple (after the last rewriting, -145, and after the leak table, -140)

KNOWN chooses the queue and nothing else: the daemon judges the packet as any other. So a tuple of an ended connection
does no harm. A tuple is forgotten FORGET_AFTER its last packet. While the set is full, no new tuple is remembered.
"""

from typing import Final

from conntrackd_py.engine.mark_codec import established, known_mark
from conntrackd_py.kernel.steering.nftables import quoted

SET: Final = "known"
MOST_KNOWN: Final = 131072  # tuples of a family; a connection has two
FORGET_AFTER: Final = 60  # seconds
BEFORE_FIRST_VISIT: Final = -301  # iptables' table raw is at -300, the steering rules of nft at -299
AFTER_FIRST_VISIT: Final = -298
AFTER_INPUT_VISIT: Final = 55  # iptables' table security is at 50
AFTER_LEAK_TABLE: Final = -139
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

    offload: the chain `flows` comes first, and packets that the kernel forwards are not remembered (flows.py).
    """
    known, field = known_mark(mask)
    ports = f"{PROTOCOLS[family]} {{ tcp, udp }}"
    arriving = f"{{ {family} saddr . {family} daddr . meta l4proto . th sport . th dport }}"
    inverse = f"{{ {family} daddr . {family} saddr . meta l4proto . th dport . th sport }}"
    marks = established(mask)
    has_reply = f"meta mark & {marks[0][1]:#x} {{ {', '.join(f'{value:#x}' for value, _ in marks)} }} {ports}"
    recognise = [
        *(f"iifname {name} return" for name in map(quoted, excluded) if name),
        f"meta mark & {field:#x} != 0 meta mark set meta mark & {ALL_BITS ^ field:#x}",
        *(["jump flows"] if offload else []),
        f"{ports} {arriving.strip('{} ')} @{SET} update @{SET} {arriving} meta mark set meta mark | {known:#x}",
    ]
    unqueued = [f"meta mark & {field:#x} == {known:#x} meta mark set meta mark & {ALL_BITS ^ known:#x}"]
    left = [f"meta mark & {field:#x} == {known:#x} meta mark set meta mark ^ {field ^ known:#x} return"]
    left = left if offload else []
    places = (
        ("recognise", "prerouting", BEFORE_FIRST_VISIT, recognise),
        ("unqueued", "prerouting", AFTER_FIRST_VISIT, unqueued),
        ("remember_own", "input", AFTER_INPUT_VISIT, [f"{has_reply} update @{SET} {arriving}"]),
        ("remember", "postrouting", AFTER_LEAK_TABLE, [*left, f"{has_reply} update @{SET} {inverse}"]),
    )
    return "".join(chain(*place) for place in places)


def chain(name: str, hook: str, priority: int, lines: list[str]) -> str:
    """A base chain as nft text."""
    return "\n".join((f"chain {name} {{", f"type filter hook {hook} priority {priority}", *lines, "}", ""))

"""Offload: the sets and chains by which the kernel forwards packets past the queues (engine/offload.py).

    prerouting   -301   a packet whose tuple is in `flows` gets the mark of its first visit; steering lets it pass
    postrouting  -152   source, if the packet leaves as `leaves` says; valid off, done on: translated at this hook
    postrouting  -146   such a mark is cleared, unless the source is the one in `sources`
    postrouting  -139   valid on again (recognition.py)

A SYN, FIN or RST, UDP without a checksum, a fragment without ports, and a packet with bits of the mark outside the mask
are not looked up. A mark is no proof here either: `leaves` has the addresses and the source port as they are before the
translation of the source, so a mark that another rule wrote translates nothing. (nft lists keys of five parts at most.)
The steering rules at -149 (iptables: -150) let a packet with "done" but not "valid" pass; only -152 makes such a mark,
which it clears first of all. Your rules in between could make one too, so -146 compares the source.

Each rule costs every packet about 10 ns, so there are as few as possible.
"""

from typing import Final

from conntrackd_py.engine.mark_codec import done_bit, not_a_field, valid_bit
from conntrackd_py.engine.mark_maps import FLOWS, LEAVES, SOURCES
from conntrackd_py.engine.offload import MOST_CONNECTIONS
from conntrackd_py.kernel.maps.recognition import ALL_BITS, chain

BEFORE_LAST_VISIT: Final = -152  # before iptables' table mangle, -150
AFTER_LAST_VISIT: Final = -146  # before the leak table
TUPLE: Final = "{0} . {0} . inet_proto . inet_service . inet_service"
FIRST_HEADER: Final = {"ip": (), "ip6": ("ip6 nexthdr != { tcp, udp } return",)}  # nothing before the ports


def sets(address: str) -> str:
    """address: the nft type of an address."""
    found = TUPLE.format(address)
    size = f"size {2 * MOST_CONNECTIONS}"
    return (
        f"map {FLOWS} {{\ntype {found} : mark\n{size}\ncounter\n}}\n"
        f"set {LEAVES} {{\ntype mark . iface_index . {address} . {address} . inet_service\n{size}\n}}\n"
        f"set {SOURCES} {{\ntype mark . {address}\n{size}\n}}\n"
    )


def lookup(family: str, mask: int) -> list[str]:
    """The rules of the chain to which `recognise` jumps."""
    return [
        *([f"meta mark & {ALL_BITS ^ mask:#x} != 0 return"] if mask != ALL_BITS else []),
        *FIRST_HEADER[family],
        "tcp flags & (fin | syn | rst) != 0 return",
        "udp checksum 0 return",
        f"meta mark set {family} saddr . {family} daddr . meta l4proto . th sport . th dport map @{FLOWS} accept",
    ]


def chains(family: str, mask: int, *, translate: bool) -> str:
    """All chains of this nft family as nft text. mask: steering.mark_mask, not 0. translate: with mark_maps."""
    done, valid, field = done_bit(mask), valid_bit(mask), not_a_field(mask)
    translated, cleared = f"meta mark & {field:#x} == {done:#x}", f"meta mark set meta mark & {ALL_BITS ^ field:#x}"
    key = f"meta mark & {mask ^ done:#x}"
    names = ((f"{family} saddr", "saddr"), ("tcp sport", "sport"), ("udp sport", "sport"))
    leave = [
        f"meta mark & {valid:#x} == 0 goto forged",
        *FIRST_HEADER[family],
        "udp checksum 0 return",
        f"{key} . oif . {family} saddr . {family} daddr . th sport != @{LEAVES} return",
        *(f"{where} set {key} map @{name}" for where, name in (names if translate else ())),
        f"meta mark set meta mark & {ALL_BITS ^ valid:#x} | {done:#x}",
    ]
    left = [f"{translated} meta mark & {mask:#x} . {family} saddr != @{SOURCES} {cleared}"]
    return (
        "\n".join((f"chain {FLOWS} {{", *lookup(family, mask), "}", ""))
        + f"chain forged {{\n{translated} {cleared}\n}}\n"
        + chain("leave", "postrouting", BEFORE_LAST_VISIT, leave)
        + chain("left", "postrouting", AFTER_LAST_VISIT, left)
    )

"""The sets and chains by which the kernel spares packets visits (engine/mark_maps.py: the second, offload.py: both).

    prerouting   -301   offload: a packet whose tuple is in `flows` gets the mark of its first visit; steering lets it
                        pass
    postrouting  -149   source, if the packet leaves as `leaves` says; valid off, done on: translated at this hook.
                        Offload: -152
    postrouting  -145   valid on again, if the source is the one in `sources`; else such a mark is cleared, unless the
                        daemon gave it to a packet of the router itself (tables.py)

UDP without a checksum, a fragment without ports and a SYN are not looked up, and in `flows` neither a FIN, a RST nor a
packet with bits of the mark outside the mask. A SYN may need its MSS clamped.
The kernel looks up `flows` while `alive` has an element, which the daemon puts anew every RENEW. So nothing is
forwarded longer than ALONE after the daemon has ended, if the tables outlive it (tables.py).
A mark is no proof here either: `leaves` has the addresses and the source port as they are before the translation of the
source, so a mark that another rule wrote translates nothing. (nft lists keys of five parts at most.)
The steering rules at -148 let a packet with "done" but not "valid" pass; only this chain makes such a mark, which it
clears first of all. With offload it stands before the table mangle of iptables (-150), where the steering rules of
iptables stand. Your rules in between could make such a mark too, so -145 compares the source. Without offload the rules
of your table mangle see the inside address, and steering rules of iptables queue every packet before this chain.

Each rule costs every packet about 10 ns and each base chain about 30 ns, so there are as few as possible.
"""

from typing import Final

from conntrackd_py.engine.mark_codec import done_bit, not_a_field, valid_bit
from conntrackd_py.engine.mark_maps import ALIVE, FLOWS, LEAVES, MOST_CONNECTIONS, SOURCES
from conntrackd_py.kernel.maps.recognition import ALL_BITS, chain

BEFORE_LAST_VISIT: Final = -149  # behind iptables' table mangle, -150; the steering rules of nft are at -148
BEFORE_MANGLE: Final = -152
LEAVE: Final = "leave"
ALONE: Final = 60  # seconds; the journal does not count so much time without a daemon either
RENEW: Final = 15_000  # ms
TUPLE: Final = "{0} . {0} . inet_proto . inet_service . inet_service"
FIRST_HEADER: Final = {"ip": (), "ip6": ("ip6 nexthdr != { tcp, udp } return",)}  # nothing before the ports


def sets(family: str, address: str, *, offload: bool) -> str:
    """address: the nft type of an address."""
    size = f"size {2 * MOST_CONNECTIONS}"
    flows = f"map {FLOWS} {{\ntype {TUPLE.format(address)} : mark\n{size}\ncounter\n}}\n" if offload else ""
    alive = f"set {ALIVE} {{\ntype ether_type\ntimeout {ALONE}s\nelements = {{ {family} }}\n}}\n" if offload else ""
    return (
        f"{flows}{alive}set {LEAVES} {{\ntype mark . iface_index . {address} . {address} . inet_service\n{size}\n}}\n"
        f"set {SOURCES} {{\ntype mark . {address}\n{size}\n}}\n"
    )


def lookup(family: str) -> list[str]:
    """The rules of the chain `flows`, to which `recognise` jumps."""
    return [
        *FIRST_HEADER[family],
        "tcp flags & (fin | syn | rst) != 0 return",
        "udp checksum 0 return",
        f"meta protocol @{ALIVE} meta mark set {family} saddr . {family} daddr . meta l4proto . th sport . th dport "
        f"map @{FLOWS} accept",
    ]


def leave(family: str, mask: int, *, spare: bool = True) -> list[str]:
    """The rules of the chain `leave`. spare: no rule must see forwarded packets."""
    looked_up = (
        *FIRST_HEADER[family],
        "udp checksum 0 return",
        "tcp flags & syn != 0 return",
        f"{_key(mask)} . oif . {family} saddr . {family} daddr . th sport @{LEAVES} goto spared",
    )
    return [f"meta mark & {valid_bit(mask):#x} == 0 goto forged", *(looked_up if spare else ())]


def spared(family: str, mask: int, *, translate: bool) -> list[str]:
    """The rules for a packet in `leaves`. translate: with mark_maps. Not all of them have another source."""
    key, done = _key(mask), f"meta mark set meta mark & {ALL_BITS ^ valid_bit(mask):#x} | {done_bit(mask):#x}"
    source = (
        f"tcp sport set {key} map @sport",
        f"udp sport set {key} map @sport",
        f"{family} saddr set {key} map @saddr {done} return",
    )
    return [*(source if translate else ()), done]


def _key(mask: int) -> str:
    return f"meta mark & {mask ^ done_bit(mask):#x}"


def chains(family: str, mask: int, *, translate: bool, offload: bool) -> str:
    """All chains of this nft family but the last one, as nft text. mask: steering.mark_mask, not 0."""
    done, field = done_bit(mask), not_a_field(mask)
    clear = f"meta mark & {field:#x} == {done:#x} meta mark set meta mark & {ALL_BITS ^ field:#x}"
    return (
        ("\n".join((f"chain {FLOWS} {{", *lookup(family), "}", "")) if offload else "")
        + f"chain forged {{\n{clear}\n}}\n"
        + "\n".join(("chain spared {", *spared(family, mask, translate=translate), "}", ""))
        + chain(
            LEAVE,
            "postrouting",
            BEFORE_MANGLE if offload else BEFORE_LAST_VISIT,
            leave(family, mask),
        )
    )

"""Ct expressions: the conditions of a rule on the packet's connection, in one form for nft's and iptables' syntax.

All terms of an expression must hold. A packet without a connection has a state, INVALID or UNTRACKED; every other
term fails for it, inverted or not. Exception: xt_conntrack, where the state condition alone decides about such a
packet and the other conditions of the same `-m conntrack` are skipped (`Conntrack`).
Sources: nft_ct_get_eval, conntrack_mt, connmark_mt.
"""

from abc import ABC, abstractmethod
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.const import IP_CT_UNTRACKED, IPS_CONFIRMED, IPS_DST_NAT, IPS_SRC_NAT, ORIGINAL, REPLY
from conntrackd_py.match.address import Addresses
from conntrackd_py.match.numbers import Numbers

# The state of a packet as one bit (NF_CT_STATE_*).
STATE_INVALID: Final = 1
STATE_ESTABLISHED: Final = 2
STATE_RELATED: Final = 4
STATE_NEW: Final = 8
STATE_UNTRACKED: Final = 64
STATE_ALL: Final = STATE_INVALID | STATE_ESTABLISHED | STATE_RELATED | STATE_NEW | STATE_UNTRACKED
STATE_UNATTACHED: Final = STATE_INVALID | STATE_UNTRACKED
# Status bits of the connection that only iptables counts as states.
STATE_SNAT: Final = 128
STATE_DNAT: Final = 256
STATE_NAT: Final = STATE_SNAT | STATE_DNAT
STATE_OF_CTINFO: Final = (
    STATE_ESTABLISHED,
    STATE_RELATED,
    STATE_NEW,
    STATE_ESTABLISHED,
    STATE_RELATED,
    STATE_INVALID,
    STATE_INVALID,
    STATE_UNTRACKED,
)

# Keys of a Number.
STATUS: Final = 0
DIRECTION: Final = 1
MARK: Final = 2
ZONE: Final = 3
EXPIRATION: Final = 4  # ms left; 0 before the connection is confirmed, as in the kernel
L3PROTO: Final = 5
PROTOCOL: Final = 6
PROTO_SRC: Final = 7  # source port, or ICMP identifier
PROTO_DST: Final = 8  # destination port, or ICMP type << 8 | code
BYTES: Final = 9
PACKETS: Final = 10
AVGPKT: Final = 11
LARGEST: Final = (
    0xFFFFFFFF,
    REPLY,
    0xFFFFFFFF,
    0xFFFF,
    0xFFFFFFFF,
    0xFF,
    0xFF,
    0xFFFF,
    0xFFFF,
    0xFFFFFFFFFFFFFFFF,
    0xFFFFFFFFFFFFFFFF,
    0xFFFFFFFFFFFFFFFF,
)  # by key

DIRECTIONS: Final = {"original": ORIGINAL, "reply": REPLY}
EITHER: Final = -1  # no direction given: counters of both are added


class Term(ABC):
    @abstractmethod
    def matches(self, skb: Skb, now: int) -> bool: ...

    @abstractmethod
    def form(self) -> str:
        """The same text for the same term and for no other."""


@final
class State(Term):
    """Whether the state of the packet is in mask (STATE_*)."""

    def __init__(self, mask: int, invert: bool = False) -> None:
        self.mask = mask
        self.invert = invert

    def matches(self, skb: Skb, now: int) -> bool:
        ct = skb.ct
        if ct is None:
            state = STATE_UNTRACKED if skb.ctinfo == IP_CT_UNTRACKED else STATE_INVALID
        else:
            state = STATE_OF_CTINFO[skb.ctinfo]
            if self.mask & STATE_NAT:
                if ct.status & IPS_SRC_NAT:
                    state |= STATE_SNAT
                if ct.status & IPS_DST_NAT:
                    state |= STATE_DNAT
        return (state & self.mask != 0) != self.invert

    def holds_unattached(self) -> bool:
        """Whether a packet without a connection can match."""
        matched = STATE_UNATTACHED & ~self.mask if self.invert else STATE_UNATTACHED & self.mask
        return matched != 0

    def form(self) -> str:
        return f"state {self.mask:#x} {self.invert}"


@final
class Number(Term):
    """Whether a number of the connection, masked, is in the set. direction: ORIGINAL, REPLY or EITHER."""

    def __init__(self, key: int, direction: int, mask: int, numbers: Numbers) -> None:
        self.key = key
        self.direction = direction
        self.mask = mask
        self.numbers = numbers

    def matches(self, skb: Skb, now: int) -> bool:
        ct = skb.ct
        if ct is None:
            return False
        if self.key == DIRECTION:
            return self.numbers.has(direction_of(skb.ctinfo))
        return self.numbers.has(number_of(ct, self.key, self.direction, now) & self.mask)

    def form(self) -> str:
        return f"{self.key} {self.direction} {self.mask:#x} {self.numbers.bounds} {self.numbers.invert}"


@final
class Address(Term):
    """Whether an address of the original or reply tuple is in the set."""

    def __init__(self, direction: int, source: bool, addresses: Addresses) -> None:
        self.direction = direction
        self.source = source
        self.addresses = addresses

    def matches(self, skb: Skb, now: int) -> bool:
        ct = skb.ct
        if ct is None:
            return False
        t = ct.tuple(self.direction)
        return self.addresses.has(tuples.src(t) if self.source else tuples.dst(t))

    def form(self) -> str:
        bounds = [bound.hex() for bound in self.addresses.bounds]
        return f"address {self.direction} {self.source} {bounds} {self.addresses.invert}"


@final
class Conntrack(Term):
    """One `-m conntrack` whose state condition can match packets without a connection; for those it alone decides."""

    def __init__(self, state: State, others: list[Term]) -> None:
        self.state = state
        self.others = others

    def matches(self, skb: Skb, now: int) -> bool:
        if not self.state.matches(skb, now):
            return False
        if skb.ct is None:
            return True
        return all(term.matches(skb, now) for term in self.others)

    def form(self) -> str:
        return f"conntrack ({self.state.form()}; {'; '.join([term.form() for term in self.others])})"


@final
class Expr:
    def __init__(self, terms: list[Term]) -> None:
        self.terms = terms

    def matches(self, skb: Skb, now: int) -> bool:
        return all(term.matches(skb, now) for term in self.terms)

    def form(self) -> str:
        """The same text for the same expression and for no other."""
        return "; ".join([term.form() for term in self.terms])


def number_of(ct: NfConn, key: int, direction: int, now: int) -> int:
    """The number of a key other than DIRECTION."""
    if key == STATUS:
        return ct.status
    if key == MARK:
        return ct.mark
    if key == EXPIRATION:
        return ct.remaining(now) if ct.status & IPS_CONFIRMED else 0
    if key == ZONE:
        return tuples.zone(ct.tuple(REPLY if direction == REPLY else ORIGINAL))
    if key in (BYTES, PACKETS, AVGPKT):
        return _counter(ct, key, direction)
    t = ct.tuple(REPLY if direction == REPLY else ORIGINAL)
    if key == PROTOCOL:
        return tuples.protonum(t)
    if key == L3PROTO:
        return tuples.l3num(t)
    return tuples.l4src(t) if key == PROTO_SRC else tuples.l4dst(t)


def _counter(ct: NfConn, key: int, direction: int) -> int:
    packets = octets = 0
    if direction != REPLY:
        packets += ct.packets_original
        octets += ct.bytes_original
    if direction != ORIGINAL:
        packets += ct.packets_reply
        octets += ct.bytes_reply
    if key == AVGPKT:
        return octets // packets if packets else 0
    return packets if key == PACKETS else octets

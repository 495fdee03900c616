"""Reasons in words: what the numbers of a refused packet say, in a sentence for people.

    INVALID: ACK 5101 is over the upper bound 5001 by 100: it acknowledges data nobody sent

A sentence is made when somebody reads it, never on the packet's way. A reason without a template here, or whose
numbers are not those the template expects, is still told, by its name.
"""

import ipaddress
from typing import Final

from conntrackd_py.proto import sctp, tcp_states
from conntrackd_py.reasons import (
    CONNECTION_LOST,
    FILTER_DROP,
    FILTER_REJECT,
    ICMP_INNER,
    ICMP_NO_NEW,
    ICMP_OUTER,
    ICMP_REDIRECT,
    ICMP_TYPE,
    ICMP_UNRELATED,
    INSERT_FAILED,
    INVALID_LIMIT,
    IP_FRAGMENT,
    IP_HEADER,
    IP_TRUNCATED,
    IP_VERSION,
    L4_CHECKSUM,
    L4_TRUNCATED,
    LEAK_GUARD,
    NAT_EXHAUSTED,
    NAT_MANIP,
    NAT_NO_ADDRESS,
    NAT_OIF_CHANGED,
    OK,
    REASON_NAMES,
    SCTP_CHUNKS,
    SCTP_NOT_NEW,
    SCTP_STATE,
    SCTP_VTAG,
    TABLE_FULL,
    TCP_ACK_OVER,
    TCP_ACK_UNDER,
    TCP_CHALLENGE_ACK,
    TCP_FLAGS,
    TCP_IGNORED,
    TCP_MORE_THAN_WINDOW,
    TCP_NOT_SYN,
    TCP_RST,
    TCP_SEQ_OVER,
    TCP_SEQ_UNDER,
    TCP_STATE,
    TUPLE_NOT_INVERTIBLE,
)

Numbers = tuple[int, ...]

M32: Final = 0xFFFFFFFF
DIRECTIONS: Final = ("the original", "the reply")
KINDS: Final = ("SYN", "SYN+ACK", "FIN", "ACK", "RST", "a packet without SYN, FIN, ACK and RST")  # by KIND_*
FLAG_LETTERS: Final = "FSRP.UEW"  # bit 0 to 7, as tcpdump writes them
CHUNKS: Final = {
    0: "DATA",
    1: "INIT",
    2: "INIT_ACK",
    3: "SACK",
    4: "HEARTBEAT",
    5: "HEARTBEAT_ACK",
    6: "ABORT",
    7: "SHUTDOWN",
    8: "SHUTDOWN_ACK",
    9: "ERROR",
    10: "COOKIE_ECHO",
    11: "COOKIE_ACK",
    14: "SHUTDOWN_COMPLETE",
}

# By reason; of several the one that says most with the numbers there are. {0}, {1}, ... are the numbers, {over} and
# {under} the distance of the first from the second.
TEMPLATES: Final[dict[int, tuple[str, ...]]] = {
    IP_TRUNCATED: ("the packet is cut off: {0} bytes of {1}",),
    IP_VERSION: ("IP version {0}, neither 4 nor 6", "IP version {0} in a packet of IP version {1}"),
    IP_HEADER: (
        "the IP header claims {0} bytes, {1} at least",
        "the IPv6 extension headers lead to number {0} at offset {1}, in a packet of {2} bytes",
    ),
    IP_FRAGMENT: (
        "a fragment at offset {0} of packet {1}: a router puts them together before, here it came in pieces",
    ),
    L4_TRUNCATED: ("layer 4 has {0} bytes, its header or length field needs {1}",),
    L4_CHECKSUM: ("checksum {0:#06x} is wrong, {1:#06x} would be right",),
    TCP_RST: ("RST with SEQ {0}, but its receiver has acknowledged up to {1}: it is stale, or forged",),
    TCP_SEQ_OVER: (
        "SEQ {0} is over the upper bound {1} by {over}: more than the receiver's window of {2} bytes allows",
    ),
    TCP_ACK_OVER: ("ACK {0} is over the upper bound {1} by {over}: it acknowledges data nobody sent",),
    TCP_MORE_THAN_WINDOW: ("it ends at {0}, {over} bytes more than the window allowed, whose end is {1}: let pass",),
    TCP_SEQ_UNDER: ("it ends at {0}, under the lower bound {1} by {under}: data acknowledged long ago, retransmitted",),
    TCP_ACK_UNDER: ("ACK {0} is under the lower bound {1} by {under}: too old",),
    TCP_CHALLENGE_ACK: ("ACK {0} answers a SYN that was let pass, whose end was {1} (RFC 5961 challenge)",),
    ICMP_TYPE: (
        "ICMP type {0} does not exist, the highest is {1}",
        "ICMP type {0} of IPv{1} in a packet of IPv{2}",
    ),
    ICMP_NO_NEW: ("ICMP type {0} cannot start a connection, and answers none",),
    ICMP_UNRELATED: ("the packet it quotes belongs to no known connection",),
    ICMP_REDIRECT: ("a redirect with hop limit {0} from {1:x}::/16: not from a router on the same link",),
    TUPLE_NOT_INVERTIBLE: ("no answer to such a packet is possible",),
    SCTP_VTAG: ("verification tag {0:#x}, {1:#x} would be right",),
    TABLE_FULL: (
        "the table is full",
        "the table is full: {0} connections of {1}, and none could be ended early",
    ),
    NAT_EXHAUSTED: ("no port or id is free in the range of its NAT rule",),
    NAT_NO_ADDRESS: ("MASQUERADE, but the outgoing interface has no address",),
    NAT_OIF_CHANGED: ("its connection is translated for another outgoing interface than it is now routed to",),
    NAT_MANIP: ("it cannot be translated safely",),
    LEAK_GUARD: ("a source NAT rule covers it and it has no connection: it would leave untranslated",),
    CONNECTION_LOST: ("its connection ended while it was on its way",),
    INSERT_FAILED: ("another connection took its tuple while it was on its way",),
    FILTER_DROP: ("the filter says so",),
    FILTER_REJECT: ("the filter says so, and its sender is told",),
}


def sentence(reason: int, numbers: Numbers, cause: int = OK) -> str:
    """The whole sentence: what became of the packet, and why. cause: what it was refused for before it was dropped."""
    if cause == OK:
        return f"{outcome(reason)}: {why(reason, numbers)}"
    return f"{outcome(reason)}: {why(reason, ())}; it was {outcome(cause)}: {why(cause, numbers)}"


def outcome(reason: int) -> str:
    """INVALID, IGNORED or DROPPED; empty for OK."""
    if reason == OK:
        return ""
    if reason < INVALID_LIMIT:
        return "INVALID"
    return "IGNORED" if reason < TABLE_FULL else "DROPPED"


def why(reason: int, numbers: Numbers) -> str:
    """The reason with its numbers, without what became of the packet."""
    text = _by_rule(reason, numbers) if numbers else ""
    if text:
        return text
    for template in reversed(TEMPLATES.get(reason, ())):
        if _wanted(template) <= len(numbers):
            return _fill(template, numbers)
    return REASON_NAMES[reason].replace("_", " ")


def _wanted(template: str) -> int:
    """How many numbers a template speaks of; what is left unsaid is background."""
    count = 0
    while "{" + str(count) in template:
        count += 1
    return count


def _fill(template: str, numbers: Numbers) -> str:
    if len(numbers) < 2:
        return template.format(*numbers)
    over = (numbers[0] - numbers[1]) & M32
    under = (numbers[1] - numbers[0]) & M32
    return template.format(*numbers, over=over, under=under)


def _by_rule(reason: int, numbers: Numbers) -> str:
    """Reasons whose sentence takes more than filling in; empty for all others."""
    if reason in (TCP_STATE, TCP_IGNORED, TCP_NOT_SYN, TCP_FLAGS):
        return _tcp(reason, numbers)
    if reason in (SCTP_STATE, SCTP_NOT_NEW, SCTP_CHUNKS):
        return _sctp(reason, numbers)
    if reason == ICMP_INNER:
        return f"the packet it quotes cannot be read: {why(numbers[0], numbers[1:])}"
    if reason == ICMP_OUTER:
        return f"it is addressed to {address(numbers[0])}, but what it quotes came from {address(numbers[1])}"
    return ""


def _tcp(reason: int, numbers: Numbers) -> str:
    if reason == TCP_FLAGS:
        return f"no TCP sends the flags [{flags(numbers[0])}] together"
    if len(numbers) < 3:
        return "only a SYN starts a connection, and this has none"
    direction, kind, state = DIRECTIONS[numbers[0]], KINDS[numbers[1]], numbers[2]
    if reason == TCP_NOT_SYN:
        return f"{kind} of no known connection, and nf_conntrack_tcp_loose is off"
    if state == tcp_states.TCP_CONNTRACK_NONE:
        return f"{kind} cannot start a connection, and belongs to none"
    name = tcp_states.STATE_NAMES[state]
    if reason == TCP_IGNORED:
        return f"{kind} in {direction} direction while {name}: let pass, the ends may know better"
    return f"{kind} in {direction} direction has no place in {name}"


def _sctp(reason: int, numbers: Numbers) -> str:
    if reason == SCTP_NOT_NEW:
        return f"{chunk(numbers[0])} cannot start an association, and belongs to none"
    if reason == SCTP_STATE:
        direction, state = DIRECTIONS[numbers[0]], sctp.STATE_NAMES[numbers[2]]
        return f"{chunk(numbers[1])} in {direction} direction has no place in {state}"
    if numbers[2] == 0:
        return f"chunk {numbers[1] + 1}, {chunk(numbers[0])}, has a length of zero"
    return f"{chunk(numbers[0])} as chunk {numbers[1] + 1}: it may not stand behind others, nor others behind INIT"


def chunk(kind: int) -> str:
    return CHUNKS.get(kind, f"chunk type {kind}")


def flags(bits: int) -> str:
    """TCP flags as tcpdump writes them."""
    return "".join([FLAG_LETTERS[bit] for bit in range(8) if bits >> bit & 1]) or "none"


def address(number: int) -> str:
    """An IPv4 or IPv6 address kept as a number."""
    return str(ipaddress.ip_address(number))

"""Sentences: a reason and its numbers as text.

    INVALID: ACK 5101 is over the upper bound 5001 by 100: it acknowledges data that was not sent

Sentences are made on request, never on the packet path. A reason without a template, or with other numbers than the
template has, is given by its name.
"""

import ipaddress
from typing import Final

from conntrackd_py.proto import sctp, tcp_states
from conntrackd_py.reasons import (
    BLOCK_LIMIT,
    CONNECTION_LOST,
    COPY_TRUNCATED,
    FILTER_DROP,
    FILTER_REJECT,
    HELPER_PARTIAL,
    HELPER_REFUSED,
    HOST_LIMIT,
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
    MAPPING_LIMIT,
    NAT_EXHAUSTED,
    NAT_FILTERED,
    NAT_MANIP,
    NAT_NO_ADDRESS,
    NAT_OIF_CHANGED,
    OK,
    REASON_NAMES,
    SCTP_CHUNKS,
    SCTP_NOT_NEW,
    SCTP_STATE,
    SCTP_VTAG,
    STANDBY,
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

# By reason. Of several templates the last one that has enough numbers is used. {0}, {1}, ... are the numbers, {over}
# and {under} the distance of the first from the second.
TEMPLATES: Final[dict[int, tuple[str, ...]]] = {
    IP_TRUNCATED: ("the packet is cut off: {0} bytes of {1}",),
    IP_VERSION: ("IP version {0}, neither 4 nor 6", "IP version {0} in a packet of IP version {1}"),
    IP_HEADER: (
        "the IP header claims {0} bytes, {1} at least",
        "the IPv6 extension headers lead to number {0} at offset {1}, in a packet of {2} bytes",
    ),
    IP_FRAGMENT: ("a fragment at offset {0} of packet {1}: it was not reassembled before tracking",),
    L4_TRUNCATED: ("layer 4 has {0} bytes, its header or length field needs {1}",),
    L4_CHECKSUM: ("checksum {0:#06x} is wrong, {1:#06x} would be right",),
    TCP_RST: ("RST with SEQ {0}, but its receiver has acknowledged up to {1}: it is old, or forged",),
    TCP_SEQ_OVER: (
        "SEQ {0} is over the upper bound {1} by {over}: more than the receiver's window of {2} bytes allows",
    ),
    TCP_ACK_OVER: ("ACK {0} is over the upper bound {1} by {over}: it acknowledges data that was not sent",),
    TCP_MORE_THAN_WINDOW: ("it ends at {0}, {over} bytes beyond the end of the window {1}: accepted",),
    TCP_SEQ_UNDER: ("it ends at {0}, under the lower bound {1} by {under}: retransmitted data, acknowledged long ago",),
    TCP_ACK_UNDER: ("ACK {0} is under the lower bound {1} by {under}: too old",),
    TCP_CHALLENGE_ACK: ("ACK {0} answers a SYN that was accepted and ended at {1} (RFC 5961 challenge ACK)",),
    ICMP_TYPE: (
        "ICMP type {0} does not exist, the highest is {1}",
        "ICMP type {0} of IPv{1} in a packet of IPv{2}",
    ),
    ICMP_NO_NEW: ("ICMP type {0} cannot start a connection and answers no query",),
    ICMP_UNRELATED: ("the packet that it quotes belongs to no connection in the table",),
    ICMP_REDIRECT: ("a redirect with hop limit {0} from {1:x}::/16: not from a router on the same link",),
    TUPLE_NOT_INVERTIBLE: ("its tuple cannot be inverted: no reply is possible",),
    SCTP_VTAG: ("verification tag {0:#x}, {1:#x} would be right",),
    COPY_TRUNCATED: ("its headers go on beyond the bytes that the kernel copied: it was not judged",),
    TABLE_FULL: (
        "the table is full",
        "the table is full: {0} connections of {1}, and no connection could be evicted",
    ),
    HOST_LIMIT: (
        "its host has too many connections",
        "its host has {0} connections, and limits.connections_per_host is {1}",
    ),
    NAT_EXHAUSTED: ("no port or ICMP id is free in the range of its NAT rule",),
    BLOCK_LIMIT: ("its host has used all ports of its blocks, or of its slice (blocks_per_host, deterministic)",),
    MAPPING_LIMIT: ("the limit of endpoint-independent mappings is reached: nat_mapping_max or limits.ports_per_host",),
    NAT_FILTERED: ("the filtering of the mapping with this address and port does not admit the sender",),
    NAT_NO_ADDRESS: ("MASQUERADE, but the outgoing interface has no address",),
    NAT_OIF_CHANGED: ("its connection was bound to another outgoing interface than it is routed to now",),
    NAT_MANIP: ("it cannot be translated safely",),
    LEAK_GUARD: ("a source NAT rule covers it and it has no connection: it would leave untranslated",),
    CONNECTION_LOST: ("its connection ended between its two visits",),
    INSERT_FAILED: ("another connection with its tuple was confirmed first",),
    HELPER_PARTIAL: (
        "its helper needs the rest of a command that is cut off, or cannot read it: the sender repeats it",
    ),
    HELPER_REFUSED: ("its helper cannot expect or translate the connection that it announces",),
    STANDBY: ("this daemon is a standby: another one forwards the packets of this connection",),
    FILTER_DROP: ("a filter rule or policy drops it",),
    FILTER_REJECT: ("a filter rule or policy rejects it",),
}


def sentence(reason: int, numbers: Numbers, cause: int = OK, rule: str = "") -> str:
    """Outcome and reason in a sentence.

    cause: the reason why the packet was INVALID before it was dropped. rule: the filter rule or default that decided.
    """
    verb = "rejects" if reason == FILTER_REJECT else "drops"
    text = f"the filter {verb} it: {rule}" if rule else why(reason, numbers if cause == OK else ())
    if cause == OK:
        return f"{outcome(reason)}: {text}"
    return f"{outcome(reason)}: {text}; it was {outcome(cause)}: {why(cause, numbers)}"


def outcome(reason: int) -> str:
    """INVALID, IGNORED or DROPPED; empty for OK."""
    if reason == OK:
        return ""
    if reason < INVALID_LIMIT:
        return "INVALID"
    return "IGNORED" if reason < TABLE_FULL else "DROPPED"


def why(reason: int, numbers: Numbers) -> str:
    """The reason with its numbers, without the outcome."""
    text = _by_rule(reason, numbers) if numbers else ""
    if text:
        return text
    for template in reversed(TEMPLATES.get(reason, ())):
        if _wanted(template) <= len(numbers):
            return _fill(template, numbers)
    return REASON_NAMES[reason].replace("_", " ")


def _wanted(template: str) -> int:
    """How many numbers a template needs."""
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
    """Sentences that a template cannot give; empty for other reasons."""
    if reason in (TCP_STATE, TCP_IGNORED, TCP_NOT_SYN, TCP_FLAGS):
        return _tcp(reason, numbers)
    if reason in (SCTP_STATE, SCTP_NOT_NEW, SCTP_CHUNKS):
        return _sctp(reason, numbers)
    if reason == ICMP_INNER:
        return f"the packet that it quotes cannot be read: {why(numbers[0], numbers[1:])}"
    if reason == ICMP_OUTER:
        return f"it is addressed to {address(numbers[0])}, but the quoted packet came from {address(numbers[1])}"
    return ""


def _tcp(reason: int, numbers: Numbers) -> str:
    if reason == TCP_FLAGS:
        return f"no TCP sends the flags [{flags(numbers[0])}] together"
    if len(numbers) < 3:
        return "only a SYN starts a connection, and this packet has none"
    direction, kind, state = DIRECTIONS[numbers[0]], KINDS[numbers[1]], numbers[2]
    if reason == TCP_NOT_SYN:
        return f"{kind} without a connection, and nf_conntrack_tcp_loose is off"
    if state == tcp_states.TCP_CONNTRACK_NONE:
        return f"{kind} cannot start a connection and belongs to none"
    name = tcp_states.STATE_NAMES[state]
    if reason == TCP_IGNORED:
        return f"{kind} in {direction} direction while {name}: accepted, the ends may know more"
    return f"{kind} in {direction} direction is not possible in {name}"


def _sctp(reason: int, numbers: Numbers) -> str:
    if reason == SCTP_NOT_NEW:
        return f"{chunk(numbers[0])} cannot start an association and belongs to none"
    if reason == SCTP_STATE:
        direction, state = DIRECTIONS[numbers[0]], sctp.STATE_NAMES[numbers[2]]
        return f"{chunk(numbers[1])} in {direction} direction is not possible in {state}"
    if numbers[2] == 0:
        return f"chunk {numbers[1] + 1}, {chunk(numbers[0])}, has a length of zero"
    return f"{chunk(numbers[0])} as chunk {numbers[1] + 1}: it must be the only chunk"


def chunk(kind: int) -> str:
    return CHUNKS.get(kind, f"chunk type {kind}")


def flags(bits: int) -> str:
    """TCP flags as tcpdump writes them."""
    return "".join([FLAG_LETTERS[bit] for bit in range(8) if bits >> bit & 1]) or "none"


def address(number: int) -> str:
    """The text of an IPv4 or IPv6 address given as a number."""
    return str(ipaddress.ip_address(number))

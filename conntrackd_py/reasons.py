"""Reasons: why a packet is INVALID, was ignored or was dropped, and why a connection ended.

Each is counted where it happens. Its name is the label in metrics, logs and `explain`.
"""

from typing import Final

# --- why a packet is INVALID: it passes with no connection attached ----------------------------
OK: Final = 0
IP_TRUNCATED: Final = 1  # shorter than its IP header says
IP_VERSION: Final = 2  # neither IPv4 nor IPv6
IP_HEADER: Final = 3  # header length or extension chain is impossible
IP_FRAGMENT: Final = 4  # a fragment: reassembly comes before the queue
L4_TRUNCATED: Final = 5  # layer 4 header or length field does not fit the packet
L4_CHECKSUM: Final = 6  # layer 4 checksum wrong (PREROUTING only)
TCP_FLAGS: Final = 7  # an impossible combination of flags
TCP_NOT_SYN: Final = 8  # mid-stream pickup is off (nf_conntrack_tcp_loose = false)
TCP_STATE: Final = 9  # the transition table has no transition for this packet
TCP_SEQ_OVER: Final = 10  # sequence beyond the receiver's window
TCP_ACK_OVER: Final = 11  # acknowledges data that was not sent
TCP_RST: Final = 12  # RST with a sequence before the peer's last acknowledgement
ICMP_TYPE: Final = 13  # an ICMP type that does not exist
ICMP_NO_NEW: Final = 14  # an ICMP type that cannot start a connection
ICMP_INNER: Final = 15  # the packet quoted inside an error cannot be read
ICMP_UNRELATED: Final = 16  # the error quotes a packet of no known connection
ICMP_OUTER: Final = 17  # the error's destination is not the source of the quoted packet
ICMP_REDIRECT: Final = 18  # an invalid IPv6 redirect (RFC 4861 8.1)
TUPLE_NOT_INVERTIBLE: Final = 19  # the packet's tuple has no inverse
SCTP_CHUNKS: Final = 20  # chunks that may not stand together, or none
SCTP_NOT_NEW: Final = 21  # chunks that cannot start an association
SCTP_VTAG: Final = 22  # the verification tag is not the association's
SCTP_STATE: Final = 23  # the transition table has no transition for this chunk
COPY_TRUNCATED: Final = 24  # mode observe: a header goes on beyond the bytes that the kernel copied
INVALID_LIMIT: Final = 25

# --- why an attached packet changed nothing (IGNORE) ------------------------------------------------
TCP_IGNORED: Final = 25  # the transition table ignores it: the ends may know better
TCP_MORE_THAN_WINDOW: Final = 26  # slightly more data than the window allows
TCP_SEQ_UNDER: Final = 27  # already acknowledged data, retransmitted
TCP_ACK_UNDER: Final = 28  # acknowledges data too far back
TCP_CHALLENGE_ACK: Final = 29  # answers an ignored SYN (RFC 5961)

# --- why a packet was dropped ----------------------------------------------------------------------
TABLE_FULL: Final = 30
NAT_EXHAUSTED: Final = 31  # no free port or id in the rule's range
NAT_NO_ADDRESS: Final = 32  # MASQUERADE without an address on the outgoing interface
NAT_OIF_CHANGED: Final = 33  # bound to another outgoing interface
NAT_MANIP: Final = 34  # cannot be rewritten safely
LEAK_GUARD: Final = 35  # a source-NAT rule covers it and it has no connection
CONNECTION_LOST: Final = 36  # its connection vanished between two visits
INSERT_FAILED: Final = 37  # its tuple was taken between its two visits
FILTER_DROP: Final = 38  # by a rule or the default of the filter
FILTER_REJECT: Final = 39  # the same, with an answer to the sender
NAT_OIF_UNKNOWN: Final = 40  # the outgoing interface is new: name and addresses are not yet known
HELPER_PARTIAL: Final = 41  # a command of a control channel is cut off or cannot be read: the sender repeats it
HELPER_REFUSED: Final = 42  # the announced connection cannot be expected or translated
MAPPING_LIMIT: Final = 43  # a limit of endpoint-independent mappings is reached
NAT_FILTERED: Final = 44  # sent to an endpoint-independent mapping whose filtering does not admit the sender
HOST_LIMIT: Final = 45  # its host has as many connections as limits.connections_per_host allows
STANDBY: Final = 46  # this daemon waits to take over from another one
BLOCK_LIMIT: Final = 47  # its host has used all ports of its blocks, or of its slice, and gets no more

REASON_NAMES: Final = (
    "ok",
    "ip_truncated",
    "ip_version",
    "ip_header",
    "ip_fragment",
    "l4_truncated",
    "l4_checksum",
    "tcp_flags",
    "tcp_not_syn",
    "tcp_state",
    "tcp_seq_over_window",
    "tcp_ack_over_window",
    "tcp_invalid_rst",
    "icmp_type",
    "icmp_cannot_start",
    "icmp_inner_header",
    "icmp_unrelated",
    "icmp_outer_address",
    "icmp_redirect",
    "tuple_not_invertible",
    "sctp_chunks",
    "sctp_cannot_start",
    "sctp_verification_tag",
    "sctp_state",
    "copy_truncated",
    "tcp_ignored",
    "tcp_more_than_window",
    "tcp_seq_under_window",
    "tcp_ack_under_window",
    "tcp_challenge_ack",
    "table_full",
    "nat_exhausted",
    "nat_no_address",
    "nat_interface_changed",
    "nat_not_rewritable",
    "leak_guard",
    "connection_lost",
    "insert_failed",
    "filter_drop",
    "filter_reject",
    "nat_interface_unknown",
    "helper_partial",
    "helper_refused",
    "nat_mapping_limit",
    "nat_filtered",
    "host_limit",
    "standby",
    "nat_block_limit",
)

EXPIRED_IN_USE: Final = "expired_in_use"  # a hint about an accepted packet, listed with the reasons
MARK_OVERWRITTEN: Final = "mark_overwritten"  # likewise: another rule overwrote the packet mark between the visits
OVERWRITTEN: Final = -1  # its number
HELPER_NOT_ENABLED: Final = "helper_not_enabled"  # likewise: no rule assigns a helper to a control connection
UNHELPED: Final = -2  # its number
REASON_NUMBERS: Final = {name: number for number, name in enumerate(REASON_NAMES) if number} | {
    EXPIRED_IN_USE: OK,
    MARK_OVERWRITTEN: OVERWRITTEN,
    HELPER_NOT_ENABLED: UNHELPED,
}

# --- why a connection ended ----------------------------------------------------------------------------
END_TIMEOUT: Final = 0
END_RST: Final = 1  # the only answer was a RST
END_REOPENED: Final = 2  # a new connection reused its tuple
END_EARLY_DROP: Final = 3  # evicted from a full table
END_DELETED: Final = 4  # conntrack -D
END_FLUSHED: Final = 5  # conntrack -F
END_ADDRESS_GONE: Final = 6  # its masquerade address or interface went away
END_OIF_CHANGED: Final = 7  # rerouted to another outgoing interface
END_FILTERED: Final = 8  # the filter dropped its first packet
END_NAT_EXHAUSTED: Final = 9  # no free port or id for its first packet
END_NO_ADDRESS: Final = 10  # no address to translate its first packet to
END_INSERT_FAILED: Final = 11  # its tuple was taken before its first packet left
END_JOINED: Final = 12  # the other end opened a connection at the same time; its packets belong to that one
END_CALL: Final = 13  # GRE: its call or its control connection has ended
END_NAMES: Final = (
    "timeout",
    "rst",
    "reopened",
    "early_drop",
    "deleted",
    "flushed",
    "address_gone",
    "interface_changed",
    "filtered",
    "nat_exhausted",
    "nat_no_address",
    "insert_failed",
    "joined",
    "call_ended",
)

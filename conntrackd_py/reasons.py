"""Why: the named small integers with which the engine says what it did to a packet or a connection.

A reason is a fact about one packet (INVALID, IGNORED or dropped) or about the end of one connection.
Each is counted where it happens; its name is the label in metrics, logs and `explain`.
Beside `const` because every room below the engine gives reasons and may import nothing above itself.
"""

from typing import Final

# --- why a packet is INVALID: it passes with no connection attached ----------------------------
OK: Final = 0
IP_TRUNCATED: Final = 1  # shorter than its IP header says
IP_VERSION: Final = 2  # neither IPv4 nor IPv6
IP_HEADER: Final = 3  # header length or extension chain is impossible
IP_FRAGMENT: Final = 4  # a fragment that nobody reassembled
L4_TRUNCATED: Final = 5  # layer 4 header or length field does not fit the packet
L4_CHECKSUM: Final = 6  # layer 4 checksum wrong (PREROUTING only)
TCP_FLAGS: Final = 7  # a flag combination no TCP sends
TCP_NOT_SYN: Final = 8  # mid-stream pickup is off (nf_conntrack_tcp_loose = false)
TCP_STATE: Final = 9  # the transition table has no arrow for this packet
TCP_SEQ_OVER: Final = 10  # sequence beyond the receiver's window
TCP_ACK_OVER: Final = 11  # acknowledges data nobody sent
TCP_RST: Final = 12  # RST with a sequence the peer has already acknowledged past
ICMP_TYPE: Final = 13  # an ICMP type that does not exist
ICMP_NO_NEW: Final = 14  # an ICMP type that cannot start a connection
ICMP_INNER: Final = 15  # the packet quoted inside an error cannot be read
ICMP_UNRELATED: Final = 16  # the error quotes a packet of no known connection
ICMP_OUTER: Final = 17  # the error is addressed to somebody outside the quoted connection
ICMP_REDIRECT: Final = 18  # an IPv6 redirect that RFC 4861 says to discard
TUPLE_NOT_INVERTIBLE: Final = 19  # no reply tuple can be made of this packet
SCTP_CHUNKS: Final = 20  # chunks that may not stand together, or none
SCTP_NOT_NEW: Final = 21  # chunks that cannot start an association
SCTP_VTAG: Final = 22  # the verification tag is not the association's
SCTP_STATE: Final = 23  # the transition table has no arrow for this chunk
INVALID_LIMIT: Final = 24

# --- why an attached packet changed nothing (IGNORE) ------------------------------------------------
TCP_IGNORED: Final = 24  # the table says: let it pass, both ends may know better
TCP_MORE_THAN_WINDOW: Final = 25  # a little more data than the window allowed
TCP_SEQ_UNDER: Final = 26  # already acknowledged data, retransmitted
TCP_ACK_UNDER: Final = 27  # an acknowledgement that is too old
TCP_CHALLENGE_ACK: Final = 28  # RFC 5961 answer to a SYN we let through

# --- why a packet was dropped ----------------------------------------------------------------------
TABLE_FULL: Final = 29
NAT_EXHAUSTED: Final = 30  # no free port or id in the rule's range
NAT_NO_ADDRESS: Final = 31  # MASQUERADE, and the outgoing interface has no address
NAT_OIF_CHANGED: Final = 32  # bound to one outgoing interface, now routed to another
NAT_MANIP: Final = 33  # cannot be rewritten safely
LEAK_GUARD: Final = 34  # a source-NAT rule covers it and it has no connection
CONNECTION_LOST: Final = 35  # its connection vanished between two visits
INSERT_FAILED: Final = 36  # the tuple was taken while the packet was on its way
FILTER_DROP: Final = 37  # a rule or default of the filter says so
FILTER_REJECT: Final = 38  # the same, and its sender is told
NAT_OIF_UNKNOWN: Final = 39  # leaves by an interface that is too new for its name and addresses to be known

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
)

# --- why a connection ended ----------------------------------------------------------------------------
END_TIMEOUT: Final = 0
END_RST: Final = 1  # the only answer was a RST
END_REOPENED: Final = 2  # a SYN reused the tuple of a closed connection
END_EARLY_DROP: Final = 3  # made room while the table was full
END_DELETED: Final = 4  # conntrack -D
END_FLUSHED: Final = 5  # conntrack -F
END_ADDRESS_GONE: Final = 6  # its masquerade address or interface went away
END_OIF_CHANGED: Final = 7  # rerouted to another outgoing interface
END_FILTERED: Final = 8  # the filter did not let its first packet pass
END_NAT_EXHAUSTED: Final = 9  # no free port or id for its first packet
END_NO_ADDRESS: Final = 10  # no address to translate its first packet to
END_INSERT_FAILED: Final = 11  # its tuple was taken before its first packet left
END_JOINED: Final = 12  # its packets joined the connection that the other end had opened at the same time
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
)

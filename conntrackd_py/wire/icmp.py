"""ICMP and ICMPv6 types (RFC 792, RFC 4443, RFC 4861)."""

from typing import Final

HEADER: Final = 8
CHECKSUM_AT: Final = 2

ECHO_REPLY: Final = 0
DEST_UNREACH: Final = 3
SOURCE_QUENCH: Final = 4
REDIRECT: Final = 5
ECHO: Final = 8
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12
TIMESTAMP: Final = 13
TIMESTAMP_REPLY: Final = 14
INFO_REQUEST: Final = 15
INFO_REPLY: Final = 16
ADDRESS_MASK: Final = 17
ADDRESS_MASK_REPLY: Final = 18
HIGHEST_TYPE: Final = 18

V6_ECHO: Final = 128
V6_ECHO_REPLY: Final = 129
V6_MLD_QUERY: Final = 130
V6_NEIGHBOUR_ADVERTISEMENT: Final = 136
V6_REDIRECT: Final = 137
V6_NODE_INFO_QUERY: Final = 139
V6_NODE_INFO_REPLY: Final = 140
V6_MLD2_REPORT: Final = 143

V6_REDIRECT_HEADER: Final = 40  # ICMPv6 header, target and destination address
OPT_REDIRECTED_HEADER: Final = 4


def is_error(kind: int) -> bool:
    """Whether this ICMPv4 type is an error, which quotes the packet it reports on."""
    return kind in (DEST_UNREACH, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM)


def is_v6_untracked(kind: int) -> bool:
    """Whether this ICMPv6 type is multicast listener or neighbour discovery, which is not tracked."""
    return V6_MLD_QUERY <= kind <= V6_NEIGHBOUR_ADVERTISEMENT or kind == V6_MLD2_REPORT

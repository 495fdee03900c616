"""Numbers and names of the kernel and the IP protocols, all Final. It imports nothing.

Sources: include/uapi/linux/netfilter*.h and the IANA registries.
"""

from typing import Final

# --- hooks (enum nf_inet_hooks) and verdicts -------------------------------------------------
PRE_ROUTING: Final = 0
LOCAL_IN: Final = 1
FORWARD: Final = 2
LOCAL_OUT: Final = 3
POST_ROUTING: Final = 4
HOOK_NAMES: Final = ("PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING")

NF_DROP: Final = 0
NF_ACCEPT: Final = 1
NF_QUEUE: Final = 3
NF_REPEAT: Final = 4
VERDICT_NAMES: Final = ("drop", "accept")

# --- hook priorities (enum nf_ip_hook_priorities) -------------------------------------------
PRI_RAW: Final = -300
PRI_CONNTRACK: Final = -200
PRI_MANGLE: Final = -150
PRI_TCPMSS: Final = -149  # after the mark rules
PRI_NAT_DST: Final = -100
PRI_SEQADJ: Final = -99  # not the kernel's, which adjusts everything when the packet leaves
PRI_FILTER: Final = 0
PRI_NAT_SRC: Final = 100
PRI_HELPER: Final = 300
PRI_CONFIRM: Final = 0x7FFFFFFF

# --- direction and ctinfo (enum ip_conntrack_info) -------------------------------------------
ORIGINAL: Final = 0
REPLY: Final = 1

IP_CT_ESTABLISHED: Final = 0
IP_CT_RELATED: Final = 1
IP_CT_NEW: Final = 2
IP_CT_ESTABLISHED_REPLY: Final = 3
IP_CT_RELATED_REPLY: Final = 4
IP_CT_INVALID: Final = 5  # not the kernel's, where no connection is attached; its first free number
IP_CT_UNTRACKED: Final = 7
CTINFO_NAMES: Final = (
    "ESTABLISHED",
    "RELATED",
    "NEW",
    "ESTABLISHED_REPLY",
    "RELATED_REPLY",
    "INVALID",
    "",
    "UNTRACKED",
)

# --- status bits (enum ip_conntrack_status) --------------------------------------------------
IPS_EXPECTED: Final = 1 << 0
IPS_SEEN_REPLY: Final = 1 << 1
IPS_ASSURED: Final = 1 << 2
IPS_CONFIRMED: Final = 1 << 3
IPS_SRC_NAT: Final = 1 << 4
IPS_DST_NAT: Final = 1 << 5
IPS_SEQ_ADJUST: Final = 1 << 6
IPS_SRC_NAT_DONE: Final = 1 << 7
IPS_DST_NAT_DONE: Final = 1 << 8
IPS_DYING: Final = 1 << 9
IPS_FIXED_TIMEOUT: Final = 1 << 10
IPS_NAT_CLASH: Final = 1 << 12
IPS_HELPER: Final = 1 << 13
IPS_OFFLOAD: Final = 1 << 14
IPS_HW_OFFLOAD: Final = 1 << 15
IPS_NAT_MASK: Final = IPS_SRC_NAT | IPS_DST_NAT
IPS_NAT_DONE_MASK: Final = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE
STATUS_NAMES: Final = (
    "EXPECTED",
    "SEEN_REPLY",
    "ASSURED",
    "CONFIRMED",
    "SRC_NAT",
    "DST_NAT",
    "SEQ_ADJUST",
    "SRC_NAT_DONE",
    "DST_NAT_DONE",
    "DYING",
    "FIXED_TIMEOUT",
    "TEMPLATE",
    "NAT_CLASH",
    "HELPER",
    "OFFLOAD",
    "HW_OFFLOAD",
)

# --- events (enum ip_conntrack_events), as bits ----------------------------------------------
IPCT_NEW: Final = 1 << 0
IPCT_RELATED: Final = 1 << 1
IPCT_DESTROY: Final = 1 << 2
IPCT_REPLY: Final = 1 << 3
IPCT_ASSURED: Final = 1 << 4
IPCT_PROTOINFO: Final = 1 << 5
IPCT_HELPER: Final = 1 << 6
IPCT_MARK: Final = 1 << 7
IPCT_SEQADJ: Final = 1 << 8
IPCT_LABEL: Final = 1 << 10

# --- manip: which address of the packet a NAT binding rewrites (enum nf_nat_manip_type) ---------
MANIP_SRC: Final = 0
MANIP_DST: Final = 1

# --- layer 3 and 4 protocol numbers ------------------------------------------------------------
AF_INET: Final = 2  # l3num, as conntrack(8) prints it with -o extended
AF_INET6: Final = 10

IPPROTO_HOPOPTS: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_IGMP: Final = 2
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_DCCP: Final = 33
IPPROTO_IPV6: Final = 41
IPPROTO_ROUTING: Final = 43
IPPROTO_FRAGMENT: Final = 44
IPPROTO_GRE: Final = 47
IPPROTO_ESP: Final = 50
IPPROTO_AH: Final = 51
IPPROTO_ICMPV6: Final = 58
IPPROTO_NONE: Final = 59
IPPROTO_DSTOPTS: Final = 60
IPPROTO_SCTP: Final = 132
IPPROTO_UDPLITE: Final = 136

PROTO_NAMES: Final = {
    IPPROTO_ICMP: "icmp",
    IPPROTO_TCP: "tcp",
    IPPROTO_UDP: "udp",
    IPPROTO_DCCP: "dccp",
    IPPROTO_GRE: "gre",
    IPPROTO_ICMPV6: "icmpv6",
    IPPROTO_SCTP: "sctp",
    IPPROTO_UDPLITE: "udplite",
}
PROTO_NUMBERS: Final = {name: number for number, name in PROTO_NAMES.items()}

WITH_PORTS: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP)
ICMP_PROTOCOLS: Final = (IPPROTO_ICMP, IPPROTO_ICMPV6)

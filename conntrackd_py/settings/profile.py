"""`profile`: the defaults of several keys at once. A key in the file still decides.

rfc: what RFC 4787, 5382, 5508, 6146, 6888 and 7857 require or recommend where it differs from the kernel
(docs/rfc.md).
"""

from typing import Final

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.nat.rules import FILTER_ADDRESS, FILTERINGS
from conntrackd_py.settings import schema

NETFILTER: Final = "netfilter"
RFC: Final = "rfc"
PROFILES: Final = (NETFILTER, RFC)

TRANSITORY: Final = 240
ESTABLISHED: Final = 7440
SESSION: Final = 300

RFC_TUNABLES: Final = Tunables(
    nf_conntrack_generic_timeout=SESSION,
    nf_conntrack_icmp_timeout=60,
    nf_conntrack_icmpv6_timeout=60,
    nf_conntrack_udp_timeout=SESSION,
    nf_conntrack_udp_timeout_stream=SESSION,
    nf_conntrack_tcp_timeout_syn_sent=TRANSITORY,
    nf_conntrack_tcp_timeout_syn_recv=TRANSITORY,
    nf_conntrack_tcp_timeout_established=ESTABLISHED,
    nf_conntrack_tcp_timeout_fin_wait=TRANSITORY,
    nf_conntrack_tcp_timeout_close_wait=TRANSITORY,
    nf_conntrack_tcp_timeout_last_ack=TRANSITORY,
    nf_conntrack_tcp_timeout_time_wait=TRANSITORY,
    nf_conntrack_tcp_timeout_close=TRANSITORY,
    nf_conntrack_tcp_timeout_max_retrans=ESTABLISHED,
    nf_conntrack_tcp_timeout_unacknowledged=ESTABLISHED,
    nat_port_rest=120,
)


class Profile:
    """Defaults by name of the profile."""

    def __init__(self, name: str) -> None:
        rfc = name == RFC
        self.tunables = RFC_TUNABLES if rfc else Tunables()
        self.tcp_tracker = schema.RFC7857 if rfc else schema.NETFILTER
        self.nat_exhausted = schema.REJECT if rfc else schema.DROP
        self.independent = rfc  # mapping and hairpin of source rules
        self.filtering = FILTERINGS[FILTER_ADDRESS if rfc else 0]

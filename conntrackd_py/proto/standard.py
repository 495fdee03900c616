"""All trackers, by protocol number."""

from typing import Final

from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
)
from conntrackd_py.proto.generic import Generic
from conntrackd_py.proto.gre import Gre
from conntrackd_py.proto.icmp import Icmp, Icmpv6
from conntrackd_py.proto.rfc7857 import Rfc7857
from conntrackd_py.proto.sctp import Sctp
from conntrackd_py.proto.tcp import Tcp
from conntrackd_py.proto.udp import Udp, UdpLite

NETFILTER: Final = "netfilter"  # the TCP trackers
RFC7857: Final = "rfc7857"


def standard_protos(tunables: Tunables, tcp_tracker: str = NETFILTER) -> list[L4Proto]:
    """256 trackers, by protocol number."""
    protos: list[L4Proto] = [Generic(tunables)] * 256
    protos[IPPROTO_TCP] = Rfc7857(tunables) if tcp_tracker == RFC7857 else Tcp(tunables)
    protos[IPPROTO_UDP] = Udp(tunables)
    protos[IPPROTO_UDPLITE] = UdpLite(tunables)
    protos[IPPROTO_SCTP] = Sctp(tunables)
    protos[IPPROTO_GRE] = Gre(tunables)
    protos[IPPROTO_ICMP] = Icmp(tunables)
    protos[IPPROTO_ICMPV6] = Icmpv6(tunables)
    return protos


def distinct(protos: list[L4Proto]) -> list[L4Proto]:
    """Each tracker once; most protocol numbers share the generic one."""
    return list({id(l4proto): l4proto for l4proto in protos}.values())

"""What the configuration says is what the engine does."""

import tomllib

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IP_CT_NEW, IP_CT_UNTRACKED, IPPROTO_TCP, IPPROTO_UDP, NF_DROP, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.proto.rfc7857 import Rfc7857
from conntrackd_py.service.build import engine_of
from conntrackd_py.settings.load import parse
from tests.support import packets


def engine(text: str) -> Engine:
    return engine_of(parse(tomllib.loads(text), "FILE"), Repeatable())


def udp(dport: int) -> Skb:
    return Skb(packets.udp("192.168.1.2", "198.51.100.2", 1000, dport), 0, 2)


def test_defaults() -> None:
    assert engine("").core.protos[IPPROTO_TCP].state_names[1] == "SYN_SENT"


def test_the_tcp_tracker_is_chosen_for_all() -> None:
    assert isinstance(engine('tcp_tracker = "rfc7857"').core.protos[IPPROTO_TCP], Rfc7857)


def test_raw_rules_have_trackers_of_their_own_where_they_ask_for_them() -> None:
    one = engine(
        """
        [tunables]
        nf_conntrack_udp_timeout = 20
        [[raw]]
        proto = "udp"
        dport = 4789
        notrack = true
        [[raw]]
        proto = "udp"
        dport = 53
        timeouts = { nf_conntrack_udp_timeout = 5 }
        [[raw]]
        proto = "udp"
        dport = 54
        zone = 4
        """
    )
    left_alone, quick, zoned, usual = (udp(port) for port in (4789, 53, 54, 55))
    for skb in (left_alone, quick, zoned, usual):
        one.handle(skb, PRE_ROUTING, 0)
    assert left_alone.ctinfo == IP_CT_UNTRACKED
    assert [skb.ct.timeout for skb in (quick, zoned, usual) if skb.ct] == [5000, 20_000, 20_000]
    assert one.core.protos[IPPROTO_UDP] is not (quick.ct and quick.ct.l4proto)


def test_connection_marks() -> None:
    one = engine('[[connmark]]\nset = "0x7/0xff"\n[[connmark]]\nrestore = 0xff')
    skb = udp(53)
    one.handle(skb, PRE_ROUTING, 0)
    assert (skb.ctinfo, skb.ct.mark if skb.ct else 0, skb.mark & 0xFF) == (IP_CT_NEW, 7, 7)


def test_the_filter() -> None:
    one = engine('[filter]\ndefault_out = "drop"')
    own = Skb(packets.udp("203.0.113.1", "198.51.100.2", 1000, 53), 0, 0, 3)
    assert one.handle(own, 3, 0) == NF_DROP


def test_limits() -> None:
    made = engine('[limits]\nconnections_per_host = 5\nhosts = ["10.0.0.0/8"]\nipv6_prefix = 64\nports_per_host = 7')
    hosts = made.core.table.hosts
    assert (hosts.limit, hosts.prefix, hosts.networks) == (5, 8, [b"\x0a\0\0\0", b"\x0a\xff\xff\xff"])
    assert made.nat.endpoints.host_limit == 7

"""The core without an engine: a packet comes in by conntrack_in and leaves by confirm."""

from conntrackd_py.conntrack.confirm import confirm
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.lookup import conntrack_in
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import NF_ACCEPT, PRE_ROUTING
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.wire import ip
from tests.support import packets

HERE, THERE = "192.0.2.1", "192.0.2.2"
NOW = 1_000_000
PLENTY = 1 << 20


def core_with(**tunables: object) -> Conntrack:
    made = Tunables(**tunables)  # type: ignore[arg-type]
    return Conntrack(standard_protos(made), made, Repeatable(5))


def arrive(core: Conntrack, data: bytes, now: int = NOW, hook: int = PRE_ROUTING) -> tuple[Skb, int]:
    skb = Skb(data)
    skb.hook = hook
    assert ip.parse(skb) == 0
    return skb, conntrack_in(core, skb, now)


def query(core: Conntrack, sport: int, now: int = NOW) -> NfConn:
    """The connection of a UDP packet that has come in but not yet left."""
    skb, verdict = arrive(core, packets.udp(HERE, THERE, sport, 53), now)
    assert verdict == NF_ACCEPT
    assert skb.ct is not None
    return skb.ct


def confirmed(core: Conntrack, sport: int, now: int = NOW) -> NfConn:
    """The connection of a UDP packet that has come in and left."""
    skb, _ = arrive(core, packets.udp(HERE, THERE, sport, 53), now)
    assert confirm(core, skb, now) == NF_ACCEPT
    assert skb.ct is not None
    return skb.ct

"""The filter as an operation: what it counts, and what becomes of a connection whose packet it drops."""

from conntrackd_py.conntrack.confirm import confirm
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.lookup import conntrack_in
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, IPS_DYING, NF_ACCEPT, NF_DROP, PRI_FILTER
from conntrackd_py.engine.hooks import Filter
from conntrackd_py.engine.rejects import Rejects
from conntrackd_py.filter.policy import DROP, REJECT, Chain, FilterRule, Policy
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.reasons import END_FILTERED, FILTER_DROP, FILTER_REJECT
from conntrackd_py.wire import ip
from tests.support import packets


class Hook:
    """The filter at FORWARD with one rule, and a packet that began a connection."""

    def __init__(self, action: int, *, confirmed: bool = False) -> None:
        tunables = Tunables()
        self.core = Conntrack(standard_protos(tunables), tunables, Repeatable(1))
        self.rejects = Rejects(self.core, Interfaces())
        policy = Policy([Chain(FORWARD, [FilterRule(action)], NF_ACCEPT)])
        self.op = Filter(self.core, policy, self.rejects, FORWARD)
        self.skb = Skb(packets.udp("192.0.2.1", "198.51.100.2", 1, 2), 0, 1, 2)
        ip.parse(self.skb)
        conntrack_in(self.core, self.skb, 0)
        if confirmed:
            confirm(self.core, self.skb, 0)
        assert self.skb.ct is not None
        self.ct: NfConn = self.skb.ct


def test_its_place() -> None:
    assert (Hook(0).op.name, Hook(0).op.priority) == ("filter", PRI_FILTER)


def test_what_it_accepts_goes_on_untouched() -> None:
    hook = Hook(0)
    assert hook.op.run(hook.skb, 0) == NF_ACCEPT
    assert hook.core.stats.drop == 0
    assert not hook.ct.dying


def test_what_it_drops_is_counted_and_ends_an_unconfirmed_connection() -> None:
    hook = Hook(DROP)
    assert hook.op.run(hook.skb, 0) == NF_DROP
    assert (hook.core.stats.drop, hook.core.stats.reasons[FILTER_DROP]) == (1, 1)
    assert (hook.ct.status & IPS_DYING, hook.ct.end_reason) == (IPS_DYING, END_FILTERED)
    assert hook.rejects.drain() == []


def test_a_confirmed_connection_outlives_its_packet() -> None:
    hook = Hook(DROP, confirmed=True)
    assert hook.op.run(hook.skb, 0) == NF_DROP
    assert not hook.ct.dying


def test_what_it_rejects_is_answered() -> None:
    hook = Hook(REJECT)
    assert hook.op.run(hook.skb, 0) == NF_DROP
    assert hook.core.stats.reasons[FILTER_REJECT] == 1
    assert len(hook.rejects.drain()) == 1

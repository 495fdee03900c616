"""The end of a connection, and the counts by state."""

from conntrackd_py.conntrack.confirm import confirm
from conntrackd_py.conntrack.evict import DYING_GRACE, expire, next_expiry
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPS_SEEN_REPLY,
)
from conntrackd_py.reasons import (
    END_DELETED,
)
from tests.support import packets
from tests.support.core import HERE, NOW, PLENTY, THERE, arrive, confirmed, core_with
from tests.support.router import CLIENT, SERVER, Router


def test_a_dead_connection_keeps_its_slot_for_packets_between_two_visits() -> None:
    core = core_with()
    ct = confirmed(core, 1)
    assert core.kill(ct, END_DELETED, NOW)
    assert not core.kill(ct, END_DELETED, NOW), "only once"
    assert core.table.find(ct.original) is None
    assert next_expiry(core) == NOW + DYING_GRACE
    expire(core, NOW + DYING_GRACE - 1, PLENTY)
    assert core.table.at(ct.slot) is ct
    expire(core, NOW + DYING_GRACE, PLENTY)
    assert core.table.at(ct.slot) is None


def test_counts_by_state_follow_the_tracker() -> None:
    core = core_with()
    tcp = core.protos[6]
    for data in (
        packets.tcp(HERE, THERE, 1, 2, "S", seq=1),
        packets.tcp(THERE, HERE, 2, 1, "SA", seq=9, ack=2),
        packets.tcp(HERE, THERE, 1, 2, "A", seq=2, ack=10),
    ):
        skb, _ = arrive(core, data)
        confirm(core, skb, NOW)
    assert tcp.entries == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert skb.ct is not None
    core.kill(skb.ct, END_DELETED, NOW)
    assert not any(tcp.entries)


def test_a_connection_that_a_rst_refuses_ends_unreplied() -> None:
    """The RST is counted, but DESTROY reports the connection as unreplied: nf_ct_kill_acct comes first."""
    router = Router(tunables=Tunables(nf_conntrack_acct=True))
    router.engine.core.events.enabled = True
    ct = router.syn()
    router.forward(packets.tcp(SERVER, CLIENT, 80, 40000, "RA", seq=0, ack=2))
    new, destroy = router.engine.drain_events()
    assert (new.kind, destroy.kind) == ("NEW", "DESTROY")
    assert not destroy.status & IPS_SEEN_REPLY
    assert destroy.packets_reply == 1
    assert ct.status & IPS_SEEN_REPLY

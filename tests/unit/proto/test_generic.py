"""Protocols without a tracker of their own: addresses and one timeout."""

from conntrackd_py.conntrack.conn import TRACKED, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_ASSURED, IPS_SEEN_REPLY, ORIGINAL
from conntrackd_py.proto.generic import Generic
from conntrackd_py.reasons import OK


def test_the_timeout_is_ten_minutes() -> None:
    generic = Generic(Tunables())
    skb = Skb(b"")
    ct = NfConn(b"", b"", generic, 0)
    assert generic.check(skb, True) == OK
    assert generic.l4(skb) == generic.invert(generic.l4(skb)) == bytes(4)
    assert generic.packet(ct, skb, ORIGINAL, 0, True) == TRACKED
    assert ct.remaining(0) == 600_000


def test_its_timeout_can_be_changed_while_running() -> None:
    generic = Generic(Tunables())
    generic.tune(Tunables(nf_conntrack_generic_timeout=5))
    ct = NfConn(b"", b"", generic, 0)
    generic.packet(ct, Skb(b""), ORIGINAL, 0, True)
    assert ct.remaining(0) == 5_000


def test_a_connection_is_in_use_if_it_is_assured() -> None:
    generic = Generic(Tunables())
    ct = NfConn(b"", b"", generic, 0)
    ct.status = IPS_SEEN_REPLY
    assert not generic.in_use(ct)
    ct.status |= IPS_ASSURED
    assert generic.in_use(ct)

"""What netfilter attaches to a packet."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    ORIGINAL,
    REPLY,
)
from conntrackd_py.proto.generic import Generic
from conntrackd_py.reasons import OK, TCP_STATE


def test_a_new_packet_has_no_connection() -> None:
    skb = Skb(b"data", 7, 2, 3)
    assert (skb.data, skb.mark, skb.indev, skb.outdev) == (b"data", 7, 2, 3)
    assert (skb.ct, skb.ctinfo, skb.reason) == (None, IP_CT_INVALID, OK)


def test_attached_and_detached() -> None:
    skb = Skb(b"")
    ct = NfConn(b"", b"", Generic(Tunables()), 0)
    skb.attach(ct, IP_CT_NEW)
    assert (skb.ct, skb.ctinfo, skb.reason) == (ct, IP_CT_NEW, OK)
    skb.detach(TCP_STATE)
    assert (skb.ct, skb.ctinfo, skb.reason) == (None, IP_CT_INVALID, TCP_STATE)


@pytest.mark.parametrize("ctinfo", [IP_CT_NEW, IP_CT_ESTABLISHED, IP_CT_RELATED])
def test_original(ctinfo: int) -> None:
    assert direction_of(ctinfo) == ORIGINAL


@pytest.mark.parametrize("ctinfo", [IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED_REPLY])
def test_reply(ctinfo: int) -> None:
    assert direction_of(ctinfo) == REPLY

"""What netfilter attaches to a packet."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb, direction_of, forwarded
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
from conntrackd_py.reasons import IP_VERSION, OK, TCP_STATE
from conntrackd_py.wire import ip
from tests.support import packets


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


def test_the_initial_values_of_a_packet() -> None:
    skb = Skb(b"data")
    assert (skb.mark, skb.indev, skb.outdev, skb.hook) == (0, 0, 0, 0)
    assert (skb.version, skb.protonum, skb.dataoff, skb.end, skb.numbers) == (0, 0, 0, 0, ())
    assert (skb.checksum_partial, skb.segments, skb.seen_after_routing) == (False, False, False)
    assert (skb.cause, skb.reject, skb.zone_original, skb.zone_reply, skb.protos) == (OK, 0, 0, 0, None)


SELF, PEER = "fd00::1", "fd00::2"


@pytest.mark.parametrize(
    ("source", "destination", "proto", "ttl", "devices", "expected"),
    [
        ("10.0.0.1", "10.0.0.2", 17, 64, (1, 2), True),
        ("10.0.0.1", "10.0.0.2", 17, 64, (0, 2), False),
        ("10.0.0.1", "10.0.0.2", 17, 64, (2, 2), True),
        ("10.0.0.1", "224.0.0.22", 2, 1, (2, 2), False),
        ("10.0.0.1", "224.0.0.22", 2, 1, (1, 2), True),
        (SELF, PEER, 17, 64, (2, 2), True),
        (SELF, PEER, 58, 255, (2, 2), False),
        (SELF, PEER, 58, 254, (2, 2), True),
        (SELF, PEER, 58, 255, (1, 2), True),
        (SELF, PEER, 58, 255, (0, 2), False),
        ("fe80::1", PEER, 58, 1, (2, 2), False),
        ("febf::1", PEER, 58, 1, (2, 2), False),
        ("fec0::1", PEER, 58, 1, (2, 2), True),
        ("ff80::1", PEER, 58, 1, (2, 2), True),
        (SELF, "ff02::16", 58, 1, (2, 2), False),
        (SELF, "ff05::16", 58, 1, (2, 2), True),
        (SELF, "fe02::16", 58, 1, (2, 2), True),
    ],
)
def test_which_packets_are_forwarded(
    source: str, destination: str, proto: int, ttl: int, devices: tuple[int, int], expected: bool
) -> None:
    """For some of the router's own packets the kernel reports the outgoing interface as incoming at POSTROUTING."""
    skb = Skb(packets.ip(source, destination, proto, bytes(8), ttl=ttl), 0, *devices)
    assert ip.parse(skb) == OK
    assert forwarded(skb) == expected


def test_a_packet_that_cannot_be_parsed_is_forwarded() -> None:
    skb = Skb(b"\x70" + bytes(19), 0, 2, 2)
    assert ip.parse(skb) == IP_VERSION
    assert forwarded(skb)

"""A whole header and a right checksum are required; tests/unit/proto/test_tcp.py has the flags."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.proto.rfc7857 import Rfc7857
from conntrackd_py.proto.tcp import Tcp
from conntrackd_py.proto.tcp_header import TcpHeader
from conntrackd_py.reasons import L4_CHECKSUM, L4_TRUNCATED, OK
from conntrackd_py.wire import ip
from tests.support import packets

SEGMENT = packets.tcp("192.168.1.2", "198.51.100.2", 1, 2, "S", data=b"data")


def parsed(packet: bytes) -> Skb:
    skb = Skb(packet)
    assert ip.parse(skb) == OK
    return skb


@pytest.mark.parametrize("tracker", [Tcp(Tunables()), Rfc7857(Tunables())], ids=["netfilter", "rfc7857"])
def test_both_trackers_ask_for_the_same(tracker: TcpHeader) -> None:
    assert (tracker.name, tracker.protonum, tracker.ports, tracker.shows_state) == ("tcp", 6, True, True)
    assert tracker.check(parsed(SEGMENT), verify=True) == OK
    broken = parsed(packets.broken(SEGMENT))
    assert tracker.check(broken, verify=True) == L4_CHECKSUM
    assert tracker.check(broken, verify=False) == OK
    for length in range(40):
        whole = parsed(SEGMENT)
        whole.end = whole.length = length
        assert tracker.check(whole, verify=False) == L4_TRUNCATED
    long = parsed(SEGMENT[:32] + b"\xf0" + SEGMENT[33:])
    assert tracker.check(long, verify=False) == L4_TRUNCATED

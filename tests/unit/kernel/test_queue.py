"""What every queue does with a packet, whatever its backend."""

import pytest
from structlog.testing import capture_logs

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, NF_DROP, PRE_ROUTING
from conntrackd_py.kernel.queue import QueueCounters, Visitor, is_truncated
from tests.support.packets import udp

PACKET = udp("192.0.2.1", "192.0.2.2", 1, 2, b"data")


def broken(skb: Skb, hook: int, now: int) -> int:
    skb.data, skb.mark = b"half done", 9
    return len(skb.data) // now


def visitor(on_error: int = NF_DROP) -> Visitor:
    return Visitor(broken, QueueCounters(), on_error)


@pytest.mark.parametrize("on_error", [NF_DROP, NF_ACCEPT])
def test_a_mistake_of_ours_is_the_verdict_on_error_and_leaves_the_packet_as_it_was(on_error: int) -> None:
    skb = Skb(PACKET, 7)
    guarded = visitor(on_error)
    with capture_logs():
        assert guarded.visit(skb, PRE_ROUTING, 0) == on_error
    assert (skb.data, skb.mark) == (PACKET, 7)
    assert guarded.counters.verdict_errors == 1


def test_a_mistake_is_logged_once_for_its_place_and_counted_every_time() -> None:
    guarded = visitor()
    with capture_logs() as logs:
        for _ in range(1000):
            guarded.visit(Skb(PACKET), PRE_ROUTING, 0)
    assert [entry["event"] for entry in logs] == ["packet_failed"]
    assert logs[0]["place"].startswith(__file__)
    assert guarded.counters.verdict_errors == 1000


@pytest.mark.parametrize(
    "packet",
    [udp("192.0.2.1", "192.0.2.2", 1, 2, bytes(5000)), udp("2001:db8::1", "2001:db8::2", 1, 2, bytes(5000))],
    ids=["ipv4", "ipv6"],
)
def test_a_packet_is_truncated_when_its_header_promises_more(packet: bytes) -> None:
    assert not is_truncated(packet)
    assert is_truncated(packet[:-1])
    assert is_truncated(packet[:3])
    assert not is_truncated(packet + b"padding of a short frame")

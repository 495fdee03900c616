"""What passes a standby."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP, NF_QUEUE, POST_ROUTING, PRE_ROUTING
from conntrackd_py.reasons import STANDBY
from tests.support import packets
from tests.support.router import Router

PACKET = packets.udp("10.0.0.1", "10.0.0.2", 1, 53, b"hi")


def waiting(mode: str = "nat") -> Router:
    router = Router()
    router.udp(5353)
    router.engine.mode, router.engine.core.standby = mode, True
    return router


@pytest.mark.parametrize(
    ("hook", "indev", "outdev", "verdict"),
    [
        (PRE_ROUTING, 1, 0, NF_ACCEPT),
        (LOCAL_IN, 1, 0, NF_ACCEPT),
        (LOCAL_OUT, 0, 2, NF_ACCEPT),
        (POST_ROUTING, 0, 2, NF_ACCEPT),
        (POST_ROUTING, 1, 2, NF_DROP),
    ],
)
@pytest.mark.parametrize("data", [PACKET, b"\x45nonsense"])
def test_only_packets_of_the_machine_itself_pass(hook: int, indev: int, outdev: int, verdict: int, data: bytes) -> None:
    router = waiting()
    assert router.engine.handle(Skb(data, indev=indev, outdev=outdev), hook, router.now) == verdict
    assert router.engine.core.stats.reasons[STANDBY] == (verdict == NF_DROP)
    assert len(router.engine.core.table) == 1


@pytest.mark.parametrize("ports", [(5353, 53), (53, 5353)])
def test_packets_of_a_connection_that_the_active_one_has_do_not_reach_the_machine(ports: tuple[int, int]) -> None:
    router = waiting()
    ends = ("10.0.0.1", "10.0.0.2") if ports[0] == 5353 else ("10.0.0.2", "10.0.0.1")
    skb = Skb(packets.udp(*ends, *ports), indev=1)
    assert router.engine.handle(skb, PRE_ROUTING, router.now) == NF_DROP


def test_mode_track_lets_everything_pass() -> None:
    router = waiting("track")
    assert router.engine.handle(Skb(PACKET, indev=1, outdev=2), POST_ROUTING, router.now) == NF_ACCEPT


def test_a_packet_queued_by_its_header_is_wanted_whole() -> None:
    router = waiting()
    assert router.engine.handle_headers(Skb(PACKET, indev=1), PRE_ROUTING, router.now) == NF_QUEUE

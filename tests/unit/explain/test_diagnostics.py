"""What is noted of a packet: once, with the reason, and with the connection it would have belonged to."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.reasons import ICMP_UNRELATED, IP_VERSION, L4_CHECKSUM, OK, TABLE_FULL, TCP_IGNORED, TCP_SEQ_OVER
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router


def through(router: Router, data: bytes) -> None:
    """Both visits, whatever becomes of the packet."""
    skb = Skb(data, indev=1)
    if router.engine.handle(skb, PRE_ROUTING, router.now) == NF_ACCEPT:
        router.engine.handle(Skb(skb.data, skb.mark, indev=1, outdev=2), POST_ROUTING, router.now)


def test_nothing_is_noted_of_what_goes_well() -> None:
    router = Router()
    router.established()
    router.udp_answered()
    assert router.engine.diagnostics.recent.total == 0


@pytest.mark.parametrize(
    ("data", "reason", "known"),
    [
        (b"\x70" + bytes(40), IP_VERSION, False),
        (packets.broken(packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=2)), L4_CHECKSUM, False),
        (packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=9_000_000, ack=2), TCP_SEQ_OVER, True),
        (packets.tcp(CLIENT, SERVER, 40000, 80, "S", seq=77), TCP_IGNORED, True),
        (packets.icmp(SERVER, CLIENT, 3, 3, 0, 0, packets.udp(CLIENT, SERVER, 1, 2)), ICMP_UNRELATED, False),
    ],
)
def test_one_note_a_packet(data: bytes, reason: int, known: bool) -> None:
    router = Router()
    ct = router.established()
    through(router, data)
    (note,) = router.engine.diagnostics.recent.last(9)
    assert (note.reason, note.cause, note.at, note.hook) == (reason, OK, router.now, PRE_ROUTING)
    assert note.original == (ct.original if known else b"")


def test_a_full_table_says_how_full() -> None:
    router = Router(tunables=Tunables(nf_conntrack_max=1))
    router.established()
    through(router, packets.udp(CLIENT, SERVER, 1, 2))
    (note,) = router.engine.diagnostics.recent.last(9)
    assert (note.reason, note.numbers) == (TABLE_FULL, (1, 1))

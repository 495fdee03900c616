"""Whatever another rule leaves in the packet mark between the visits, no address of the inside gets out.

Except for a mark that is exactly the daemon's UNTRACKED: it says that a raw rule exempted the packet.
"""

from hypothesis import example, given
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from tests.support import packets, rules
from tests.support.invariants import check
from tests.support.packets import address
from tests.support.play import CLIENT, LAN, OTHER, ROUTER, SERVER, WAN
from tests.support.steering import passes

UNTRACKED, FIELD = 0xF00, 0xFFFFFF00
OUT = (CLIENT.v4, SERVER.v4, 5000, 53)
ANSWER = (SERVER.v4, ROUTER.v4, 53, 5000)
IN = (OTHER.v4, ROUTER.v4, 6000, 8080)
REPLY = (CLIENT.v4, OTHER.v4, 80, 6000)
QUOTED = packets.udp(SERVER.v4, CLIENT.v4, 53, 5000)
SENT = (
    (LAN, packets.udp(*OUT)),
    (WAN, packets.udp(*ANSWER)),
    (WAN, packets.tcp(*IN, "S", seq=1)),
    (LAN, packets.tcp(*REPLY, "SA", seq=9, ack=2)),
    (WAN, packets.tcp(*IN, "A", seq=2, ack=10)),
    (LAN, packets.tcp(*REPLY, "A", seq=10, ack=2, data=b"x")),
    (LAN, packets.tcp(*REPLY, "R", seq=10)),
    (LAN, packets.icmp(CLIENT.v4, SERVER.v4, 8, ident=7)),
    (WAN, packets.icmp(SERVER.v4, ROUTER.v4, 0, ident=7)),
    (LAN, packets.icmp(CLIENT.v4, SERVER.v4, 3, 3, data=QUOTED)),
    (
        WAN,
        packets.icmp("203.0.113.9", ROUTER.v4, 3, 4, sequence=1300, data=packets.udp(ROUTER.v4, SERVER.v4, 5000, 53)),
    ),
)
LEFT = st.sampled_from(
    (0, 1, 0xFFFFFFFF, 0xE00, 0xD00, 0x1A00, 0x1B00, 0x1800, 0x1900, 0x1C00, 0x2800, 0x2900, 0x2C00, 0x2F00)
) | st.integers(0, 0xFFFFFFFF).filter(lambda mark: mark & FIELD != UNTRACKED)


@given(st.lists(st.tuples(st.sampled_from(SENT), st.none() | LEFT), max_size=30))
@example([(SENT[2], 0xD00), (SENT[3], None), (SENT[2], 0), (SENT[3], None)])  # an INVALID reply before confirmation
def test_no_inside_address_gets_out(steps: list[tuple[tuple[int, bytes], int | None]]) -> None:
    engine = Engine(Tunables(), Repeatable(1))
    engine.configure(Tunables(), nat_rules=[rules.masquerade(), rules.web_server_inside(4)])
    engine.set_interface(LAN, "lan", [address("192.168.1.1")], 0)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4)], 0)
    for (indev, data), left in steps:
        first = Skb(data, 0, indev, 0)
        if engine.handle(first, PRE_ROUTING, 0) != NF_ACCEPT:
            continue
        skb = Skb(first.data, first.mark if left is None else left, indev, LAN + WAN - indev)
        if passes(engine, skb.mark, POST_ROUTING, skb.outdev):
            continue
        verdict = engine.handle(skb, POST_ROUTING, 0)
        check(engine)
        assert (indev, verdict) != (LAN, NF_ACCEPT) or address(CLIENT.v4) not in skb.data

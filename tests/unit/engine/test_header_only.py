"""Which large packets are judged by their headers; all others are queued again, whole, before anything is decided."""

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_UNTRACKED,
    IPS_HELPER,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_QUEUE,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.match.match import Match
from tests.support import packets
from tests.support.play import CLIENT, INSIDE, LAN, ROUTER, SERVER, WAN
from tests.support.rules import masquerade
from tests.support.twin_maps import COPIED, TwinMaps

NOW = 1_000_000
DATA = bytes(3000)
FIELD = 0x2800


def tcp(flags: str, data: bytes = b"", *, back: bool = False, seq: int = 2, ack: int = 2) -> bytes:
    if back:
        return packets.tcp(SERVER.v4, ROUTER.v4, 80, 4000, flags, seq=seq, ack=ack, data=data)
    return packets.tcp(CLIENT.v4, SERVER.v4, 4000, 80, flags, seq=seq, ack=ack, data=data)


def forward(engine: Engine, data: bytes, *, back: bool = False) -> Skb:
    first = Skb(data, indev=WAN if back else LAN)
    assert engine.handle(first, PRE_ROUTING, NOW) == NF_ACCEPT
    last = Skb(first.data, first.mark, first.indev, LAN if back else WAN)
    assert engine.handle(last, POST_ROUTING, NOW) == NF_ACCEPT
    return last


@pytest.fixture
def engine() -> Engine:
    """With maps and one established TCP connection, in slot 0."""
    made = Engine(Tunables(), Repeatable(), nat_rules=[masquerade()])
    made.mark_maps.maps = TwinMaps()
    for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
        made.set_interface(link, name, [packets.address(host.v4)], 0)
    forward(made, tcp("S", seq=1, ack=0))
    forward(made, tcp("SA", back=True, seq=1, ack=2), back=True)
    forward(made, tcp("A"))
    return made


def head(data: bytes, mark: int = 0, outdev: int = 0, *, verified: bool = True) -> Skb:
    skb = Skb(data[:COPIED], mark, LAN, outdev)
    skb.checksum_verified = verified
    return skb


def test_a_large_packet_of_an_established_connection(engine: Engine) -> None:
    first = head(tcp("A", DATA))
    assert engine.handle_headers(first, PRE_ROUTING, NOW) == NF_ACCEPT
    assert (first.ctinfo, first.mark) == (IP_CT_ESTABLISHED, FIELD)
    last = head(tcp("A", DATA), first.mark, WAN)
    assert engine.handle_headers(last, POST_ROUTING, NOW) == NF_ACCEPT
    assert last.by_mark
    assert engine.header_only.requeued == 0
    follows = forward(engine, tcp("A", b"more", seq=2 + len(DATA)))
    assert follows.ctinfo == IP_CT_ESTABLISHED


def test_its_whole_length_is_judged(engine: Engine) -> None:
    """Otherwise the acknowledgement would be for bytes that nobody sent, and INVALID."""
    assert engine.handle_headers(head(tcp("A", DATA)), PRE_ROUTING, NOW) == NF_ACCEPT
    answer = Skb(tcp("A", back=True, ack=2 + len(DATA)), indev=WAN)
    assert engine.handle(answer, PRE_ROUTING, NOW) == NF_ACCEPT
    assert answer.ctinfo == IP_CT_ESTABLISHED_REPLY
    beyond = Skb(tcp("A", back=True, ack=3 + len(DATA)), indev=WAN)
    assert engine.handle(beyond, PRE_ROUTING, NOW) == NF_ACCEPT
    assert beyond.ctinfo == IP_CT_INVALID


@pytest.mark.parametrize(
    "data",
    [
        tcp("S", DATA),
        tcp("SA", DATA),
        tcp("R", DATA),
        packets.tcp(CLIENT.v4, SERVER.v4, 4001, 80, "A", data=DATA),
        packets.udp(CLIENT.v4, SERVER.v4, 4000, 80, DATA),
        packets.icmp(CLIENT.v4, SERVER.v4, 8, data=DATA),
        packets.icmp(SERVER.v4, CLIENT.v4, 3, 3, data=tcp("A") + DATA),
        packets.fragments(tcp("A", DATA), 2000)[0],
        tcp("A", DATA)[:30],
        tcp("A", DATA)[:15],
        b"\x50" + tcp("A", DATA)[1:],
        b"",
    ],
    ids=[
        "SYN",
        "SYN ACK",
        "RST",
        "unknown",
        "new UDP",
        "ping",
        "error",
        "fragment",
        "cut TCP",
        "cut IP",
        "IPv5",
        "empty",
    ],
)
def test_everything_else_is_queued_again_untouched(engine: Engine, data: bytes) -> None:
    before = engine.core.stats.verdicts[:], len(engine.core.table), engine.core.stats.invalid
    skb = head(data)
    assert engine.handle_headers(skb, PRE_ROUTING, NOW) == NF_QUEUE
    assert (engine.core.stats.verdicts, len(engine.core.table), engine.core.stats.invalid) == before
    assert (skb.mark, skb.data) == (0, data[:COPIED])
    assert engine.header_only.requeued == 1


def test_a_checksum_that_nobody_verified(engine: Engine) -> None:
    assert engine.handle_headers(head(tcp("A", DATA), verified=False), PRE_ROUTING, NOW) == NF_QUEUE
    partial = head(tcp("A", DATA), verified=False)
    partial.checksum_partial = True
    assert engine.handle_headers(partial, PRE_ROUTING, NOW) == NF_ACCEPT
    engine.configure(Tunables(nf_conntrack_checksum=False), nat_rules=[masquerade()])
    assert engine.handle_headers(head(tcp("A", DATA), verified=False), PRE_ROUTING, NOW) == NF_ACCEPT


@pytest.mark.parametrize("hook", [LOCAL_IN, LOCAL_OUT])
def test_packets_of_the_router_are_needed_whole(engine: Engine, hook: int) -> None:
    assert engine.handle_headers(head(tcp("A", DATA), FIELD, WAN), hook, NOW) == NF_QUEUE


@pytest.mark.parametrize("mark", [0, FIELD | 0x1000, FIELD | 0x200, FIELD | 0x300, FIELD + 0x2000, 0xD00, 0xF00])
def test_the_last_visit_needs_the_mark_of_the_first(engine: Engine, mark: int) -> None:
    assert engine.handle_headers(head(tcp("A", DATA), mark, WAN), POST_ROUTING, NOW) == NF_QUEUE


def test_the_mark_of_another_connection(engine: Engine) -> None:
    other = packets.tcp(CLIENT.v4, SERVER.v4, 4009, 80, "A", data=DATA)
    assert engine.handle_headers(head(other, FIELD, WAN), POST_ROUTING, NOW) == NF_QUEUE


def test_a_packet_of_the_router_with_the_mark_of_a_connection(engine: Engine) -> None:
    skb = head(tcp("A", DATA), FIELD, WAN)
    skb.indev = 0
    assert engine.handle_headers(skb, POST_ROUTING, NOW) == NF_QUEUE


def test_an_expired_connection_is_left_to_the_lookup(engine: Engine) -> None:
    later = NOW + 1000 * 432_001
    assert engine.handle_headers(head(tcp("A", DATA)), PRE_ROUTING, later) == NF_QUEUE
    assert len(engine.core.table) == 1


def test_without_maps_a_translated_connection_is_needed_whole(engine: Engine) -> None:
    engine.mark_maps.close()
    assert engine.handle_headers(head(tcp("A", DATA)), PRE_ROUTING, NOW) == NF_QUEUE


def test_zones_decide_which_connection_it_is(engine: Engine) -> None:
    engine.configure(Tunables(), nat_rules=[masquerade()], raw_rules=[RawRule(Match(), zone_original=3)])
    assert engine.handle_headers(head(tcp("A", DATA)), PRE_ROUTING, NOW) == NF_QUEUE


def test_an_untracked_packet_is_accepted_and_whole_at_its_last_visit(engine: Engine) -> None:
    engine.configure(Tunables(), nat_rules=[masquerade()], raw_rules=[RawRule(Match(), notrack=True)])
    first = head(tcp("A", DATA))
    assert engine.handle_headers(first, PRE_ROUTING, NOW) == NF_ACCEPT
    assert first.ctinfo == IP_CT_UNTRACKED
    assert engine.handle_headers(head(tcp("A", DATA), first.mark, WAN), POST_ROUTING, NOW) == NF_QUEUE


def test_mode_track_needs_no_maps() -> None:
    engine = Engine(Tunables(), Repeatable(), mode="track")
    forward(engine, packets.udp(CLIENT.v4, SERVER.v4, 1, 2))
    forward(engine, packets.udp(SERVER.v4, CLIENT.v4, 2, 1), back=True)
    data = packets.udp(CLIENT.v4, SERVER.v4, 1, 2, DATA)
    first = head(data)
    assert engine.handle_headers(first, PRE_ROUTING, NOW) == NF_ACCEPT
    last = head(data, first.mark, WAN)
    assert engine.handle_headers(last, POST_ROUTING, NOW) == NF_ACCEPT
    assert last.mark & 0x1000


def test_a_connection_with_a_helper_is_seen_whole(engine: Engine) -> None:
    """The helper reads the payload, and may change it: no headers, and no elements in the maps of the kernel."""
    ct = engine.core.table.at(0)
    assert ct is not None
    ct.status |= IPS_HELPER
    assert engine.handle_headers(head(tcp("A", DATA)), PRE_ROUTING, NOW) == NF_QUEUE
    assert not engine.mark_maps.put(ct, NOW)
    assert not forward(engine, tcp("A", DATA)).by_mark

"""Port blocks: an inside host gets outer ports of its own, in blocks, and gives them back."""

import pytest

from conntrackd_py.const import (
    IP_CT_NEW,
    IP_CT_RELATED,
    IPS_DST_NAT,
    IPS_SRC_NAT,
)
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.match.address import address_text
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.carrier.block_space import Block
from conntrackd_py.nat.ports import answer_port
from conntrackd_py.nat.usage.bound_ports import bound_key
from conntrackd_py.reasons import BLOCK_LIMIT, NAT_EXHAUSTED
from tests.conversations.test_ftp import ftp, logged_in, port_command
from tests.support import packets
from tests.support.control import expected, shown
from tests.support.invariants import check
from tests.support.packets import address
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    WAN,
    Host,
    Play,
    Restart,
    Said,
    accept,
    advance,
    crash,
    dropped,
    ping,
    pong,
    raw,
    restart,
    tcp,
    udp,
)
from tests.support.rules import rules_of

OUTSIDE = Host("outside", "203.0.113.0", "2001:db8:9::", WAN, 0)
OUTER = {4: "203.0.113.", 6: "2001:db8:9::"}
SMALL = "port_block = 16\nblocks_per_host = 2"


def carrier(family: int, keys: str = SMALL, ports: str = "1024-1087", last: int = 0, **tunables: object) -> Play:
    """SNAT to OUTER 0 to `last`, by default one address with four blocks of 16 ports."""
    return Play(family, rules_of(carrier_text(family, keys, ports, last)), **tunables)  # type: ignore[arg-type]


def carrier_text(family: int, keys: str = SMALL, ports: str = "1024-1087", last: int = 0) -> str:
    low, high = text_of(OUTSIDE, family), f"{OUTER[family]}{last}"
    to = f"{low}-{high}" if last else low
    to = f"[{to.replace('-', ']-[')}]" if family == 6 else to
    return f"""
        [[nat]]
        action = "SNAT"
        out_interface = "wan"
        to = "{to}:{ports}"
        {keys}
    """


def port_of(play: Play, said: Said) -> int:
    """The outer port that this first packet gets."""
    assert play >> said << accept(IP_CT_NEW, status=IPS_SRC_NAT)
    port = play.seen["sport"]
    assert isinstance(port, int)
    return port


def blocks(play: Play) -> list[Block]:
    return sorted((block for _, block in play.engine.nat.blocks.by_place.items()), key=lambda block: block.low)


def owners(play: Play) -> list[tuple[str, int]]:
    return [(address_text(block.inside), block.low) for block in blocks(play)]


def text_of(host: Host, family: int) -> str:
    return address_text(address(host.v4 if family == 4 else host.v6))


def test_each_host_has_a_block_of_its_own(family: int) -> None:
    play = carrier(family)
    mine = [port_of(play, udp(CLIENT, SERVER, sport=sport)) for sport in range(40000, 40008)]
    mine += [port_of(play, tcp(CLIENT, SERVER, "S", sport=sport)) for sport in range(40000, 40008)]
    theirs = [port_of(play, udp(NEIGHBOUR, SERVER, sport=sport)) for sport in range(40000, 40016)]
    assert len({port // 16 for port in mine}) == len({port // 16 for port in theirs}) == 1
    assert len(set(theirs)) == 16
    assert not {port // 16 for port in mine} & {port // 16 for port in theirs}
    check(play.engine)


def test_one_block_serves_all_protocols(family: int) -> None:
    play = carrier(family)
    low = port_of(play, udp(CLIENT, SERVER)) // 16 * 16
    assert port_of(play, tcp(CLIENT, SERVER, "S")) in range(low, low + 16)
    assert play >> ping(CLIENT, SERVER) << accept(IP_CT_NEW, status=IPS_SRC_NAT)
    ident = play.seen["ident"]
    assert isinstance(ident, int)
    assert ident in range(low, low + 16)
    assert play >> pong(SERVER, OUTSIDE, ident) << accept(dst=CLIENT)
    (block,) = blocks(play)
    assert sum(bits.bit_count() for bits in block.used.values()) == 3


def test_a_further_block_at_the_same_address(family: int) -> None:
    """When the first has no unused port; and a port is shared only when the host gets no more blocks."""
    play = carrier(family, last=3)
    ports = [port_of(play, udp(CLIENT, SERVER, sport=sport)) for sport in range(40000, 40016)]
    assert len(blocks(play)) == 1
    ports += [port_of(play, udp(CLIENT, OTHER, sport=sport)) for sport in range(40016, 40032)]
    assert len(set(ports)) == 32
    first, second = blocks(play)
    assert first.outer == second.outer
    assert port_of(play, udp(CLIENT, OTHER, sport=40032)) in ports
    check(play.engine)


def test_a_further_block_at_another_address_if_there_is_no_free_one(family: int) -> None:
    play = carrier(family, ports="1024-1055", last=1, keys="port_block = 16\nblocks_per_host = 4")
    for sport in range(40000, 40064):
        port_of(play, udp(CLIENT, SERVER, sport=sport))
    assert len({block.outer for block in blocks(play)}) == 2
    check(play.engine)


def test_the_limit_of_a_host(family: int) -> None:
    play = carrier(family)
    for sport in range(40000, 40032):
        port_of(play, udp(CLIENT, SERVER, sport=sport))
    assert play >> udp(CLIENT, SERVER, sport=1) << dropped(BLOCK_LIMIT)
    assert play.engine.nat.rules.source_rules[0].pool.limited == 1
    full = {block.low // 16 for block in blocks(play)}
    assert port_of(play, udp(NEIGHBOUR, SERVER)) // 16 not in full
    check(play.engine)


def test_no_block_is_free(family: int) -> None:
    play = carrier(family, ports="1024-1039")
    port_of(play, udp(CLIENT, SERVER))
    assert play >> udp(NEIGHBOUR, SERVER) << dropped(NAT_EXHAUSTED)
    pool = play.engine.nat.rules.source_rules[0].pool
    assert (pool.failures, pool.limited) == (1, 0)
    assert play >> advance(31)
    assert blocks(play) == []
    port_of(play, udp(NEIGHBOUR, SERVER))
    check(play.engine)


def test_an_empty_block_rests_for_its_host(family: int) -> None:
    play = carrier(family, ports="1024-1039", nat_port_rest=60)
    port_of(play, udp(CLIENT, SERVER))
    assert play >> advance(31)
    assert play >> udp(NEIGHBOUR, SERVER) << dropped(NAT_EXHAUSTED)
    port_of(play, udp(CLIENT, SERVER))
    assert play >> advance(85)
    assert play >> udp(NEIGHBOUR, SERVER) << dropped(NAT_EXHAUSTED)
    assert play >> advance(7)
    port_of(play, udp(NEIGHBOUR, SERVER))
    check(play.engine)


def test_the_port_is_kept_only_in_the_hosts_block(family: int) -> None:
    play = carrier(family)
    low = port_of(play, udp(CLIENT, SERVER)) // 16 * 16
    assert port_of(play, udp(CLIENT, SERVER, sport=low + 5)) == low + 5
    other = port_of(play, udp(NEIGHBOUR, SERVER, sport=low + 6))
    assert other // 16 != low // 16


def test_random_keeps_no_port(family: int) -> None:
    play = carrier(family, f"{SMALL}\nrandom = true")
    low = port_of(play, udp(CLIENT, SERVER)) // 16 * 16
    same = [port_of(play, tcp(CLIENT, SERVER, "S", sport=low + n)) == low + n for n in range(10)]
    assert not all(same)


def test_a_source_keeps_its_port_for_other_destinations(family: int) -> None:
    play = carrier(family)
    assert port_of(play, udp(CLIENT, SERVER)) == port_of(play, udp(CLIENT, OTHER))
    (block,) = blocks(play)
    assert list(block.counts.values()) == [2]
    assert play >> advance(31)
    assert blocks(play) == []


def test_a_port_of_a_service_is_not_given(family: int) -> None:
    play = Play(family, rules_of(MASQUERADED))
    own = address(ROUTER.v4 if family == 4 else ROUTER.v6)
    play.engine.nat.ports.bound.keys = {bound_key(17, own, port): None for port in range(1024, 1039)}
    assert port_of(play, udp(CLIENT, SERVER)) == 1039
    assert play >> udp(CLIENT, SERVER, sport=2) << dropped(NAT_EXHAUSTED)


MASQUERADED = """
    [[nat]]
    action = "MASQUERADE"
    family = "any"
    out_interface = "wan"
    to = "1024-1039"
    port_block = 16
"""


def test_masquerade_and_the_routers_own_connections(family: int) -> None:
    """The router's own connections have no block: they keep their port."""
    play = Play(family, rules_of(MASQUERADED))
    assert play >> udp(ROUTER, SERVER, sport=40000) << accept(IP_CT_NEW, src=ROUTER)
    assert blocks(play) == []
    assert port_of(play, udp(CLIENT, SERVER)) in range(1024, 1040)
    assert play >> advance(31)
    assert play.engine.nat.blocks.addresses == {}
    check(play.engine)


def test_a_mapping_has_its_port_in_a_block(family: int) -> None:
    keys = f'{SMALL}\nmapping = "endpoint-independent"\nparity = true'
    play = carrier(family, keys, nat_mapping_lifetime=100, nat_port_rest=50)
    port = port_of(play, udp(CLIENT, SERVER, sport=40001))
    assert port % 2
    assert port_of(play, udp(CLIENT, OTHER, sport=40001)) == port
    assert port_of(play, udp(CLIENT, SERVER, sport=40002)) % 2 == 0
    assert play >> advance(160)
    assert len(blocks(play)) == 1  # the mapping rests, and its block with it
    check(play.engine)
    assert play >> advance(40)
    assert blocks(play) == []
    check(play.engine)


def test_mappings_fill_the_blocks_and_share_nothing(family: int) -> None:
    play = carrier(family, f'{SMALL}\nmapping = "endpoint-independent"')
    ports = {port_of(play, udp(CLIENT, SERVER, sport=sport)) for sport in range(1, 33)}
    assert len(ports) == 32
    assert play >> udp(CLIENT, OTHER, sport=33) << dropped(BLOCK_LIMIT)
    check(play.engine)


@pytest.mark.parametrize("step", [restart(2), crash(2)], ids=["restart", "crash"])
@pytest.mark.parametrize("mapping", ["endpoint-dependent", "endpoint-independent"])
def test_blocks_outlive_a_restart(family: int, step: Restart, mapping: str) -> None:
    play = carrier(family, f'{SMALL}\nmapping = "{mapping}"')
    for host in (CLIENT, NEIGHBOUR):
        for sport in range(40000, 40010):
            port_of(play, udp(host, SERVER, sport=sport))
    assert play >> advance(5)
    before = [(block.host, block.low, block.high, block.label, block.since, block.used) for block in blocks(play)]
    assert play >> step
    after = [(block.host, block.low, block.high, block.label, block.since, block.used) for block in blocks(play)]
    assert after == before
    check(play.engine)
    mine = {low for text, low in owners(play) if text == text_of(CLIENT, family)}
    assert port_of(play, udp(CLIENT, OTHER, sport=5)) // 16 * 16 in mine


def test_a_reload_to_other_blocks(family: int) -> None:
    """Connections stay. A new block that two hosts hold is nobody's until it is empty."""
    play = carrier(family, "port_block = 16\nblocks_per_host = 1")
    port_of(play, udp(CLIENT, SERVER))
    port_of(play, udp(NEIGHBOUR, SERVER))
    first, second = blocks(play)
    engine = play.engine
    engine.nat.blocks.recording = True
    engine.configure(play.tunables, nat_rules=rules_of(carrier_text(family, "port_block = 64")))
    (block,) = blocks(play)
    assert (block.low, block.high, block.contested) == (1024, 1087, True)
    assert engine.nat.blocks.conflicts == 1
    changes = [(event.allocated, event.low, event.high) for event in engine.nat.blocks.drain_events()]
    assert sorted(changes[:2]) == [(False, first.low, first.high), (False, second.low, second.high)]
    assert changes[2:] == [(True, 1024, 1087)]
    check(engine)
    assert play >> udp(CLIENT, OTHER, sport=7) << dropped(NAT_EXHAUSTED)
    assert play >> advance(31)
    assert port_of(play, udp(CLIENT, OTHER, sport=7)) in range(1024, 1088)
    check(engine)


def test_a_reload_with_the_same_blocks_changes_nothing(family: int) -> None:
    play = carrier(family)
    port_of(play, udp(CLIENT, SERVER))
    (before,) = blocks(play)
    text = 'source = "192.168.0.0/16"' if family == 4 else 'source = "fd00:1::/64"'
    play.engine.configure(play.tunables, nat_rules=rules_of(carrier_text(family, f"{SMALL}\n{text}")))
    assert blocks(play) == [before]
    play.engine.configure(play.tunables, nat_rules=[])
    assert blocks(play) == []
    check(play.engine)
    play.engine.configure(play.tunables, nat_rules=rules_of(carrier_text(family)))
    assert [(block.host, block.low) for block in blocks(play)] == [(before.host, before.low)]
    check(play.engine)


def test_the_events(family: int) -> None:
    play = carrier(family)
    mine = play.engine.nat.blocks
    mine.recording = True
    start = play.now
    port_of(play, udp(CLIENT, SERVER))
    (block,) = blocks(play)
    assert play >> advance(31)
    allocated, released = mine.drain_events()
    assert mine.drain_events() == []
    assert (allocated.allocated, allocated.when, released.allocated) == (True, start, False)
    assert released.when == play.now
    for event in (allocated, released):
        assert (event.inside, event.outer, event.label) == (block.inside, block.outer, "nat[0]")
        assert (event.low, event.high) == (block.low, block.low + 15)


@pytest.mark.parametrize("keys", [SMALL, "deterministic = true\n"], ids=["blocks", "slices"])
def test_expected_connections_stay_in_the_ports_of_their_host(family: int, keys: str) -> None:
    """FTP: the port that the helper announces outside, and that of a passive connection."""
    if keys != SMALL:
        keys += 'source = "192.168.1.2/31"' if family == 4 else 'source = "fd00:1::2/127"'
    play = ftp(family, rules_of(carrier_text(family, keys)))
    stream = logged_in(play, as_seen=OUTSIDE)
    assert play.ct is not None
    control = answer_port(play.ct)
    span = 16 if keys == SMALL else 32
    mine = range(control // span * span, control // span * span + span)
    stream.says(CLIENT, port_command(family, CLIENT, 30000))
    (known,) = expected(play)
    announced = shown(known)[2]
    assert announced in mine
    active = tcp(SERVER, OUTSIDE, "S", seq=1, sport=20, dport=announced)
    assert play >> active << accept(IP_CT_RELATED, dst=CLIENT, dport=30000, status=IPS_DST_NAT)
    stream.says(SERVER, b"229 go (|||50000|)\r\n")
    passive = tcp(CLIENT, SERVER, "S", seq=1, sport=33333, dport=50000)
    assert play >> passive << accept(IP_CT_RELATED, status=IPS_SRC_NAT)
    assert play.seen["sport"] in mine
    check(play.engine)
    assert play >> restart()
    check(play.engine)


def test_the_same_address_in_two_zones(family: int) -> None:
    """Two customers may have the same addresses inside."""
    play = carrier(family)
    for zone in (1, 2):
        both = [RawRule(Match(proto=Numbers([17, 17])), zone_original=zone, zone_reply=zone)]
        play.engine.configure(play.tunables, nat_rules=rules_of(carrier_text(family)), raw_rules=both)
        assert play >> udp(CLIENT, SERVER, sport=zone) << accept(IP_CT_NEW, status=IPS_SRC_NAT)
    first, second = blocks(play)
    assert first.inside == second.inside
    assert not first.contested
    check(play.engine)
    one_way = [RawRule(Match(proto=Numbers([17, 17])), zone_original=3)]
    play.engine.configure(play.tunables, nat_rules=rules_of(carrier_text(family)), raw_rules=one_way)
    assert play >> udp(CLIENT, SERVER, sport=9) << accept(IP_CT_NEW, status=IPS_SRC_NAT)
    assert [block.contested for block in blocks(play)] == [False] * 3
    check(play.engine)


def test_a_hairpin_has_blocks_for_both_hosts(family: int) -> None:
    text = carrier_text(family, f'{SMALL}\nmapping = "endpoint-independent"\nhairpin = true')
    play = Play(family, rules_of(text))
    port = port_of(play, udp(CLIENT, SERVER))
    assert play >> udp(NEIGHBOUR, OUTSIDE, dport=port) << accept(IP_CT_NEW, dst=CLIENT, dport=40000)
    assert [host for host, _ in owners(play)].count(text_of(NEIGHBOUR, family)) == 1
    assert play >> restart()
    assert len(blocks(play)) == 2
    check(play.engine)


def test_a_protocol_without_ports_gets_the_address_of_the_blocks() -> None:
    play = carrier(4, ports="1024-1039", last=3)
    port_of(play, udp(CLIENT, SERVER))
    (block,) = blocks(play)
    other = raw(CLIENT, packets.ip(CLIENT.v4, SERVER.v4, 50, b"spi and payload"))
    assert play >> other << accept(IP_CT_NEW, status=IPS_SRC_NAT)
    assert play.left[12:16] == block.outer
    check(play.engine)

"""Whatever arrives, at whatever hook: one verdict, no exception, nothing kept that should not be.

Random bytes, every truncation of real packets, and real packets with bytes changed at random.
"""

import random

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    FORWARD,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from tests.support.invariants import check
from tests.support.packets import SACK_PERMITTED, address, sack, window_scale
from tests.support.play import CLIENT, INSIDE, LAN, ROUTER, SERVER, WAN, Said, error, ping, pong, tcp, udp
from tests.support.rules import masquerade, web_server_inside

HOOKS = (PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT, POST_ROUTING)
RANDOM_STRINGS = 10_000
SEED = 2026

REAL: list[Said] = [
    udp(CLIENT, SERVER, b"query"),
    udp(SERVER, ROUTER, b"response"),
    tcp(CLIENT, SERVER, "S", seq=100, options=window_scale(7) + SACK_PERMITTED),
    tcp(SERVER, ROUTER, "SA", seq=900, ack=101, dport=40000),
    tcp(CLIENT, SERVER, "A", seq=101, ack=901, data=b"hello", options=sack((950, 960), (970, 980))),
    tcp(SERVER, ROUTER, "S", dport=8080),
    ping(CLIENT, SERVER),
    pong(SERVER, ROUTER),
    error(SERVER, ROUTER, udp(ROUTER, SERVER, b"query")),
    error(CLIENT, SERVER, udp(SERVER, CLIENT, b"response"), v4=(11, 0), v6=(3, 0)),
    error(SERVER, ROUTER, tcp(ROUTER, SERVER, "S", seq=100), v4=(5, 1), v6=(137, 0)),
]


def router() -> Engine:
    rules = [masquerade(), web_server_inside(4), web_server_inside(6)]
    engine = Engine(Tunables(nf_conntrack_max=500), Repeatable(SEED), nat_rules=rules)
    for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
        engine.set_interface(link, name, [address(host.v4), address(host.v6)], 0)
    engine.core.events.enabled = True
    return engine


def offer(engine: Engine, data: bytes, dice: random.Random, now: int) -> None:
    """Every hook at once, with a clean, a random, and a carried mark."""
    for hook in HOOKS:
        skb = Skb(data, dice.choice((0, dice.getrandbits(32))), dice.choice((0, LAN, WAN)), dice.choice((0, LAN, WAN)))
        assert engine.handle(skb, hook, now) in (NF_ACCEPT, NF_DROP)
        onward = Skb(skb.data, skb.mark, LAN, WAN)
        assert engine.handle(onward, POST_ROUTING, now) in (NF_ACCEPT, NF_DROP)


def finish(engine: Engine, now: int) -> None:
    """After the longest timeout nothing is left anywhere."""
    check(engine)
    engine.drain_events()
    for later in (now + 20_000, now + 500_000_000, now + 500_010_000):
        engine.expire(later, 1 << 30)
    assert len(engine.core.table) == 0
    assert not engine.core.table.dying
    assert not engine.nat.ports.mappings.by_source
    check(engine)


def test_random_bytes() -> None:
    dice = random.Random(SEED)
    engine = router()
    for now in range(RANDOM_STRINGS):
        data = dice.randbytes(dice.randrange(0, 120))
        if dice.random() < 0.7 and data:  # most of them at least claim to be IP
            data = bytes((dice.choice((0x45, 0x46, 0x60)),)) + data[1:]
            if len(data) > 4 and data[0] != 0x60:
                data = data[:2] + len(data).to_bytes(2, "big") + data[4:]
        offer(engine, data, dice, now)
    finish(engine, RANDOM_STRINGS)


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_every_truncation_of_real_packets(family: int) -> None:
    dice = random.Random(SEED)
    engine = router()
    now = 0
    for said in REAL:
        data = said.bytes_for(family)
        for length in range(len(data) + 1):
            now += 1
            offer(engine, data[:length], dice, now)
            offer(engine, with_length(data[:length], family), dice, now)
    finish(engine, now)


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_real_packets_with_bytes_changed(family: int) -> None:
    dice = random.Random(SEED)
    engine = router()
    for now in range(3000):
        data = bytearray(dice.choice(REAL).bytes_for(family))
        for _ in range(dice.randrange(0, 4)):
            data[dice.randrange(len(data))] = dice.getrandbits(8)
        offer(engine, bytes(data), dice, now)
    finish(engine, 3000)


def with_length(data: bytes, family: int) -> bytes:
    """The truncated packet with an IP length that admits it, so that layer 4 has to notice."""
    if family == 4 and len(data) >= 20:
        return data[:2] + len(data).to_bytes(2, "big") + data[4:]
    if family == 6 and len(data) >= 40:
        return data[:4] + (len(data) - 40).to_bytes(2, "big") + data[6:]
    return data

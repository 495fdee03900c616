"""Copies cut off anywhere, and messages of any bytes: no exception, and no other judgement than of the whole packet."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import LOCAL_OUT, NF_ACCEPT, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.reasons import COPY_TRUNCATED, IP_TRUNCATED
from conntrackd_py.wire.nflog import Copies
from tests.property.test_any_packet import REAL
from tests.support import packets
from tests.support.invariants import check

SCTP = packets.sctp("10.0.0.1", "10.0.0.2", 1, 2, 0, (1, bytes(3) + b"\5" + bytes(100)))
LEAST_HEADER = 20


def seen(engine: Engine, data: bytes, hook: int) -> Skb:
    skb = Skb(data, indev=1)
    skb.copy = True
    assert engine.handle(skb, hook, 1000) == NF_ACCEPT
    return skb


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_a_cut_copy_is_judged_as_the_whole_packet_or_not_at_all(family: int) -> None:
    for data in [said.bytes_for(family) for said in REAL] + [SCTP]:
        whole = seen(Engine(Tunables(), Repeatable(), mode="observe"), data, PRE_ROUTING)
        for length in range(len(data)):
            engine = Engine(Tunables(), Repeatable(), mode="observe")
            cut = seen(engine, data[:length], PRE_ROUTING)
            check(engine)
            assert cut.reason in (whole.reason, COPY_TRUNCATED, IP_TRUNCATED)
            assert cut.reason != IP_TRUNCATED or length < 2 * LEAST_HEADER
            assert (cut.reason != whole.reason) or (cut.ctinfo, cut.length) == (whole.ctinfo, whole.length)


@given(st.binary(max_size=200), st.sampled_from((PRE_ROUTING, LOCAL_OUT)))
def test_copies_of_any_bytes(data: bytes, hook: int) -> None:
    engine = Engine(Tunables(), Repeatable(), mode="observe")
    for start in (b"", b"\x45", b"\x4f", b"\x60"):
        seen(engine, start + data, hook)
    check(engine)


def test_real_packets_changed_and_cut() -> None:
    dice = random.Random(7)
    engine = Engine(Tunables(nf_conntrack_max=500), Repeatable(), mode="observe")
    whole = [said.bytes_for(family) for said in REAL for family in (4, 6)] + [SCTP]
    for _ in range(5000):
        data = bytearray(dice.choice(whole))
        for _ in range(dice.randrange(0, 4)):
            data[dice.randrange(len(data))] = dice.getrandbits(8)
        seen(engine, bytes(data[: dice.randrange(len(data) + 1)]), dice.choice((PRE_ROUTING, LOCAL_OUT)))
    check(engine)


@given(st.binary(max_size=300))
def test_messages_of_any_bytes(data: bytes) -> None:
    for datagram in (data, b"\x40\0\0\0\0\x04" + data, bytes((len(data) % 256, 0, 0, 0, 0, 4)) + data):
        copies = Copies(datagram)
        count = 0
        while copies.next():
            count += 1
            assert copies.payload
        assert count <= len(datagram) // LEAST_HEADER

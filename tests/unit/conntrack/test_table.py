"""The table under random operations: every connection is exactly where its status says."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.table import Table
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_CONFIRMED, IPS_DST_NAT, IPS_SRC_NAT
from conntrackd_py.engine.engine import Engine
from tests.support.examples import examples
from tests.support.invariants import check

HOST = st.integers(1, 4)
PORT = st.integers(1, 3)


def udp_tuple(a: int, b: int, sport: int, dport: int) -> bytes:
    return tuples.make(bytes((10, 0, 0, a, 10, 0, 0, b)), bytes((0, sport, 0, dport)), 17)


def inverse(t: bytes) -> bytes:
    return tuples.swapped(t, tuples.l4(t)[2:] + tuples.l4(t)[:2])


class TableMachine(RuleBasedStateMachine):
    """Few hosts and ports, so that tuples collide often. live: the connections that must be found."""

    pending = Bundle("pending")
    confirmed = Bundle("confirmed")
    dying = Bundle("dying")

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(Tunables(), Repeatable(1))
        self.table: Table = self.engine.core.table
        self.live: list[NfConn] = []
        self.ids: list[int] = []

    @rule(target=pending, a=HOST, b=HOST, sport=PORT, dport=PORT)
    def allocate(self, a: int, b: int, sport: int, dport: int) -> MultipleResults[NfConn]:
        """As lookup does: no second connection for a tuple that finds the first."""
        t = udp_tuple(a, b, sport, dport)
        waiting = self.table.pending.get(t)
        if self.table.find(t) is not None or (waiting is not None and waiting.original == t):
            return multiple()
        ct = NfConn(t, inverse(t), self.engine.core.protos[17], 0)
        before = len(self.table)
        self.table.allocate(ct)
        assert len(self.table) == before + 1
        assert self.table.at(ct.slot) is ct
        self.ids.append(ct.id)
        return multiple(ct)

    @rule(target=pending, ct=consumes(pending), a=HOST, port=PORT)
    def alter_reply(self, ct: NfConn, a: int, port: int) -> NfConn:
        self.table.alter_reply(ct, tuples.with_dst(ct.reply, bytes((10, 0, 0, a)), bytes((0, 1, 0, port))))
        return ct

    @rule(target=confirmed, ct=consumes(pending))
    def insert(self, ct: NfConn) -> NfConn:
        """Refused exactly when one of its tuples is taken; then the table is unchanged."""
        free = self.table.find(ct.original) is None and self.table.find(ct.reply) is None
        assert self.table.insert(ct) == free
        if free:
            self.live.append(ct)
        else:
            assert not ct.status & IPS_CONFIRMED
            assert self.table.unconfirmed[ct.slot] is ct
        return ct

    @rule(target=dying, ct=st.one_of(consumes(pending), consumes(confirmed)))
    def remove(self, ct: NfConn) -> NfConn:
        self.table.remove(ct)
        self.live = [other for other in self.live if other is not ct]
        assert self.table.at(ct.slot) is ct
        return ct

    @rule(ct=consumes(dying))
    def release(self, ct: NfConn) -> None:
        slot = ct.slot
        self.table.release(ct)
        assert self.table.at(slot) is None

    @invariant()
    def every_tuple_finds_its_connection_and_no_other(self) -> None:
        for ct in self.live:
            assert self.table.find(ct.original) is ct
            assert self.table.find(ct.reply) is ct
            assert not self.table.taken(ct.reply, ct)
        assert len(self.table.hash) == sum(len({ct.original, ct.reply}) for ct in self.live)
        assert len(set(self.ids)) == len(self.ids)

    @invariant()
    def the_table_holds_together(self) -> None:
        for ct in self.live:
            ct.due = 1  # no gc here
        check(self.engine)


TestTable = TableMachine.TestCase
# While a bundle is empty its rules are passed over, which is no waste.
TestTable.settings = settings(
    max_examples=examples(150),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)


def test_only_confirmed_connections_take_a_tuple() -> None:
    """The choice of a source and confirm are one step, so an unconfirmed connection takes no tuple."""
    engine = Engine(Tunables(), Repeatable(1))
    table = engine.core.table
    first, second = (
        NfConn(t, inverse(t), engine.core.protos[17], 0) for t in (udp_tuple(1, 2, 1, 1), udp_tuple(3, 2, 1, 1))
    )
    table.allocate(first)
    table.allocate(second)
    mapped = udp_tuple(2, 9, 1, 1)
    table.alter_reply(first, mapped)
    assert not table.taken(mapped, second)
    assert table.insert(first)
    assert table.taken(mapped, second)
    assert not table.taken(mapped, first)
    assert not table.taken(udp_tuple(2, 1, 1, 1), second), "the tuple it had before is free again"


@pytest.mark.parametrize("turned", [False, True], ids=["same direction", "other direction"])
def test_the_twin_of_an_unconfirmed_connection(turned: bool) -> None:
    """Both tuples are the same, in either direction."""
    engine = Engine(Tunables(), Repeatable(1))
    table = engine.core.table
    t, translated = udp_tuple(1, 2, 1, 1), udp_tuple(2, 9, 1, 1)
    first = NfConn(t, translated, engine.core.protos[17], 0)
    table.adopt(first)
    pair = (translated, t) if turned else (t, translated)
    assert table.twin(NfConn(*pair, engine.core.protos[17], 0)) is first
    assert table.twin(NfConn(t, inverse(t), engine.core.protos[17], 0)) is None
    assert table.twin(NfConn(inverse(t), t, engine.core.protos[17], 0)) is None


def test_a_packet_between_its_visits_finds_its_connection() -> None:
    """Both ends are translated: the packet has neither tuple of its connection."""
    engine = Engine(Tunables(), Repeatable(1))
    table = engine.core.table
    ct = NfConn(udp_tuple(1, 9, 10, 88), udp_tuple(2, 8, 80, 20), engine.core.protos[17], 0)
    ct.status = IPS_SRC_NAT | IPS_DST_NAT
    table.adopt(ct)
    onward, back = udp_tuple(1, 2, 10, 80), udp_tuple(2, 1, 80, 10)
    assert table.find_routed(onward) is table.find_routed(back) is ct
    assert table.find_routed(ct.original) is table.find_routed(ct.reply) is None
    table.remove(ct)
    assert not table.routed


def test_slots_are_reused_but_ids_are_not() -> None:
    engine = Engine(Tunables(), Repeatable(1))
    table = engine.core.table
    seen = []
    for port in range(1, 5):
        t = udp_tuple(1, 2, port, 1)
        ct = NfConn(t, inverse(t), engine.core.protos[17], 0)
        table.allocate(ct)
        seen.append((ct.slot, ct.id))
        table.remove(ct)
        table.release(ct)
    assert seen == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_ids_start_again_after_31_bits() -> None:
    table = Engine(Tunables(), Repeatable(1)).core.table
    table.last_id = 0x7FFFFFFE
    ids = []
    for port in (1, 2):
        t = udp_tuple(1, 2, port, 1)
        ct = NfConn(t, inverse(t), Engine(Tunables(), Repeatable(1)).core.protos[17], 0)
        table.allocate(ct)
        ids.append(ct.id)
    assert ids == [0x7FFFFFFF, 1]


def test_a_slot_out_of_range_is_empty() -> None:
    table = Table()
    assert table.at(-1) is None
    assert table.at(0) is None

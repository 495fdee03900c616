"""A new process has the tables of the former one, whatever traffic came before; a damaged journal adds nothing to them.

CONNTRACKD_PY_DAMAGES: damaged journals for each family, 300 by default.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack import journal as journals
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.journal import HEADER_SIZE, RECORD, Journal
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.seqadj import MOST
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_HELPER
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import Origin, Restore
from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.reasons import END_NAMES
from tests.conversations.test_ftp import FTP, SHORT, ftp, port_command, shorter
from tests.property.test_mark_maps import ANY, crossing, router
from tests.support.control import Stream
from tests.support.examples import examples
from tests.support.invariants import check
from tests.support.journals import SEED, SIDE, attach, finish, restored
from tests.support.play import CLIENT, NEIGHBOUR, OTHER, ROUTER, SERVER, Said, tcp, udp
from tests.support.twin_maps import TwinMaps

DAMAGES = int(os.environ.get("CONNTRACKD_PY_DAMAGES", "300"))
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
STEPS = st.lists(st.tuples(ANY, st.integers(0, 5_000)), min_size=5, max_size=40)


def alive(engine: Engine) -> list[NfConn]:
    return [ct for ct in engine.core.table.slots if ct is not None and ct.confirmed and not ct.dying]


def books(engine: Engine) -> dict[str, object]:
    """All that a packet can depend on, without the unconfirmed and the dying."""
    nat = engine.nat
    return {
        "records": {ct.slot: record.encode(ct) for ct in alive(engine)},
        "hash": {t: ct.slot for t, ct in engine.core.table.hash.items()},
        "routed": {t: ct.slot for t, ct in engine.core.table.routed.items()},
        "mappings": dict(nat.ports.mappings.by_source.items()),
        "ports": {key: (outer.ports, outer.sparse) for key, outer in nat.port_usage.outers.items()},
    }


def ends(engine: Engine, now: int) -> dict[tuple[bytes, str], int]:
    """What ends by itself in the next three minutes, by tuple and reason, and in which second."""
    engine.core.events.enabled = True
    engine.drain_events()
    found = {}
    for second in range(180):
        engine.expire(now + second * 1000, 1 << 20)
        for event in engine.drain_events():
            found[event.conn.original, END_NAMES[event.conn.end_reason]] = second
    return found


def successor(former: Engine, family: int, now: int, *, clean: bool) -> Engine:
    engine = router(family)
    journal = former.core.journal
    assert journal is not None
    restored(journal, engine, now, clean=clean)
    engine.core.randomness = engine.nat.ports.randomness = Repeatable(9)
    former.core.randomness = former.nat.ports.randomness = Repeatable(9)
    return engine


@FAMILIES
@settings(max_examples=examples(60), deadline=None)
@given(STEPS, STEPS)
def test_after_a_restart_everything_is_as_before(
    family: int, before: list[tuple[Said, int]], later: list[tuple[Said, int]]
) -> None:
    now, former = 1000, router(family)
    attach(former)
    for said, pause in before:
        now += pause
        former.expire(now, 1000)
        crossing(former, TwinMaps(), said, family, now)
    for ct in list(former.core.table.unconfirmed.values()):
        former.delete(ct.slot, now)
    finish(former)
    engine = successor(former, family, now, clean=True)
    check(engine)
    assert books(engine) == books(former)
    for said, pause in later:
        now += pause
        seen = []
        for one in (former, engine):
            one.expire(now, 1000)
            seen.append(crossing(one, TwinMaps(), said, family, now))
        assert seen[0] == seen[1], said.text
    check(engine)
    was, ended = ends(former, now), ends(engine, now)
    assert ended.keys() == was.keys()
    assert all(abs(second - was[ct]) <= 2 for ct, second in ended.items()), "the sweep is at most two seconds late"


PEERS: st.SearchStrategy[Said] = st.builds(
    lambda client, server, port, size, answer: (
        tcp(server, ROUTER, "A", sport=port, dport=40000, seq=size, ack=size)
        if answer
        else tcp(client, server, "A", sport=40000, dport=port, seq=size, ack=size)
    ),
    st.sampled_from([CLIENT, NEIGHBOUR]),
    st.sampled_from([SERVER, OTHER]),
    st.sampled_from([80, 81]),
    st.integers(0, 1 << 32).map(lambda number: number & 0xFFFFFFFF),
    st.booleans(),
)


@FAMILIES
@settings(max_examples=examples(60), deadline=None)
@given(STEPS, st.lists(PEERS, max_size=10))
def test_after_a_crash_no_mapping_has_changed(family: int, before: list[tuple[Said, int]], later: list[Said]) -> None:
    now, former = 1000, router(family)
    journal = attach(former)
    for said, pause in before:
        now += pause
        former.expire(now, 1000)
        crossing(former, TwinMaps(), said, family, now)
        journal.turn(former.core.table.slots, now, 1000, 1000)
    engine = successor(former, family, now, clean=False)
    check(engine)
    was = {ct.slot: (ct.original, ct.reply, ct.status, ct.state, ct.id) for ct in alive(former)}
    assert {ct.slot: (ct.original, ct.reply, ct.status, ct.state, ct.id) for ct in alive(engine)} == was
    assert all(ct.timeout >= known.timeout for ct, known in zip(alive(engine), alive(former), strict=True))
    for said in later:
        crossing(engine, TwinMaps(), said, family, now)
    check(engine)


def flipped(dice: random.Random, buffer: bytearray) -> None:
    for _ in range(dice.choice((1, 1, 2, 9, 200))):
        buffer[dice.randrange(HEADER_SIZE, len(buffer))] ^= 1 << dice.randrange(8)


def shortened(dice: random.Random, buffer: bytearray) -> None:
    del buffer[dice.randrange(len(buffer)) :]


def swapped(dice: random.Random, buffer: bytearray) -> None:
    """Records in each other's place, or one record twice."""
    count = (len(buffer) - HEADER_SIZE) // RECORD
    for _ in range(dice.choice((1, 3))):
        one, other = (HEADER_SIZE + dice.randrange(count) * RECORD for _ in range(2))
        record_one, record_other = buffer[one : one + RECORD], buffer[other : other + RECORD]
        buffer[one : one + RECORD] = record_other
        buffer[other : other + RECORD] = record_one if dice.random() < 0.7 else record_other


def of_another_version(dice: random.Random, buffer: bytearray) -> None:
    count = (len(buffer) - HEADER_SIZE) // RECORD
    buffer[HEADER_SIZE + dice.randrange(count) * RECORD + 4] = dice.randrange(256)


def overwritten(dice: random.Random, buffer: bytearray) -> None:
    at = dice.randrange(HEADER_SIZE, len(buffer))
    size = dice.randrange(1, 2000)
    buffer[at : at + size] = dice.randbytes(min(size, len(buffer) - at))


DAMAGE: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flipped,
    shortened,
    swapped,
    of_another_version,
    overwritten,
)


def control_connections(family: int) -> tuple[Journal, Engine]:
    """A journal with the records of FTP control connections: corrections, helpers, expectations; and its engine."""
    play = ftp(family, [shorter(family)])
    for sport in range(3000, 3020):
        client = replace(CLIENT, port=sport)
        stream = Stream(play, client, SERVER, FTP, as_seen=SHORT).open()
        stream.says(client, b"USER x\r\n")
        for port in range(5000, 5000 + sport % 4):
            stream.says(client, port_command(family, CLIENT, port + sport))
    finish(play.engine)
    journal = play.engine.core.journal
    assert journal is not None
    return journal, play.engine


def written_again(engine: Engine) -> set[bytes]:
    """The records of all connections and expectations."""
    core = engine.core
    connections = {
        record.fitted(ct, record.Help(core.helper_names.get(ct.slot, ""), core.seqadj.get(ct.slot)))[0]
        if ct.status & IPS_HELPER
        else record.encode(ct)
        for ct in alive(engine)
    }
    return connections | {record.encode_expectation(known) for known in core.expectations.all()}


def helping(family: int) -> Engine:
    engine = router(family)
    engine.helpers.configure([Ftp(Tunables())])
    return engine


@FAMILIES
def test_control_connections_are_as_before(family: int) -> None:
    journal, former = control_connections(family)
    engine = helping(family)
    restored(journal, engine, 1_000_000, clean=True)
    check(engine)
    assert written_again(engine) == written_again(former) != set()
    assert len(engine.helpers.helped) == 20
    assert len(engine.core.seqadj) == len(former.core.seqadj) == 15
    assert engine.core.expectations.count == former.core.expectations.count == 15


@FAMILIES
def test_damage_makes_no_help(family: int) -> None:
    dice = random.Random(family)
    journal, former = control_connections(family)
    whole, written = bytearray(journal.buffer), written_again(former)
    for _ in range(DAMAGES):
        buffer = bytearray(whole)
        dice.choice(DAMAGE)(dice, buffer)
        engine = helping(family)
        restore_from(engine, buffer)
        check(engine)
        assert written_again(engine) <= written


@FAMILIES
def test_a_record_with_a_good_checksum_and_wrong_help(family: int) -> None:
    """As from a faulty writer: no exception, bounds hold, and the corrections can be used."""
    dice = random.Random(family)
    journal, _ = control_connections(family)
    every = journals.read(journal.buffer, SEED, 0, 1 << 20).records
    found = [(number, data) for number, data in every if record.kind_of(data) != record.LINK]
    for _ in range(DAMAGES):
        records = []
        for number, data in found:
            first = record.HEAD.size if number >= SIDE else record.EXPECTATION_HEAD.size - 7
            wrong = bytearray(data)
            wrong[dice.randrange(first, min(first + 40, len(data)))] = dice.randrange(256)
            records.append((number, bytes(wrong)))
        engine = helping(family)
        restore = Restore(engine, Tunables(), SIDE, Origin(0, 0, True), 1000)
        restore.take(records)
        restore.finish()
        for adjustment in engine.core.seqadj.values():
            for side in adjustment.sides:
                assert len(side.offsets) == len(side.positions) + 1 <= MOST + 1
                seq = dice.randrange(1 << 32)
                assert 0 <= side.received(seq) <= 0xFFFFFFFF >= side.sent(seq) >= 0
        assert all(len(known.mask) == len(known.tuple) for known in engine.core.expectations.all())


def full_journal(family: int) -> tuple[bytearray, dict[int, bytes]]:
    """A journal of translated connections, and its records by number."""
    former = router(family)
    journal = attach(former)
    for at in range(60):
        crossing(former, TwinMaps(), udp(CLIENT, SERVER, sport=2000 + at), family, 1000)
        crossing(former, TwinMaps(), tcp(NEIGHBOUR, OTHER, "S", sport=2000 + at), family, 1000)
    finish(former)
    return bytearray(journal.buffer), dict(journals.read(journal.buffer, SEED, 0, 1 << 20).records)


@FAMILIES
def test_no_damage_makes_a_record(family: int) -> None:
    """Never an exception, never a record that was not written there, and every intact one is kept."""
    dice = random.Random(family)
    whole, written = full_journal(family)
    for _ in range(DAMAGES):
        buffer = bytearray(whole)
        dice.choice(DAMAGE)(dice, buffer)
        found = journals.read(buffer, SEED, 0, 1 << 20)
        assert set(found.records) <= set(written.items())
        for number, data in written.items():
            at = HEADER_SIZE + number * RECORD
            untouched = buffer[at : at + RECORD] == whole[at : at + RECORD]
            assert not untouched or (number, data) in found.records
        engine = router(family)
        restore_from(engine, buffer)
        check(engine)
        assert {record.encode(ct) for ct in alive(engine)} <= set(written.values())


def restore_from(engine: Engine, buffer: bytearray) -> None:
    found = journals.read(buffer, SEED, 0, 1 << 20)
    restore = Restore(engine, Tunables(), SIDE, Origin(0, 0, True), 1000)
    restore.take(found.records)
    restore.finish()


@FAMILIES
def test_the_journal_of_another_process_is_wholly_wrong(family: int) -> None:
    whole, written = full_journal(family)
    found = journals.read(whole, SEED + 1, 0, 1 << 20)
    assert found.records == []
    assert found.damaged == len(written)

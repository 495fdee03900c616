"""Connections that an operator creates and updates: what is refused, what changes, what is reported."""

from __future__ import annotations

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_FIXED_TIMEOUT,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
)
from conntrackd_py.engine import change as changes
from conntrackd_py.engine.change import DONE, ENDED, EXISTS, FULL, STATUS_FIXED, TIMEOUT_FIXED, Change
from conntrackd_py.proto import tcp_states
from conntrackd_py.proto.standard import NETFILTER, RFC7857
from conntrackd_py.reasons import END_DELETED, END_EARLY_DROP
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router


def change(**values: int) -> Change:
    made = Change()
    for name, value in values.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def hand_made(router: Router, sport: int, like: int | None = None) -> NfConn:
    """A connection not yet in the table, with the tuples of a UDP one from this port."""
    model = router.udp(sport if like is None else like)
    ct = NfConn(model.original, model.reply, model.l4proto, router.now)
    router.engine.core.kill(model, END_DELETED, router.now)
    return ct


def create(router: Router, ct: NfConn, **values: int) -> int:
    return changes.create(router.engine.core, ct, change(**{"timeout": 100_000, **values}), router.now)


def test_a_created_connection_is_found_by_its_packets_and_ends_in_time() -> None:
    router = Router()
    ct = hand_made(router, 1000)
    assert create(router, ct, mark_value=7, labels_on=3) == DONE
    assert (ct.status, ct.mark, ct.labels, ct.remaining(router.now)) == (IPS_CONFIRMED, 7, 3, 100_000)
    assert router.udp(1000) is ct
    router.now += 31_000  # the packet has refreshed it, as any UDP
    router.engine.expire(router.now, 1000)
    assert ct.dying


def test_it_is_counted_and_reported_as_a_new_one() -> None:
    router = Router()
    ct = hand_made(router, 1000)
    before = router.engine.core.stats.insert
    router.engine.core.events.enabled = True
    assert create(router, ct, status=IPS_SEEN_REPLY | IPS_ASSURED) == DONE
    (event,) = router.engine.drain_events()
    assert (event.kind, event.status & IPS_ASSURED) == ("NEW", IPS_ASSURED)
    assert router.engine.core.stats.insert == before + 1
    assert ct.l4proto.entries == [1]


def test_a_taken_tuple_a_full_table_and_an_impossible_status_refuse_it() -> None:
    router = Router()
    ct = hand_made(router, 1000)
    assert create(router, ct, status=IPS_EXPECTED) == STATUS_FIXED
    assert create(router, ct) == DONE
    twin = NfConn(ct.original, ct.reply, ct.l4proto, router.now)
    assert create(router, twin) == EXISTS
    answers_alike = NfConn(b"\x01" + ct.original[1:], ct.reply, ct.l4proto, router.now)
    assert create(router, answers_alike) == EXISTS
    router.engine.core.limit = 1
    ct.status |= IPS_ASSURED  # or it would make room
    other = NfConn(b"\x01" + ct.original[1:], b"\x01" + ct.reply[1:], ct.l4proto, router.now)
    assert create(router, other) == FULL
    assert len(router.engine.core.table) == 1


def test_an_unassured_one_makes_room_for_it() -> None:
    router = Router(tunables=Tunables(nf_conntrack_max=1))
    first = router.udp(1000)
    ct = NfConn(b"\x01" + first.original[1:], b"\x01" + first.reply[1:], first.l4proto, router.now)
    assert create(router, ct) == DONE
    assert first.end_reason == END_EARLY_DROP


def test_settable_status_bits_are_set_and_others_ignored() -> None:
    router = Router()
    ct = router.established()
    status = ct.status
    router.engine.core.events.enabled = True
    wanted = change(timeout=5_000, status=IPS_OFFLOAD, mark_value=0x100, mark_mask=0xF00, labels_on=4, labels_off=1)
    ct.mark, ct.labels = 0x235, 3
    assert changes.update(router.engine.core, ct, wanted, router.now) == DONE
    assert (ct.status, ct.mark, ct.labels, ct.remaining(router.now)) == (status, 0x135, 6, 5_000)
    (event,) = router.engine.drain_events()
    assert event.kind == "UPDATE"


def test_a_shorter_timeout_ends_it_when_it_is_over() -> None:
    """The gc has it on a far page; the change moves it to a nearer one."""
    router = Router()
    ct = router.established()
    assert changes.update(router.engine.core, ct, change(timeout=2_000), router.now) == DONE
    router.now += 3_100
    router.engine.expire(router.now, 1000)
    assert ct.dying


def test_a_state_moves_the_count_of_states() -> None:
    router = Router()
    ct = router.established()
    closed = change(state=tcp_states.TCP_CONNTRACK_CLOSE)
    assert changes.update(router.engine.core, ct, closed, router.now) == DONE
    entries = ct.l4proto.entries
    assert (entries[tcp_states.TCP_CONNTRACK_ESTABLISHED], entries[tcp_states.TCP_CONNTRACK_CLOSE]) == (0, 1)


def test_a_closed_one_may_be_reopened_and_its_window_is_not_checked() -> None:
    router = Router()
    ct = router.established()
    changes.update(router.engine.core, ct, change(state=tcp_states.TCP_CONNTRACK_ESTABLISHED), router.now)
    wild = packets.tcp(SERVER, CLIENT, 80, 40000, "A", seq=0x7000_0000, ack=2)
    assert router.forward(wild) is ct
    changes.update(router.engine.core, ct, change(state=tcp_states.TCP_CONNTRACK_TIME_WAIT), router.now)
    assert router.syn() is not ct


@pytest.mark.parametrize(
    ("status", "wanted", "outcome"),
    [
        (IPS_CONFIRMED | IPS_FIXED_TIMEOUT, change(timeout=1000), TIMEOUT_FIXED),
        (IPS_CONFIRMED | IPS_FIXED_TIMEOUT, change(mark_value=1), DONE),
        (IPS_CONFIRMED, change(status=IPS_EXPECTED), STATUS_FIXED),
        (IPS_CONFIRMED | IPS_EXPECTED, change(status=IPS_EXPECTED), DONE),
        (IPS_CONFIRMED | IPS_DYING, change(mark_value=1), ENDED),
    ],
)
def test_refusals_change_nothing(status: int, wanted: Change, outcome: int) -> None:
    router = Router()
    ct = router.udp()
    ct.status = status
    left = ct.remaining(router.now)
    assert changes.update(router.engine.core, ct, wanted, router.now) == outcome
    assert (ct.status, ct.remaining(router.now)) == (status, left)


def test_whether_it_alters_anything() -> None:
    router = Router()
    ct = router.syn()
    ct.mark, ct.labels = 5, 1
    left = ct.remaining(router.now)
    for same in (
        change(),
        change(timeout=left + 999),
        change(mark_value=5, mark_mask=0xFFFFFFFF),
        change(labels_on=1),
        change(labels_off=2),
        change(state=ct.state),
        change(status=0),
        change(status=IPS_OFFLOAD),
    ):
        assert not same.alters(ct, router.now)
    for other in (
        change(timeout=left + 1000),
        change(mark_value=1, mark_mask=0xF),
        change(labels_on=2),
        change(labels_off=1),
        change(state=tcp_states.TCP_CONNTRACK_CLOSE),
        change(status=IPS_ASSURED),
        change(status=IPS_EXPECTED),
    ):
        assert other.alters(ct, router.now)


@pytest.mark.parametrize(
    ("first", "state"),
    [
        (packets.tcp(CLIENT, SERVER, 1, 2, "S", seq=1), "ESTABLISHED"),
        (packets.udp(CLIENT, SERVER, 1, 2), ""),
        (packets.sctp(CLIENT, SERVER, 1, 2, 0, (1, bytes((0, 0, 0, 7)) + bytes(12))), "ESTABLISHED"),
        (packets.icmp(CLIENT, SERVER, 8), ""),
        (packets.ip(CLIENT, SERVER, 47, bytes(8)), ""),
        (packets.ip(CLIENT, SERVER, 99, bytes(8)), ""),
    ],
    ids=["tcp", "udp", "sctp", "icmp", "gre", "other"],
)
@pytest.mark.parametrize("tracker", [NETFILTER, RFC7857])
def test_a_connection_made_by_command_tracks_its_next_packets(first: bytes, state: str, tracker: str) -> None:
    """No packet created it, so its tracker has no data from a first packet."""
    router = Router()
    router.engine.configure(Tunables(), tcp_tracker=tracker)
    model = router.forward(first)
    ct = NfConn(model.original, model.reply, model.l4proto, router.now)
    router.engine.core.kill(model, END_DELETED, router.now)
    made = change(timeout=100_000, status=IPS_SEEN_REPLY)
    if state:
        made.state = ct.l4proto.state_names.index(state)
    assert changes.create(router.engine.core, ct, made, router.now) == DONE
    router.now += 5_000
    assert ct.remaining(router.now) == 95_000
    assert router.forward(first) is ct

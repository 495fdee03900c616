"""Every field of a connection in its record, the limits of a record, and what a reader refuses."""

import struct
from collections.abc import Callable

import pytest

from conntrackd_py.conntrack.conn import INFO_LIMIT, Counters, L4Proto, NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.journal import CRC, RECORD
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.seqadj import MOST, SeqAdj
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_HELPER,
    IPS_OFFLOAD,
    IPS_SEQ_ADJUST,
)
from conntrackd_py.const import REPLY as BACK
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import Origin, Restore
from conntrackd_py.proto.standard import distinct, standard_protos

PROTOS = standard_protos(Tunables())
ORIGINAL = bytes(range(1, 33)) + b"\1\2\3\4"
REPLY = bytes(range(33, 65)) + b"\5\6\7\10"


def trackers() -> Restore:
    return Restore(Engine(Tunables(), Repeatable(), protos=PROTOS), Tunables(), 0, Origin(0, 0, True), 0)


def connection(protonum: int = IPPROTO_TCP, zone: bytes = b"") -> NfConn:
    l4proto = PROTOS[protonum]
    ct = NfConn(ORIGINAL + bytes([protonum]) + zone, REPLY + bytes([protonum]) + zone, l4proto, 123_456_789)
    l4proto.adopt(ct)
    ct.status = IPS_CONFIRMED | IPS_ASSURED
    ct.timeout, ct.id, ct.iif, ct.oif, ct.mark, ct.state = 1 << 40, 0x7FFFFFFF, 7, -1, 0xFFFFFFFF, 3 if zone else 0
    return ct


def fields(ct: NfConn) -> list[object]:
    names = ("original", "reply", "timeout", "born", "id", "iif", "oif", "mark", "labels", "status", "state")
    flags = ("masquerade", "remembered", "port_counted", "source_early")
    return [getattr(ct, name) for name in (*names, *flags)] + [ct.l4proto, ct.l4proto.pack_info(ct)]


def test_everything_comes_back() -> None:
    ct = connection(zone=b"\0\7")
    ct.labels = 1 << 127 | 5
    ct.masquerade = ct.source_early = True
    ct.counters = Counters()
    ct.counters.packets_original, ct.counters.bytes_reply = 1, 1 << 50
    master = connection(IPPROTO_UDP)
    master.slot, master.id = 9, 77
    ct.master = master
    read = record.decode(record.encode(ct), trackers())
    assert read is not None
    assert fields(read.ct) == fields(ct)
    assert (read.master_slot, read.master_id) == (9, 77)
    assert read.ct.counters is not None
    assert (read.ct.counters.packets_original, read.ct.counters.bytes_reply) == (1, 1 << 50)


@pytest.mark.parametrize("flag", ["masquerade", "remembered", "port_counted", "source_early"])
def test_each_flag(flag: str) -> None:
    ct = connection()
    setattr(ct, flag, True)
    read = record.decode(record.encode(ct), trackers())
    assert read is not None
    assert fields(read.ct) == fields(ct)
    assert (read.master_slot, read.ct.master, read.ct.counters) == (record.NO_MASTER, None, None)


@pytest.mark.parametrize("l4proto", distinct(PROTOS), ids=lambda l4proto: l4proto.name)
def test_what_each_tracker_keeps(l4proto: L4Proto) -> None:
    ct = connection(l4proto.protonum)
    assert len(l4proto.pack_info(ct)) <= INFO_LIMIT
    read = record.decode(record.encode(ct), trackers())
    assert read is not None
    assert read.ct.l4proto is l4proto
    assert l4proto.pack_info(read.ct) == l4proto.pack_info(ct)
    assert (read.ct.proto is None) == (ct.proto is None)


def test_the_largest_record_fits_its_place() -> None:
    assert record.LARGEST + CRC.size <= RECORD


def helped(protonum: int = IPPROTO_TCP, status: int = IPS_HELPER | IPS_SEQ_ADJUST) -> NfConn:
    ct = connection(protonum)
    ct.status |= status
    return ct


def adjusted(*counts: int) -> SeqAdj:
    """With so many corrections in each direction."""
    made = SeqAdj()
    for side, count in zip(made.sides, counts, strict=True):
        for at in range(count):
            side.add(0xFFFFFF00 + at * 100 & 0xFFFFFFFF, at % 3 * -7 + 5)
    return made


def corrections(known: SeqAdj | None) -> list[tuple[list[int], list[int]]]:
    return [(side.positions, side.offsets) for side in known.sides] if known is not None else []


@pytest.mark.parametrize("name", ["", "ftp", "ä" * 8])
@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (0, 1), (1, 1), (3, 0)])
def test_a_helper_and_corrections(name: str, counts: tuple[int, int]) -> None:
    known = adjusted(*counts) if any(counts) else None
    ct = helped()
    data, whole = record.fitted(ct, record.Help(name, known))
    read = record.decode(data, trackers())
    assert read is not None
    assert whole
    assert fields(read.ct) == fields(ct)
    assert read.helped.helper == name
    assert corrections(read.helped.seqadj) == corrections(known)


def test_a_base_that_all_corrections_were_merged_into() -> None:
    known = adjusted(MOST + 2, 0)
    side = known.sides[0]
    side.positions, side.offsets = [], [side.offsets[-1]]
    data, _ = record.fitted(helped(), record.Help("ftp", known))
    read = record.decode(data, trackers())
    assert read is not None
    assert corrections(read.helped.seqadj) == corrections(known)


def largest() -> NfConn:
    ct = connection(zone=b"\0\7")
    ct.status |= IPS_HELPER | IPS_SEQ_ADJUST
    ct.labels, ct.counters, ct.master = 1, Counters(), connection()
    return ct


@pytest.mark.parametrize(
    ("ct", "name", "counts", "whole", "kept"),
    [
        (helped(), "ftp", (2, 2), True, ("ftp", 2, 2)),
        (helped(), "ftp", (8, 8), True, ("ftp", 3, 3)),
        (helped(), "h" * 40, (8, 0), True, ("h" * 40, 2, 0)),
        (helped(), "h" * 60, (8, 0), False, ("", 1, 0)),
        (helped(), "h" * 65, (1, 0), False, ("", 1, 0)),
        (largest(), "h" * 17, (8, 8), False, ("h" * 17, 1, 1)),
        (largest(), "h" * 18, (8, 8), False, ("", 1, 1)),
        (largest(), "ftp", (0, 0), True, ("ftp", 0, 0)),
    ],
)
def test_what_is_left_out(
    ct: NfConn, name: str, counts: tuple[int, int], whole: bool, kept: tuple[str, int, int]
) -> None:
    """The newest correction of each direction always fits; later numbers are adjusted as before."""
    known = adjusted(*counts)
    data, seen = record.fitted(ct, record.Help(name, known))
    assert len(data) <= record.LARGEST
    read = record.decode(data, trackers())
    assert read is not None
    sides = read.helped.seqadj.sides if read.helped.seqadj is not None else SeqAdj().sides
    assert (read.helped.helper, *(len(side.positions) for side in sides)) == kept
    assert seen == whole
    assert (read.ct.counters is None) == (ct.counters is None or not whole)
    for side, before in zip(sides, known.sides, strict=True):
        assert [side.received(n) for n in (5000, 900_000)] == [before.received(n) for n in (5000, 900_000)]
        assert [side.sent(n) for n in (5000, 900_000)] == [before.sent(n) for n in (5000, 900_000)]


@pytest.mark.parametrize(
    ("ct", "known"),
    [
        (connection(), adjusted(0, 0)),
        (helped(status=IPS_HELPER), adjusted(1, 0)),
        (helped(status=IPS_SEQ_ADJUST), adjusted(1, 0)),
        (helped(IPPROTO_UDP), adjusted(1, 0)),
    ],
)
def test_help_that_the_status_or_protocol_contradicts(ct: NfConn, known: SeqAdj) -> None:
    assert record.decode(record.encode(ct, record.Help("ftp", known)), trackers()) is None


def test_adjusted_by_an_operator_alone() -> None:
    """The status can be set; there is nothing to adjust."""
    ct = helped(IPPROTO_UDP)
    read = record.decode(record.fitted(ct, record.Help("tftp"))[0], trackers())
    assert read is not None
    assert (read.helped.helper, read.helped.seqadj) == ("tftp", None)


def test_help_at_every_wrong_length() -> None:
    """Lengths and counts that lead elsewhere: never an exception, never more than the bytes of the record."""
    data = record.encode(helped(), record.Help("ftp", adjusted(2, 1)))
    at = record.HEAD.size
    for place in range(at, at + 1 + 3 + 2 * record.HEAD.size):
        for value in (0, 1, 2, 3, 9, 10, 64, 128, 255):
            read = record.decode(changed(place, value)(data), trackers())
            assert read is None or all(len(side) <= MOST for side, _ in corrections(read.helped.seqadj))


def test_an_offloaded_connection_is_not() -> None:
    ct = connection()
    data = record.encode(ct)
    ct.status |= IPS_OFFLOAD
    ct.l4proto.offloaded(ct, True)
    read = record.decode(record.encode(ct), trackers())
    assert read is not None
    assert not read.ct.status & IPS_OFFLOAD
    ct.l4proto.offloaded(ct, False)
    assert ct.l4proto.pack_info(read.ct) == ct.l4proto.pack_info(ct)
    assert record.decode(data, trackers()) is not None


def changed(at: int, value: int, layout: str = "B") -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        found = bytearray(data)
        struct.pack_into("<" + layout, found, at, value)
        return bytes(found)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:3],
        lambda data: data[:-1],
        lambda data: data + b"x",
        changed(0, 2),
        changed(1, record.LINK),
        changed(20, 0, "i"),
        changed(48, IPS_ASSURED, "H"),
        changed(48, IPS_CONFIRMED | IPS_DYING, "H"),
        changed(50, 200),
        changed(52, 99),
        changed(53, 36),
        changed(54, 13),
    ],
)
def test_what_is_no_record_of_a_connection(damage: Callable[[bytes], bytes]) -> None:
    data = record.encode(connection())
    assert record.decode(data, trackers()) is not None
    assert record.decode(damage(data), trackers()) is None


def test_a_layout_that_no_tracker_has() -> None:
    data = record.encode(connection(IPPROTO_SCTP))
    assert record.decode(changed(52, 1)(data), trackers()) is None


@pytest.mark.parametrize("helper", ["", "ftp", "ä" * 32])
def test_an_expectation(helper: str) -> None:
    master = connection()
    master.slot = 5
    known = Expectation(master, ORIGINAL + b"\6", b"\xff" * 37, 1 << 41, flags=3, kind=2)
    known.id, known.helper, known.child_helper = 0xFFFFFFFF, helper, helper * 2 if len(helper) < 32 else helper
    known.follows, known.direction, known.port = True, BACK, 65535
    data = record.encode_expectation(known)
    assert record.kind_of(data) == record.EXPECTATION
    assert record.master_of(data) == (5, master.id)
    read = record.decode_expectation(data, master)
    assert read is not None
    names = ("tuple", "mask", "until", "flags", "kind", "id", "helper", "key", "bits")
    for name in (*names, "child_helper", "follows", "direction", "port"):
        assert getattr(read, name) == getattr(known, name), name
    assert len(data) + CRC.size <= RECORD


def test_an_expectation_with_a_long_helper_has_no_record() -> None:
    for name in ("helper", "child_helper"):
        known = Expectation(connection(), ORIGINAL + b"\6", b"\xff" * 37, 1)
        setattr(known, name, "h" * 65)
        assert record.encode_expectation(known) == b""


def test_what_is_no_record_of_an_expectation() -> None:
    """Lengths that do not agree, and a NAT that cannot be."""
    known = Expectation(connection(), ORIGINAL + b"\6", b"\xff" * 37, 1)
    known.helper = "ftp"
    data = record.encode_expectation(known)
    lengths = record.EXPECTATION_HEAD.size - 3
    for at in range(lengths, lengths + 3):
        for value in (0, 1, 13, 38, 255):
            assert record.decode_expectation(changed(at, value)(data), known.master) is None or value == data[at]
    other = NfConn(bytes(8) + b"\1\2\3\4\6", bytes(8) + b"\3\4\1\2\6", PROTOS[IPPROTO_TCP], 0)
    known.follows = True
    assert record.decode_expectation(record.encode_expectation(known), other) is None
    assert record.master_of(data[:20]) == (record.NO_MASTER, record.NO_MASTER)


def test_an_interface() -> None:
    data = record.encode_link(7, "wan0")
    assert record.kind_of(data) == record.LINK
    assert record.decode_link(data) == (7, "wan0")

"""Every field of a connection in its record, the limits of a record, and what a reader refuses."""

import struct
from collections.abc import Callable

import pytest

from conntrackd_py.conntrack.conn import INFO_LIMIT, Counters, L4Proto, NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.journal import CRC, RECORD
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPS_ASSURED, IPS_CONFIRMED, IPS_DYING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.restore import Origin, Restore
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
    known.id, known.helper = 0xFFFFFFFF, helper
    data = record.encode_expectation(known)
    assert record.kind_of(data) == record.EXPECTATION
    assert record.master_of(data) == (5, master.id)
    read = record.decode_expectation(data, master)
    for name in ("tuple", "mask", "until", "flags", "kind", "id", "helper", "key", "bits"):
        assert getattr(read, name) == getattr(known, name), name
    assert len(data) + CRC.size <= RECORD


def test_an_expectation_with_a_long_helper_has_no_record() -> None:
    known = Expectation(connection(), ORIGINAL + b"\6", b"\xff" * 37, 1)
    known.helper = "h" * 65
    assert record.encode_expectation(known) == b""


def test_an_interface() -> None:
    data = record.encode_link(7, "wan0")
    assert record.kind_of(data) == record.LINK
    assert record.decode_link(data) == (7, "wan0")

"""What a client says of a connection to be made, as tuples, ranges and changes; and both kinds of mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import convert

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_ASSURED, IPS_SEEN_REPLY
from conntrackd_py.control import spec as specs
from conntrackd_py.control.protocol.requests import Change, NewConnection, RefusedError, RequestError, TupleFields
from conntrackd_py.control.view import tuple_fields
from conntrackd_py.engine import change as changes
from conntrackd_py.proto.standard import standard_protos

ENDS = {"src": "10.0.0.1", "dst": "10.0.0.2"}
UDP = {"proto": 17, **ENDS, "sport": 1000, "dport": 53}


def wanted(spec: dict[str, Any]) -> specs.Wanted:
    return specs.wanted(convert(spec, NewConnection))


def one_tuple(spec: dict[str, Any]) -> bytes:
    return specs.one_tuple(convert(spec, TupleFields))


def change_of(spec: dict[str, Any], l4proto: L4Proto) -> changes.Change:
    return specs.change_of(convert(spec, Change), l4proto)


def shown(t: bytes) -> str:
    fields = tuple_fields(t)
    zone = f" zone {tuples.zone(t)}" if tuples.zone(t) else ""
    return " ".join(str(value) for value in fields.values()) + zone


@pytest.mark.parametrize(
    ("spec", "original", "reply"),
    [
        (UDP, "10.0.0.1 10.0.0.2 1000 53", "10.0.0.2 10.0.0.1 53 1000"),
        (
            {"proto": 17, "reply_src": "10.0.0.2", "reply_dst": "10.0.0.1", "reply_sport": 53, "reply_dport": 1000},
            "10.0.0.1 10.0.0.2 1000 53",
            "10.0.0.2 10.0.0.1 53 1000",
        ),
        (
            {**UDP, "reply_src": "192.0.2.3", "reply_dst": "192.0.2.4", "reply_sport": 8, "reply_dport": 9},
            "10.0.0.1 10.0.0.2 1000 53",
            "192.0.2.3 192.0.2.4 8 9",
        ),
        ({**UDP, "zone": 7}, "10.0.0.1 10.0.0.2 1000 53 zone 7", "10.0.0.2 10.0.0.1 53 1000 zone 7"),
        ({**UDP, "orig_zone": 8}, "10.0.0.1 10.0.0.2 1000 53 zone 8", "10.0.0.2 10.0.0.1 53 1000"),
        ({**UDP, "reply_zone": 9}, "10.0.0.1 10.0.0.2 1000 53", "10.0.0.2 10.0.0.1 53 1000 zone 9"),
        ({"proto": 1, **ENDS, "icmp_type": 8, "icmp_id": 3}, "10.0.0.1 10.0.0.2 8 0 3", "10.0.0.2 10.0.0.1 0 0 3"),
        (
            {"proto": 58, "src": "fd00::1", "dst": "fd00::2", "icmp_type": 128, "icmp_id": 3},
            "fd00::1 fd00::2 128 0 3",
            "fd00::2 fd00::1 129 0 3",
        ),
        ({"proto": 47, **ENDS, "srckey": 1, "dstkey": 2}, "10.0.0.1 10.0.0.2 1 2", "10.0.0.2 10.0.0.1 2 1"),
        ({"proto": 2, **ENDS}, "10.0.0.1 10.0.0.2", "10.0.0.2 10.0.0.1"),
        ({"proto": 33, **ENDS, "sport": 1, "dport": 2}, "10.0.0.1 10.0.0.2 0 0", "10.0.0.2 10.0.0.1 0 0"),
    ],
)
def test_tuples(spec: dict[str, Any], original: str, reply: str) -> None:
    made = wanted(spec)
    assert (shown(made.original), shown(made.reply)) == (original, reply)


@pytest.mark.parametrize(
    ("more", "source", "destination"),
    [
        ({"src_nat": "192.0.2.1"}, ("192.0.2.1", 0), None),
        ({"src_nat": "192.0.2.1:99"}, ("192.0.2.1", 99), None),
        ({"dst_nat": "192.0.2.2:99"}, None, ("192.0.2.2", 99)),
        ({"src_nat": "192.0.2.1", "reply_src": "10.0.0.2", "reply_dport": 99}, ("192.0.2.1", 99), None),
        (
            {"src_nat": "192.0.2.1", "dst_nat": "192.0.2.2", "reply_sport": 98, "reply_dport": 99},
            ("192.0.2.1", 99),
            ("192.0.2.2", 98),
        ),
    ],
)
def test_translations(
    more: dict[str, Any], source: tuple[str, int] | None, destination: tuple[str, int] | None
) -> None:
    """With a translation the reply is the inverted original, which the translation alters; -o save has its port."""
    made = wanted({**UDP, **more})
    assert shown(made.reply) == "10.0.0.2 10.0.0.1 53 1000"
    for bound, expected in ((made.source, source), (made.destination, destination)):
        found = bound and (".".join(str(byte) for byte in bound.low), bound.port_high)
        assert found == expected


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({**UDP, "src": "10.0.0"}, "Invalid IP address `10.0.0'"),
        ({**UDP, "dst": "fd00::1"}, "mismatched address family"),
        ({**UDP, "src_nat": "fd00::1"}, "mismatched address family"),
        ({**UDP, "src_nat": "10.0.0.1:x"}, "Invalid port `x'"),
        ({**UDP, "reply_src": "fd00::1", "reply_dst": "fd00::2"}, "mismatched address family"),
    ],
)
def test_what_no_table_could_hold(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(RequestError) as raised:
        wanted(spec)
    assert str(raised.value).startswith(why)


@pytest.mark.parametrize(
    "spec",
    [
        {"proto": 17},
        {"proto": 17, "src": "10.0.0.1"},
        {"proto": 17, "reply_src": "10.0.0.1"},
        {**UDP, "reply_src": "10.0.0.2"},
        {**UDP, "zone": 1, "orig_zone": 2},
        {"proto": 1, **ENDS, "icmp_type": 3},
        {"proto": 58, **ENDS, "icmp_type": 128},
        {"proto": 1, "src": "fd00::1", "dst": "fd00::2", "icmp_type": 8},
    ],
)
def test_what_makes_sense_and_cannot_be(spec: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="invalid parameters"):
        wanted(spec)


def test_a_tuple_is_that_of_either_direction() -> None:
    assert shown(one_tuple(UDP)) == "10.0.0.1 10.0.0.2 1000 53"
    reply = {"proto": 17, "reply_src": "10.0.0.2", "reply_dst": "10.0.0.1", "reply_sport": 53, "reply_dport": 1000}
    assert shown(one_tuple(reply)) == "10.0.0.2 10.0.0.1 53 1000"
    with pytest.raises(RefusedError):
        one_tuple({"proto": 17})


def trackers() -> list[L4Proto]:
    return standard_protos(Tunables())


def test_changes() -> None:
    spec = {"timeout": 5, "status": ["ASSURED", "SEEN_REPLY"], "state": "CLOSE", "mark": 7, "label_add": [0, 2]}
    change = change_of(spec, trackers()[6])
    assert (change.timeout, change.status, change.state) == (5000, IPS_ASSURED | IPS_SEEN_REPLY, 8)
    assert (change.mark_value, change.mark_mask, change.labels_on, change.labels_off) == (7, 0xFFFFFFFF, 5, 0)
    assert change_of({"mark": 1, "mark_mask": 15}, trackers()[6]).mark_mask == 15
    assert change_of({"orig_vtag": 3}, trackers()[132]).protoinfo == (3, 0)
    assert change_of({"status": ["UNSET"]}, trackers()[6]).status == 0


def test_mistakes_in_changes() -> None:
    with pytest.raises(RefusedError, match="has no state 'BOGUS'"):
        change_of({"state": "BOGUS"}, trackers()[6])
    assert change_of({"state": "OPEN"}, trackers()[33]).state == -1  # DCCP has no tracker

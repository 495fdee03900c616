"""Requests are decoded with their types and bounds; an error names the key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.json import encode

from conntrackd_py.const import STATUS_NAMES
from conntrackd_py.control.protocol.requests import Change, Events, Filter, List, Ping, RequestError, Update, decode


def test_a_request_is_the_same_at_both_ends() -> None:
    for request in (
        List(filter=Filter(proto=6, labels=(1, 2), src_nat=True), limit=5),
        Update(Change(mark=1, label_add=(3,))),
        Events(mask=("NEW", "DESTROY")),
        Ping(),
    ):
        assert decode(encode(request)) == request


def test_every_status_bit_has_its_name() -> None:
    line = json.dumps({"command": "list", "filter": {"status": [*STATUS_NAMES, "UNSET"]}}).encode()
    assert decode(line) == List(filter=Filter(status=(*STATUS_NAMES, "UNSET")))


def test_what_is_absent_is_not_sent() -> None:
    assert encode(List()) == b'{"command":"list"}'
    assert encode(List(filter=Filter(proto=6))) == b'{"command":"list","filter":{"proto":6}}'
    assert Filter().proto is UNSET


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"nonsense", "JSON is malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "Object missing required field `command`"),
        (b'{"command": "dance"}', "Invalid value 'dance' - at `$.command`"),
        (b'{"x": ' + b"[" * 3000 + b"]" * 3000 + b"}", "nested too deeply"),
        (b'{"command": "' + b"x" * 3000 + b'"}', "Invalid value"),
    ],
)
def test_what_is_no_request(line: bytes, why: str) -> None:
    with pytest.raises(RequestError) as raised:
        decode(line)
    assert str(raised.value).startswith(why)
    assert len(str(raised.value)) <= 200


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"colour": 1}, "Object contains unknown field `colour` - at `$.filter`"),
        ({"proto": 256}, "Expected `int` <= 255 - at `$.filter.proto`"),
        ({"proto": True}, "Expected `int`, got `bool` - at `$.filter.proto`"),
        ({"proto": "tcp"}, "Expected `int`, got `str` - at `$.filter.proto`"),
        ({"proto": None}, "Expected `int`, got `null` - at `$.filter.proto`"),
        ({"src": 5}, "Expected `str`, got `int` - at `$.filter.src`"),
        ({"family": "ipx"}, "Invalid enum value 'ipx' - at `$.filter.family`"),
        ({"proto": 6, "sport": 65536}, "Expected `int` <= 65535 - at `$.filter.sport`"),
        ({"proto": 6, "state": []}, "Expected `str`, got `array` - at `$.filter.state`"),
        ({"status": "ASSURED"}, "Expected `array`, got `str` - at `$.filter.status`"),
        ({"status": [[]]}, "Expected `str`, got `array` - at `$.filter.status[0]`"),
        ({"status": ["BOGUS"]}, "Invalid enum value 'BOGUS' - at `$.filter.status[0]`"),
        ({"status": []}, "Expected `array` of length >= 1 - at `$.filter.status`"),
        ({"status": ["ASSURED"] * 33}, "Expected `array` of length <= 32 - at `$.filter.status`"),
        ({"labels": [128]}, "Expected `int` <= 127 - at `$.filter.labels[0]`"),
        ({"labels": [0] * 129}, "Expected `array` of length <= 128 - at `$.filter.labels`"),
        ({"zone": 65536}, "Expected `int` <= 65535 - at `$.filter.zone`"),
        ({"mark": 1 << 32}, "Expected `int` <= 4294967295 - at `$.filter.mark`"),
        ({"src_nat": 7}, "Expected `bool | str`, got `int` - at `$.filter.src_nat`"),
        ({"interface": ""}, "Expected `str` of length >= 1 - at `$.filter.interface`"),
    ],
)
def test_every_field_of_a_filter_has_its_type_and_bounds(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(RequestError) as raised:
        decode(json.dumps({"command": "list", "filter": wanted}).encode())
    assert str(raised.value) == why

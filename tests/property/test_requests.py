"""Whatever a client asks, in words the control socket knows or nearly: it is answered, and the table stays whole."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.control.protocol.requests import NewConnection, RefusedError, RequestError, TupleFields, decode
from conntrackd_py.control.server import ControlServer
from conntrackd_py.engine.engine import Engine
from tests.support.examples import examples
from tests.support.invariants import check

ADDRESSES = ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "10.0.0.0/8", "192.0.2.1:99", "bogus", "")
VALUES = st.one_of(
    st.sampled_from(ADDRESSES),
    st.sampled_from((True, False, None, 0, 1, 2, 6, 8, 17, 47, 132, 255, 256, 65535, 65536, -1, 1 << 32, 1.5)),
    st.sampled_from((["ASSURED"], ["SEEN_REPLY", "ASSURED"], ["UNSET"], ["BOGUS"], [], [0, 127], [128], {})),
    st.sampled_from(("ESTABLISHED", "SYN_SENT", "CLOSE", "COOKIE_WAIT", "lan0", "ipv4", "ipv6")),
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "proto": st.sampled_from((1, 2, 6, 17, 33, 47, 58, 132, 136)),
    **dict.fromkeys(("src", "dst", "reply_src", "reply_dst"), st.sampled_from(ADDRESSES[:4])),
    **dict.fromkeys(("sport", "dport", "reply_sport", "reply_dport", "srckey", "dstkey"), st.integers(0, 3)),
    "timeout": st.integers(0, 100),
    "status": st.sampled_from((["ASSURED"], ["SEEN_REPLY"], ["FIXED_TIMEOUT"], ["EXPECTED"])),
    "state": st.sampled_from(("ESTABLISHED", "SYN_SENT", "CLOSE")),
    **dict.fromkeys(("src_nat", "dst_nat"), st.sampled_from(("192.0.2.1", "192.0.2.1:2", "[fd00::9]:1"))),
}
OTHERS = [
    *sorted(set(NewConnection.__struct_fields__) - LIKELY.keys()),
    "family",
    "host",
    "interface",
    "labels",
    "older_than",
    "any_nat",
]


CHANGES = {
    "timeout": st.integers(0, 100),
    "status": LIKELY["status"],
    "state": LIKELY["state"],
    "mark": st.integers(0, 3),
    "mark_mask": st.integers(0, 3),
    "label_add": st.sampled_from(([0], [1, 127])),
    "label_del": st.sampled_from(([0], list(range(128)))),
}
FILTERS = {
    "proto": st.sampled_from((6, 17)),
    "family": st.sampled_from(("ipv4", "ipv6")),
    "src": st.sampled_from(("10.0.0.1", "10.0.0.0/8", "fd00::1")),
    "mark": st.integers(0, 3),
    "src_nat": st.sampled_from((True, "192.0.2.1")),
    "older_than": st.integers(0, 5),
}
ENDS = {4: ("10.0.0.1", "10.0.0.2"), 16: ("fd00::1", "fd00::2")}


def some(draw: st.DrawFn, values: dict[str, st.SearchStrategy[Any]], most: int) -> dict[str, Any]:
    keys = draw(st.sets(st.sampled_from(sorted(values)), max_size=most))
    return {key: draw(values[key]) for key in sorted(keys)}


@st.composite
def connections(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly one that can be made."""
    src, dst = draw(st.permutations(ENDS[draw(st.sampled_from((4, 4, 4, 16)))]))
    proto = draw(st.sampled_from((17, 17, 6, 6, 132, 47, 2)))
    return {
        "proto": proto,
        "src": src,
        "dst": dst,
        "sport": draw(st.integers(0, 3)),
        "dport": 2,
        "timeout": 5,
        **({"state": "ESTABLISHED"} if proto in (6, 132) else {}),
        **some(draw, {**LIKELY, **CHANGES} if draw(st.integers(0, 3)) == 0 else {"mark": CHANGES["mark"]}, 3),
        **({draw(st.sampled_from(OTHERS)): draw(VALUES)} if draw(st.integers(0, 7)) == 0 else {}),
    }


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    command = draw(st.sampled_from((*["create"] * 6, "list", "get", "update", "update", "delete", "flush", "stats")))
    request: dict[str, Any] = {"command": command}
    if command == "create":
        request["ct"] = draw(connections())
    elif command == "get":
        request["tuple"] = {
            key: value for key, value in draw(connections()).items() if key in TupleFields.__struct_fields__
        }
    elif command == "update":
        request["set"] = some(draw, CHANGES, 3)
    if command in ("list", "delete", "flush", "update") and draw(st.booleans()):
        request["filter"] = some(draw, FILTERS, 2)
    if draw(st.integers(0, 9)) == 0:
        request["table"] = draw(st.sampled_from(("expect", "dying", "unconfirmed", "bogus", 5)))
    if request.get("table") == "expect":
        ends = {key: value for key, value in draw(connections()).items() if key in TupleFields.__struct_fields__}
        request["expect"] = {"master": ends, "tuple": ends, "mask": {}, "timeout": 5}
    if draw(st.integers(0, 9)) == 0:
        request[draw(st.sampled_from(("limit", "zero", "exclusive", "tuple", "filter", "set")))] = draw(VALUES)
    return request


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ENDS_OF_ONE = {"proto": 6, "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1, "dport": 2}
MADE = {**ENDS_OF_ONE, "timeout": 5, "state": "ESTABLISHED", "status": ["ASSURED"], "mark": 1, "label_add": [1]}
GOOD: tuple[dict[str, Any], ...] = (
    {"command": "create", "ct": {**MADE, "src_nat": "192.0.2.1", "zone": 1}, "exclusive": True},
    {"command": "create", "ct": {**MADE, "proto": 17, "dst_nat": "192.0.2.1:2", "src_nat": "192.0.2.1"}},
    {"command": "create", "ct": {"proto": 1, "reply_src": "10.0.0.1", "reply_dst": "10.0.0.2", "icmp_type": 8}},
    {
        "command": "create",
        "table": "expect",
        "expect": {"master": ENDS_OF_ONE, "tuple": ENDS_OF_ONE, "mask": {"src": "10.0.0.1"}, "timeout": 5},
    },
    {"command": "list", "filter": {"proto": 6, "sport": 1, "state": "ESTABLISHED", "status": ["ASSURED"]}, "limit": 9},
    {"command": "list", "filter": {"proto": 1, "icmp_type": 8, "any_nat": "192.0.2.1:2", "host": "10.0.0.0/8"}},
    {"command": "list", "filter": {"family": "ipv4", "mark": 1, "mark_mask": 1, "labels": [1], "interface": "lan+"}},
    {"command": "list", "table": "expect", "filter": {"family": "ipv6"}},
    {"command": "get", "tuple": ENDS_OF_ONE},
    {"command": "update", "filter": {"proto": 6, "timeout": 5}, "set": {"mark": 1, "status": ["ASSURED"]}},
    {"command": "delete", "filter": {"zone": 1, "older_than": 1}},
    {"command": "flush", "table": "conntrack", "filter": {}},
    {"command": "count", "table": "expect"},
    {"command": "stats", "table": "conntrack"},
    {"command": "status"},
    {"command": "ping"},
    {"command": "recent", "count": 3},
    {"command": "top", "hosts": 3, "sort": "bytes", "family": "ipv4"},
    {"command": "events", "table": "conntrack", "mask": ["NEW"], "filter": {"proto": 17}, "buffer": 5},
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good request, of which any one part is anything; or anything."""
    request = copy.deepcopy(draw(st.sampled_from(GOOD) | requests() | JSON))
    part = request
    while isinstance(part, dict) and part:
        key = draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or not part[key] or draw(st.booleans()):
            part[key] = draw(JSON)
            break
        part = part[key]
    return request


@settings(max_examples=examples(300), deadline=None)
@given(asked=st.lists(requests(), min_size=1, max_size=25), steps=st.lists(st.integers(0, 3000), max_size=25))
def test_every_request_is_answered(asked: list[dict[str, Any]], steps: list[int]) -> None:
    answer_all(asked, steps)


@settings(max_examples=examples(300), deadline=None)
@given(asked=st.lists(damaged(), min_size=5, max_size=25))
def test_every_part_of_a_request_may_be_anything(asked: list[Any]) -> None:
    answer_all(asked, [])


ODD: tuple[Any, ...] = (None, True, 0, -1, 1 << 70, 1.5, "", "\ud800", "[", [], [[]], {}, {"": []})


def parts(request: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in request.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from parts(value, (*path, key))


def replaced(request: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    first, *rest = path
    return {**request, first: replaced(request[first], tuple(rest), value) if rest else value}


@pytest.mark.parametrize("good", GOOD)
def test_every_part_of_a_request_may_be_odd(good: dict[str, Any]) -> None:
    answer_all([replaced(good, path, value) for path in parts(good) for value in ODD], [])


def answer_all(asked: list[Any], steps: list[int]) -> None:
    now = 1_000_000
    engine = Engine(Tunables(nf_conntrack_max=20), Repeatable(1))
    engine.core.events.enabled = True
    commands = ControlServer(engine, lambda: now, path="unused").commands

    async def play() -> None:
        nonlocal now
        for at, request in enumerate(asked):
            answer: list[bytes] = []

            async def send(lines: list[bytes], answer: list[bytes] = answer) -> None:
                answer.extend(lines)

            try:
                subscriber = await commands.run(decode(json.dumps(request).encode()), send)
                answer += [b"subscribed"] if subscriber is not None else []
            except (RequestError, RefusedError) as error:
                answer.append(str(error).encode())
            assert answer
            now += steps[at] if at < len(steps) else 0
            engine.expire(now, 1000)
            check(engine)

    asyncio.run(play())

"""create, get, update, delete and expectations over the control socket, and whom the events name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.const import IPS_ASSURED, IPS_FIXED_TIMEOUT
from tests.support.stage import Stage, play

UDP = {"proto": 17, "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 53}
FAILED = "Operation failed: "


def test_a_connection_is_made_found_changed_and_deleted(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        made, done = await client.ask("create", ct={**UDP, "timeout": 100, "mark": 7})
        assert (made["ct"]["timeout"], made["ct"]["mark"], made["ct"]["status"]) == (100, 7, ["CONFIRMED"])
        assert done == {"done": 1}
        assert await client.ask("create", ct={**UDP, "timeout": 100}) == [{"done": 0}]
        (refused,) = await client.ask("create", ct={**UDP, "timeout": 100}, exclusive=True)
        assert refused == {"error": f"{FAILED}Such conntrack exists, try -U to update"}
        assert stage.router.udp(1000).mark == 7
        (found, _) = await client.ask("get", tuple=UDP)
        assert found["ct"]["id"] == made["ct"]["id"]
        changed, done = await client.ask("update", filter={"proto": 17}, set={"mark": 8, "status": ["ASSURED"]})
        assert (changed["ct"]["mark"], done) == (8, {"done": 1})
        assert await client.ask("update", filter={"proto": 17}, set={"mark": 8}) == [{"done": 0}]
        assert (await client.ask("delete", filter={"mark": 8}))[-1] == {"done": 1}
        assert await client.ask("count") == [{"count": 0, "limit": 262144}]

    play(path, scene)


def test_an_expired_connection_does_not_block_its_tuple(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        await client.ask("create", ct={**UDP, "timeout": 1})
        stage.router.now += 1500
        assert await client.ask("get", tuple=UDP) == [{"error": f"{FAILED}such conntrack doesn't exist"}]
        assert (await client.ask("create", ct={**UDP, "timeout": 1}, exclusive=True))[-1] == {"done": 1}

    play(path, scene)


@pytest.mark.parametrize(
    ("command", "arguments", "why"),
    [
        ("create", {"ct": UDP}, "a new connection needs a timeout"),
        ("create", {}, "create needs ct"),
        ("create", {"ct": {**UDP, "timeout": 5, "bogus": 1}}, "Object contains unknown field `bogus` - at `$.ct`"),
        ("create", {"ct": {**UDP, "timeout": 5, "status": ["EXPECTED"]}}, f"{FAILED}Device or resource busy"),
        ("create", {"ct": {**UDP, "timeout": 5, "src_nat": "10.0.0.9"}}, f"{FAILED}this daemon translates nothing"),
        ("create", {"ct": {"timeout": 5, "proto": 17, "src": "10.0.0.1"}}, f"{FAILED}invalid parameters"),
        ("create", {"ct": {**UDP, "timeout": 5, "dst": None}}, "Expected `str`, got `null` - at `$.ct.dst`"),
        ("update", {}, "Object missing required field `set`"),
        ("update", {"set": {}}, "update needs a change in `set`"),
        ("update", {"set": {"proto": 6}}, "Object contains unknown field `proto` - at `$.set`"),
        ("update", {"set": {"mark": 5}, "filter": {"mark": 5}}, "Object contains unknown field `mark` - at `$.filter`"),
        ("update", {"set": {"mark": "5"}}, "Expected `int`, got `str` - at `$.set.mark`"),
        ("update", {"set": {"status": ["BOGUS"]}}, "Invalid enum value 'BOGUS' - at `$.set.status[0]`"),
        ("get", {"tuple": {"proto": 17}}, f"{FAILED}invalid parameters"),
        ("get", {"tuple": []}, "Expected `object`, got `array` - at `$.tuple`"),
        ("get", {"table": "dying", "tuple": UDP}, "Invalid enum value 'dying' - at `$.table`"),
        ("list", {"limit": -1}, "Expected `int` >= 0 - at `$.limit`"),
        ("events", {"buffer": "x"}, "Expected `int`, got `str` - at `$.buffer`"),
        ("events", {"table": "expect", "filter": {"proto": 6}}, "expectations can be filtered by their family only"),
        ("delete", {"table": "expect"}, "delete of expect needs tuple"),
        ("delete", {"tuple": UDP}, "delete of conntrack takes no tuple"),
        ("delete", {"table": "expect", "filter": {}}, "delete of expect needs tuple, and takes no filter"),
        ("flush", {"table": "expect", "filter": {"family": "ipv4"}}, "flush of expect takes no filter"),
        ("list", {"table": "expect", "zero": True}, "list of expect takes no zero"),
        ("list", {"zero": 1}, "Expected `bool`, got `int` - at `$.zero`"),
        (
            "create",
            {"ct": UDP | {"timeout": 5, "sport": 9}, "exclusive": "no"},
            "Expected `bool`, got `str` - at `$.exclusive`",
        ),
        ("create", {"table": "expect", "expect": {}}, "Object missing required field `master` - at `$.expect`"),
    ],
)
def test_mistakes_are_answered(path: Path, command: str, arguments: dict[str, Any], why: str) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        (answer,) = await client.ask(command, **arguments)
        assert answer["error"].startswith(why)
        assert "pong" in (await client.ask("ping"))[0]

    play(path, scene)


def test_what_cannot_be_changed_is_named_and_not_counted(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        fixed, free = stage.router.udp(1000), stage.router.udp(1001)
        fixed.status |= IPS_FIXED_TIMEOUT
        client = await stage.client()
        *lines, done = await client.ask("update", set={"timeout": 5})
        assert [line.get("failed") for line in lines] == ["its timeout is fixed", None]
        assert done == {"done": 1}
        assert free.remaining(stage.router.now) == 5000

    play(path, scene)


def test_limit_zero_and_flush_with_a_filter(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.engine.core.accounting = True
        for port in range(1000, 1200):
            stage.router.udp(port)
        client = await stage.client()
        assert (await client.ask("list", limit=70))[-1] == {"done": 70}
        assert await client.ask("list", limit=0) == [{"done": 0}]
        assert (await client.ask("list", zero=True))[0]["ct"]["orig"]["packets"] == 1
        assert (await client.ask("list"))[0]["ct"]["orig"]["packets"] == 0
        assert await client.ask("flush", filter={"proto": 17, "sport": 1000}) == [{"done": 1}]
        assert await client.ask("flush") == [{"done": 199}]

    play(path, scene)


def test_events_name_whose_order_it_was(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        listener = await stage.listener()
        client = await stage.client()
        await client.ask("create", ct={**UDP, "timeout": 100})
        made = (await listener.line())["event"]
        assert made["event"] == "NEW"
        assert made["userspace"]["pid"] == os.getpid()
        assert made["userspace"]["program"]
        await client.ask("update", set={"mark": 1})
        assert (await listener.line())["event"]["userspace"]["pid"] == os.getpid()
        stage.router.udp(1000)
        stage.router.udp(2000)
        stage.publish()
        assert "userspace" not in (await listener.line())["event"]
        await client.ask("flush")
        for _ in range(2):
            assert (await listener.line())["event"]["userspace"]["pid"] == os.getpid()

    play(path, scene)


def test_expectations_by_hand_and_their_events(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        master = stage.router.established(40000, 21)
        ends = {"proto": 6, "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 40000, "dport": 21}
        expected = {"proto": 6, "src": "10.0.0.2", "dst": "10.0.0.1", "sport": 0, "dport": 3000}
        wanted = {"master": ends, "tuple": expected, "mask": {"src": "255.255.255.255", "sport": 0}, "timeout": 60}
        listener = await stage.listener(table="expect")
        client = await stage.client()
        made, done = await client.ask("create", table="expect", expect=wanted)
        assert (made["expect"]["flags"], made["expect"]["timeout"], done) == (["USERSPACE"], 60, {"done": 1})
        assert await client.ask("create", table="expect", expect=wanted) == [{"error": f"{FAILED}File exists"}]
        new = (await listener.line())["event"]
        assert (new["event"], new["seq"], new["tuple"]["dport"]) == ("NEW", 1, 3000)
        assert (await client.ask("get", table="expect", tuple={**expected, "sport": 5}))[-1] == {"done": 1}
        stage.router.expect(master, 3001)
        assert (await client.ask("delete", table="expect", tuple=expected))[-1] == {"done": 1}
        seen = [(await listener.line())["event"] for _ in range(2)]
        assert [(event["event"], "userspace" in event) for event in seen] == [("NEW", False), ("DESTROY", True)]
        (gone,) = await client.ask("get", table="expect", tuple=expected)
        assert gone == {"error": f"{FAILED}such expectation doesn't exist"}
        wanted["master"] = {**ends, "sport": 1}
        (refused,) = await client.ask("create", table="expect", expect=wanted)
        assert refused == {"error": f"{FAILED}such conntrack doesn't exist"}

    play(path, scene)


def test_filters_of_our_own(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        old = stage.router.udp(1000)
        old.status |= IPS_ASSURED
        stage.router.now += 20_000
        stage.router.udp(1001)
        stage.router.engine.set_interface(1, "lan0", [], stage.router.now)
        stage.router.engine.set_interface(2, "wan0", [], stage.router.now)
        client = await stage.client()

        async def ports(**spec: object) -> list[int]:
            return [line["ct"]["orig"]["sport"] for line in (await client.ask("list", filter=spec))[:-1]]

        assert await ports(older_than=20) == [1000]
        assert await ports(younger_than=20) == [1001]
        assert await ports(interface="lan0", older_than=0) == [1000, 1001]
        assert await ports(interface="wan+") == [1000, 1001]
        assert await ports(interface="lan1") == []
        assert await ports(host="10.0.0.2") == [1000, 1001]
        assert await ports(host="10.0.0.0/8", status=["ASSURED"]) == [1000]
        assert await ports(host="10.0.0.3") == []
        (line, *_) = await client.ask("list")
        assert (line["ct"]["in"], line["ct"]["out"]) == ("lan0", "wan0")

    play(path, scene)

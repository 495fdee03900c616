"""Export and import through the control socket, between two daemons."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import PERMANENT
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.control.transfer.form import VERSION
from tests.support import packets
from tests.support.invariants import check
from tests.support.router import Router
from tests.support.stage import Client, Stage, play

INIT = packets.sctp("10.0.0.1", "10.0.0.2", 5000, 6000, 0, (1, (7).to_bytes(4, "big") + bytes(12)))


def exported(path: Path, fill: Callable[[Router], object], **arguments: object) -> list[dict[str, Any]]:
    """The connections that a daemon with these exports."""
    found: list[dict[str, Any]] = []

    async def scene(stage: Stage) -> None:
        fill(stage.router)
        client = await stage.client()
        client.send(json.dumps({"command": "export", **arguments}).encode() + b"\n")
        lines = [await client.line()]
        while "done" not in lines[-1]:
            lines.append(await client.line())
        assert (lines[0]["export"]["version"], lines[-1]) == (VERSION, {"done": len(lines) - 2})
        found.extend(line["connection"] for line in lines[1:-1])

    play(path, scene)
    return found


async def outcomes(client: Client, found: list[dict[str, Any]], **arguments: object) -> list[str]:
    client.send(json.dumps({"command": "import", "connections": found, **arguments}).encode() + b"\n")
    return [outcome for outcome, _ in (await client.line())["import"]]


def importing(path: Path, scene: Callable[[Stage, Client], Awaitable[None]], router: Router | None = None) -> None:
    async def whole(stage: Stage) -> None:
        await scene(stage, await stage.client())
        check(stage.router.engine)

    play(path, whole, router=router, max_request=65536)


def fill(router: Router) -> list[NfConn]:
    router.engine.core.accounting = True
    made = [router.established(), router.udp_answered(), router.syn(2000), router.other(47), router.forward(INIT)]
    made[0].mark, made[0].labels = 0x1234, 1 << 127 | 5
    return made


def test_everything_comes_back(path: Path) -> None:
    former = Router()
    made = fill(former)
    found = exported(path, fill)

    async def scene(stage: Stage, client: Client) -> None:
        stage.router.now += 5_000_000  # another clock
        assert await outcomes(client, found) == ["imported"] * len(found)
        for ct in made:
            other = stage.router.engine.core.table.find(ct.original)
            assert other is not None
            assert (other.reply, other.state, other.mark, other.labels) == (ct.reply, ct.state, ct.mark, ct.labels)
            assert (other.status, other.packets_original) == (ct.status, ct.packets_original)
            assert other.timeout - stage.router.now == ct.timeout - former.now
        assert await outcomes(client, found) == ["exists"] * len(found)
        assert stage.router.engine.core.stats.insert == len(found)

    importing(path, scene)


def test_a_collision_replaces_nothing_unless_asked_to(path: Path) -> None:
    (line,) = exported(path, lambda router: router.udp_answered())
    line["reply"]["src"] = "10.0.0.9"

    async def scene(stage: Stage, client: Client) -> None:
        living = stage.router.udp_answered()
        assert await outcomes(client, [line]) == ["collides"]
        assert living.ended == 0
        assert await outcomes(client, [line], replace=True) == ["replaced"]
        assert living.ended == stage.router.now
        assert await outcomes(client, [line]) == ["exists"]

    importing(path, scene)


def test_a_full_table_evicts_nothing_for_an_import(path: Path) -> None:
    found = exported(path, lambda router: [router.syn(port) for port in (1, 2, 3)])

    async def scene(stage: Stage, client: Client) -> None:
        assert await outcomes(client, found) == ["imported", "imported", "full"]

    importing(path, scene, Router(tunables=Tunables(nf_conntrack_max=2)))


def test_the_master_is_found_by_its_tuple(path: Path) -> None:
    found = exported(path, related)

    async def scene(stage: Stage, client: Client) -> None:
        assert await outcomes(client, found) == ["imported", "imported"]
        table = stage.router.engine.core.table
        master, child = table.slots
        assert child is not None
        assert child.master is master

    importing(path, scene)


def related(router: Router) -> None:
    master, child = router.established(40000, 21), router.syn(3000)
    child.master = master


def test_a_translated_connection_needs_a_daemon_that_translates(path: Path) -> None:
    (line,) = exported(path, lambda router: router.udp_answered())
    line["status"] = [*line["status"], "SRC_NAT", "SRC_NAT_DONE", "DST_NAT_DONE"]
    line["reply"]["dst"] = "203.0.113.1"

    async def scene(stage: Stage, client: Client) -> None:
        assert await outcomes(client, [line]) == ["not_translating"]
        stage.router.engine.mode = "nat"
        assert await outcomes(client, [{**line, "nat": ["masquerade"]}]) == ["no_address"]
        assert await outcomes(client, [{**line, "nat": ["mapping", "port"]}]) == ["imported"]
        assert len(stage.router.engine.nat.port_usage.outers) == 1
        stage.router.engine.flush(stage.router.now)
        assert len(stage.router.engine.nat.port_usage.outers) == 0

    importing(path, scene)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": "NONSENSE"}, "no tracker has layout 3 and state 'NONSENSE'"),
        ({"layout": 200}, "no tracker has layout 200"),
        ({"tracker": {}}, "tracker must have exactly these keys: orig_end"),
        ({"mark": -1}, "$.mark"),
        ({"timeout": 1e300}, "$.timeout"),
        ({"status": ["WHAT"]}, "$.status"),
        ({"unknown": 1}, "unknown"),
        ({"helper": "ftp"}, "do not agree"),
        ({"seqadj": [{"base": 0, "corrections": [[9, 1], [3, 2]]}, {"base": 0, "corrections": []}]}, "ascend"),
        ({"orig": {"src": "10.0.0.1", "dst": "fd00::1", "sport": 1, "dport": 2}}, "family"),
        ({"orig": {"src": "nowhere", "dst": "10.0.0.1"}}, "nowhere"),
    ],
)
def test_a_wrong_line_is_refused_alone_and_says_why(path: Path, change: dict[str, Any], why: str) -> None:
    (line,) = exported(path, lambda router: router.established())

    async def scene(stage: Stage, client: Client) -> None:
        request = {"command": "import", "connections": [{**line, **change}, line]}
        client.send(json.dumps(request).encode() + b"\n")
        (first, text), (second, _) = (await client.line())["import"]
        assert (first, second) == ("wrong", "imported")
        assert why in text

    importing(path, scene)


@pytest.mark.parametrize("name", ["last_direction", "last_kind", "orig_scale", "retrans"])
def test_a_number_of_the_tracker_out_of_its_range(path: Path, name: str) -> None:
    (line,) = exported(path, lambda router: router.established())
    line["tracker"][name] = 1 << 20

    async def scene(stage: Stage, client: Client) -> None:
        assert await outcomes(client, [line, 7, None, "x", {"a": [[]] * 3}]) == ["wrong"] * 5  # type: ignore[list-item]

    importing(path, scene)


def test_only_what_the_filter_matches_is_exported(path: Path) -> None:
    (line,) = exported(path, fill, filter={"proto": 6, "state": "ESTABLISHED"})
    assert (line["proto"], line["orig"]["sport"]) == ("tcp", 40000)


def test_expectations_come_with_their_master(path: Path) -> None:
    def expecting(router: Router) -> None:
        master = router.established()
        router.expect(master, 3000, flags=PERMANENT)
        router.expect(master, 3001)

    found = exported(path, expecting)
    assert len(found[0]["expects"]) == 2

    async def scene(stage: Stage, client: Client) -> None:
        stage.router.now += 5_000_000
        assert await outcomes(client, found) == ["imported"]
        expectations = stage.router.engine.core.expectations
        (master,) = [ct for ct in stage.router.engine.core.table.slots if ct is not None]
        assert [known.master for known in expectations.all()] == [master] * 2
        assert [(known.until - stage.router.now, known.flags) for known in expectations.all()] == [
            (300_000, PERMANENT),
            (300_000, 0),
        ]
        assert await outcomes(client, found) == ["exists"]
        assert expectations.count == 2
        assert await outcomes(client, found, replace=True) == ["replaced"]
        assert expectations.count == 2

    importing(path, scene)


def test_an_expectation_that_a_living_connection_has_stays(path: Path) -> None:
    def expecting(router: Router) -> None:
        router.expect(router.established(), 3000)

    (line,) = exported(path, expecting)
    other = {**line, "orig": {**line["orig"], "sport": 7777}, "reply": {**line["reply"], "dport": 7777}}

    async def scene(stage: Stage, client: Client) -> None:
        assert await outcomes(client, [line, other]) == ["imported", "imported"]
        (known,) = stage.router.engine.core.expectations.all()
        assert tuples.l4dst(known.master.reply) != 7777

    importing(path, scene)


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "::"},
        {"source": "x"},
        {"follows": True, "orig": {"src": "::1", "dst": "::2", "sport": 0, "dport": 1}, "source": "::"},
        {"direction": 2},
        {"flags": ["OTHER"]},
        {"helper": "x" * 65},
        {"more": 1},
    ],
)
def test_a_wrong_expectation_is_named(path: Path, wrong: dict[str, Any]) -> None:
    def expecting(router: Router) -> None:
        router.expect(router.established(), 3000)

    (line,) = exported(path, expecting)
    line["expects"] = [{**line["expects"][0], **wrong}]

    async def scene(stage: Stage, client: Client) -> None:
        assert await outcomes(client, [line]) == ["wrong"]
        assert len(stage.router.engine.core.table) == 0

    importing(path, scene)

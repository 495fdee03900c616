"""`conntrackd-py status` as a process against a real control socket."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py import __version__
from conntrackd_py.cli.conntrackd.status import lines
from conntrackd_py.control.status import DaemonInfo
from conntrackd_py.kernel.queues.queue import QueueCounters
from tests.support.router import Router
from tests.support.stage import Stage, play

POOL = {"address": "203.0.113.1", "connections": 9, "protocols": {"tcp": {"connections": 9}}}
BLOCKS = {"rule": "nat[1]", "in_use": 4000, "limit": 8064, "no_block": 0, "host_limit": 0}
NAT_LOG = {"file": "/var/log/nat.log", "lines": 1200, "waiting": 3, "lost": 0, "errors": 0, "error": ""}
PORTS = {"tcp": {"connections": 9, "ports": 9, "available": 10}, "gre": {"connections": 2}}


def whole(tmp_path: Path) -> dict[str, Any]:
    """A status as the daemon gives it, for changing."""
    found: list[dict[str, Any]] = []

    async def scene(stage: Stage) -> None:
        found.append(json.loads((await stage.run("status", "--json")).out))

    play(tmp_path / "control.sock", scene)
    return found[0]


def test_one_screen_for_a_person(tmp_path: Path) -> None:
    router = Router()
    proc = tmp_path / "queues"
    proc.write_text("4 1 7 2 65531 3 0 900 1\n")
    counters = QueueCounters()
    counters.names = {4: "new"}
    info = DaemonInfo("nat", router.now - 125_000, (4,), 8192, counters, proc)

    async def scene(stage: Stage) -> None:
        router.established()
        router.udp()
        status, out, err = await stage.run("status")
        assert (status, err) == (0, "")
        said = dict(line.split(None, 1) for line in out.splitlines() if not line.startswith("queue"))
        assert said["daemon"].startswith(f"{__version__}, ")
        assert re.fullmatch(r"2 min 5 s, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d; last reload: never", said["up"])
        assert said["table"] == "2 of 262,144 (< 0.1 %); unconfirmed 0, dying 0"
        assert said["tcp"] == "1: ESTABLISHED 1"
        assert said["udp"] == "1"
        assert "queue 4       new: 7 of 8,192 waiting; dropped 3 (queue full), 0 (socket full)\n" in out
        assert said["overload"] == "new connections refused (queue full): 3"
        assert said["helpers"] == "none"
        assert said["control"] == "clients 1 (0 refused), subscribers 0, events lost 0"
        assert len(out.splitlines()) <= 24
        assert max(len(line) for line in out.splitlines()) <= 80
        assert "\x1b" not in out

    play(tmp_path / "control.sock", scene, router=router, info=info)


def test_json_is_one_object_with_the_pools(tmp_path: Path) -> None:
    status = whole(tmp_path)
    assert status["nat"] == {"allocations": 0, "failures": 0, "pools": [], "unpooled": 0}
    assert status["entries"] == 0
    assert status["reloaded"] is None


STEERING = {
    "guard": "restore",
    "installed": True,
    "missing": "",
    "restored": 2,
    "error": "",
    "held": 0,
    "leak_table": "in place",
    "untranslated": 1000,
}
FAILED = {"successful": False, "error": "nat[0].action", "restart": [], "stale": 0}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"steering": STEERING}, "steering      installed; guard restore, restored 2; leak table dropped 1,000"),
        ({"steering": {**STEERING, "held": 1}}, "leak table dropped 1,000; held by 1 command"),
        ({"steering": {**STEERING, "installed": False, "missing": "ipv4: \x1b"}}, "MISSING: ipv4: \\x1b; guard"),
        ({"steering": {**STEERING, "installed": False, "error": "no lock"}}, "  failed      no lock"),
        ({"steering": {**STEERING, "leak_table": "no mask"}}, "  leak table  none: no mask"),
        ({"steering": {**STEERING, "installed": None, "missing": "ipv4: not"}}, "steering      not guarded: ipv4: not"),
        (
            {"steering": {**STEERING, "installed": None, "held": 1}},
            "steering      not guarded: a command changes the rules",
        ),
        ({"limit": 0, "entries": 7}, "table         7, no limit"),
        ({"reloaded": 0}, "last reload: 19"),
        ({"reload": FAILED}, "  failed      the previous configuration stays in force: nat[0].action"),
        ({"reload": {**FAILED, "successful": True, "restart": ["mode"]}}, "  restart     needed for: mode"),
        ({"reload": {**FAILED, "successful": True, "stale": 3}}, "  stale       3 connections that the current rules"),
        ({"nat": {"pools": [POOL], "unpooled": 3}}, "  203.0.113.1  9 connections"),
        ({"nat": {"pools": [POOL], "unpooled": 3}}, "  others      3 connections"),
        (
            {"nat": {"pools": [{**POOL, "protocols": PORTS, "share": 0.9}], "unpooled": 0}},
            "  203.0.113.1  9 connections, 90.0 % of its ports in use tcp 9 of 10, gre 2",
        ),
        ({"blocks": [BLOCKS]}, "  nat[1]      4,000 of 8,064 port blocks in use (49.6 %), 0 refused"),
        (
            {"blocks": [{**BLOCKS, "no_block": 1, "host_limit": 2}]},
            "(49.6 %), 3 refused: no free block 1, limit of a host 2",
        ),
        (
            {"blocks": [{**BLOCKS, "limit": 0, "in_use": 0, "host_limit": 2}]},
            "  nat[1]      2 refused: no free port 0,",
        ),
        ({"nat_log": NAT_LOG}, "NAT log       /var/log/nat.log: 1,200 lines, 3 waiting, 0 lost"),
        ({"nat_log": {**NAT_LOG, "error": "ENOSPC"}}, "  failed      lines wait: ENOSPC"),
        ({"dropped": {"filter_drop": 7, "table_full": 2}}, "dropped       9: filter_drop 7, table_full 2"),
        (
            {"filter": [{"rule": "filter.rule[2]", "comment": "no telnet", "action": "drop", "packets": 1200}]},
            "  filter      filter.rule[2] (no telnet): drop 1,200",
        ),
        (
            {"mode": "observe", "copies": {"lost": 3, "translations": 1200}},
            "copies        3 lost; translations learned 1,200, losses 0",
        ),
        (
            {"offload": {"on": 1, "connections": 3, "added": 1200}},
            "offload       on; 3 connections, 1,200 since the start, 0 refused (limit)",
        ),
        ({"helpers": ["ftp", "sip"]}, "helpers       ftp, sip"),
        (
            {"invalid": {f"reason_{number}": number for number in range(1, 8)}},
            "INVALID       28: reason_7 7, reason_6 6, reason_5 5, reason_4 4, reason_3 3, others 3",
        ),
    ],
)
def test_what_else_there_may_be(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    status = whole(tmp_path)
    for key, value in change.items():
        status[key] = {**status[key], **value} if isinstance(value, dict) else value
    text = "\n".join(lines(status))
    assert " ".join(line.split()) in " ".join(text.split())


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"entries": 90, "limit": 100}, "table"),
        ({"nat": {"failures": 1, "allocations": 1, "pools": [], "unpooled": 0}}, "NAT"),
        ({"queue": {"enobufs": 0, "verdict_errors": 1, "truncated": 0}}, "packets"),
        ({"mode": "observe", "copies": {"lost": 1, "translations": 0, "translations_lost": 0}}, "copies"),
        ({"hints": {"expired_in_use": 1, "one_sided_flows": 0, "mark_overwritten": 0}}, "hints"),
        (
            {"mark_rule": "iptables ipv4 mangle FORWARD: -A FORWARD \x1b"},
            r"overwritten by iptables ipv4 mangle FORWARD: -A FORWARD \x1b",
        ),
        ({"offload": {"on": 0, "connections": 0, "added": 9, "refused": 0, "failures": 1}}, "offload"),
        ({"blocks": [{**BLOCKS, "host_limit": 1}]}, "nat[1]"),
        ({"nat_log": {**NAT_LOG, "lost": 1}}, "NAT log"),
        ({"events_lost": 1}, "control"),
    ],
)
def test_what_is_wrong_is_red(tmp_path: Path, change: dict[str, Any], label: str) -> None:
    status = whole(tmp_path)
    assert not any("\x1b[31m" in line for line in lines(status, coloured=True))
    red = [line for line in lines({**status, **change}, coloured=True) if "\x1b[31m" in line]
    assert [label in line for line in red] == [True]


def test_without_a_daemon_it_is_one_line_and_status_1(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        missing = f"{tmp_path}/none.sock"
        refused = await stage.run("status", "--socket", missing)
        assert refused == (1, "", f"conntrackd-py status: no daemon listens on {missing}\n")
        assert (await stage.run("status", "--colour")).status == 2

    play(tmp_path / "control.sock", scene)


@pytest.mark.parametrize("module", ["status", "top.main"])
def test_it_starts_without_what_it_does_not_need(module: str) -> None:
    code = f"""
import sys
import conntrackd_py.cli.conntrackd.{module}
heavy = {{"asyncio", "netfilterqueue", "prometheus_client", "pyroute2", "rich", "scapy", "structlog"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""The answer to `status`, over a real socket, from an engine that has seen real packets."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from conntrackd_py import __version__, compiled
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import PRE_ROUTING
from conntrackd_py.control.journal import JournalState
from conntrackd_py.control.status import DaemonInfo
from conntrackd_py.control.steering import Steering
from conntrackd_py.kernel.queues.queue import QueueCounters
from tests.support.router import Router
from tests.support.stage import Stage, play


def test_the_whole_of_it(tmp_path: Path) -> None:
    proc = tmp_path / "queues"
    proc.write_text("0 1 7 2 65531 3 4 900 1\n9 1 7 2 65531 3 4 900 1\n")
    counters = QueueCounters()
    counters.enobufs, counters.verdict_errors, counters.truncated = 1, 2, 3
    counters.names = {0: "new", 1: "last"}
    counters.copies_lost, counters.translations_lost = 4, 5
    router = Router()
    info = DaemonInfo("nat", router.now - 90_500, (0, 1), 8192, counters, proc)

    async def scene(stage: Stage) -> None:
        router.udp_answered(1000)
        router.established()
        router.expect(router.established(40001, 21), 3000)
        router.engine.handle(Skb(b"\x10" + bytes(40)), PRE_ROUTING, router.now)
        before = time.time()
        status = (await stage.ask("status"))["status"]
        assert before - 90.51 <= status.pop("started") <= time.time() - 90.49
        assert status == {
            "version": __version__,
            "compiled": compiled,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "mode": "nat",
            "uptime": 90.5,
            "reloaded": None,
            "reload": {"successful": True, "error": "", "restart": [], "stale": 0},
            "entries": 3,
            "limit": 262144,
            "unconfirmed": 0,
            "dying": 0,
            "steering": Steering().report(),
            "journal": JournalState().report(),
            "sync": {"role": "off"},
            "expectations": {"entries": 1, "limit": 4096},
            "states": {"tcp": {"ESTABLISHED": 2}, "udp": {"": 1}},
            "queues": [{"queue": 0, "name": "new", "waiting": 7, "dropped": 3, "user_dropped": 4, "limit": 8192}],
            "queue": {"enobufs": 1, "verdict_errors": 2, "truncated": 3},
            "offload": {"on": 0, "connections": 0, "added": 0, "refused": 0, "failures": 0},
            "copies": {"lost": 4, "translations": 0, "translations_lost": 5},
            "nat": {"allocations": 0, "failures": 0},
            "blocks": [],
            "nat_log": {},
            "targets": [],
            "helpers": [],
            "hints": {"expired_in_use": 0, "one_sided_flows": 0, "mark_overwritten": 0},
            "mark_rule": "",
            "invalid": {"ip_version": 1},
            "dropped": {},
            "filter": [],
            "clients": 1,
            "refused_clients": 0,
            "subscribers": 0,
            "events_lost": 0,
        }

    play(tmp_path / "control.sock", scene, router=router, info=info)

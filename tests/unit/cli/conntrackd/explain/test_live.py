"""`conntrackd-py explain --recent` and `--follow` of a real control socket."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from conntrackd_py.cli.conntrackd.explain.live import not_shown_text
from conntrackd_py.cli.conntrackd.main import main
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import PRE_ROUTING
from tests.support import packets
from tests.support.router import Router
from tests.support.stage import Stage, play


def test_of_a_daemon_what_it_refused_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    router = Router()
    router.established()

    def ask(*options: str) -> str:
        async def scene(stage: Stage) -> None:
            words = ["explain", "--recent", "--socket", str(stage.path), *options]
            assert await asyncio.to_thread(main, words) == 0

        play(tmp_path / "control.sock", scene, router=router)
        return capsys.readouterr().out

    assert ask() == "no packet was refused, ignored or dropped yet\n"
    assert ask("--port", "1") == "no such packet was refused, ignored or dropped yet\n"
    for ack in (101, 102):
        refuse(router, ack)
    lines = ask("--last", "1").splitlines()
    assert re.fullmatch(r"#2  \S+ \S+  PRE_ROUTING  tcp_ack_over_window", lines[0])
    assert lines[1:4] == [
        "    tcp 10.0.0.1:40000 > 10.0.0.2:80 [.] seq 2 ack 102 win 65535 len 0",
        "    INVALID: ACK 102 is over the upper bound 2 by 100: it acknowledges data that was not sent",
        "    connection 1 ESTABLISHED SEEN_REPLY ASSURED CONFIRMED, 432000 s left",
    ]
    found = [json.loads(line) for line in ask("--json").splitlines()]
    assert [note["numbers"] for note in found] == [[101, 2, 65535], [102, 2, 65535]]
    assert ask("--json", "--host", "10.0.0.9") == ask("--json", "--reason", "tcp_state") == ""
    assert ask("--json", "--host", "10.0.0.0/8", "--port", "80", "--proto", "tcp").count("\n") == 2


def refuse(router: Router, ack: int) -> None:
    """An ACK of data that was not sent."""
    packet = Skb(packets.tcp("10.0.0.1", "10.0.0.2", 40000, 80, "A", seq=2, ack=ack), indev=1)
    router.engine.handle(packet, PRE_ROUTING, router.now)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_followed_until_a_signal(tmp_path: Path, number: int) -> None:
    router = Router()
    router.established()
    refuse(router, 101)

    async def scene(stage: Stage) -> None:
        words = ("explain", "--follow", "--last", "1", "--json", "--reason", "tcp_ack_over_window")
        process = await stage.start(*words)
        assert process.stdout is not None
        lines = []
        async with asyncio.timeout(30):
            lines.append(await process.stdout.readline())
            refuse(router, 102)
            lines.append(await process.stdout.readline())
            process.send_signal(number)
            assert await process.wait() == 0
        assert [json.loads(line)["numbers"][0] for line in lines] == [101, 102]

    play(tmp_path / "control.sock", scene, router=router)


def test_what_was_not_shown() -> None:
    assert not_shown_text({"over_rate": 30, "overwritten": 0}) == "--  refused packets not shown: 30 over the rate\n"
    both = not_shown_text({"over_rate": 1, "overwritten": 5})
    assert both == "--  refused packets not shown: 1 over the rate, 5 overwritten before they were read\n"

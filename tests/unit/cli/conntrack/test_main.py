"""conntrack-py as a process against a real control socket: output, exit status, signals, closed pipes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from conntrackd_py import __version__
from conntrackd_py.control.server import ControlServer
from tests.support.named import flush
from tests.support.router import Router

NAME = f"conntrack-py v{__version__} (conntrackd-py)"
HINT = "Try `conntrack-py -h' or 'conntrack-py --help' for more information.\n"
UNREPLIED = "src=10.0.0.1 dst=10.0.0.2 sport={0} dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport={0}"


class Result(NamedTuple):
    status: int
    out: str
    err: str


class Stage:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.router = Router()
        self.control = ControlServer(self.router.engine, self.router.clock, path=str(path))

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "conntrackd_py.cli.conntrack.main"),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "CONNTRACKD_PY_SOCKET": str(self.path)},
        )

    async def run(self, line: str) -> Result:
        process = await self.start(*line.split())
        return await finished(process)

    async def listening(self, *arguments: str) -> asyncio.subprocess.Process:
        process = await self.start("-E", *arguments)
        async with asyncio.timeout(10):
            while not self.control.publisher.subscribers:
                await asyncio.sleep(0.01)
        return process

    def publish(self) -> None:
        self.control.publisher.publish()


async def finished(process: asyncio.subprocess.Process) -> Result:
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def play(tmp_path: Path, scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage(tmp_path / "control.sock")
        await stage.control.start()
        try:
            await scene(stage)
        finally:
            await stage.control.stop()

    asyncio.run(run())


def test_list_count_statistics_and_flush(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp(1000)
        stage.router.udp(1001)
        shown = await stage.run("-L -p udp --sport 1001")
        line = f"udp      17 30 {UNREPLIED.format(1001)} mark=0 use=1\n"
        assert shown == (0, line, f"{NAME}: 1 flow entries have been shown.\n")
        assert await stage.run("-C") == (0, "2\n", "")
        counters = (
            "cpu=0   \tfound=0 invalid=0 insert=2 insert_failed=0 drop=0 early_drop=0 error=0 "
            "search_restart=0 clash_resolve=0 chaintoolong=0 \n"
        )
        assert await stage.run("-S") == (0, counters, "")
        assert await stage.run("-F") == (0, "", f"{NAME}: connection tracking table has been emptied.\n")
        assert await stage.run("-L") == (0, "", f"{NAME}: 0 flow entries have been shown.\n")
        assert (await stage.run("-L dying")).err == f"{NAME}: 2 flow entries have been shown.\n"

    play(tmp_path, scene)


def test_expectations(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.run("-L expect") == (0, "", f"{NAME}: 0 expectations have been shown.\n")
        stage.router.expect(stage.router.established(40000, 21), 3000)
        line = (
            "300 proto=6 src=10.0.0.2 dst=10.0.0.1 sport=0 dport=3000 "
            "mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 "
            "master-src=10.0.0.1 master-dst=10.0.0.2 sport=40000 dport=21 class=0 helper=ftp\n"
        )
        assert await stage.run("-L expect") == (0, line, f"{NAME}: 1 expectations have been shown.\n")
        assert (await stage.run("-L expect -f ipv6")).out == ""
        assert json.loads((await stage.run("-L expect -o json")).out)["tuple"]["dport"] == 3000
        assert await stage.run("-C expect") == (0, "1\n", "")
        assert await stage.run("-F expect") == (0, "", f"{NAME}: expectation table has been emptied.\n")
        counters = "cpu=0   \texpect_new=0 expect_create=1 expect_delete=1 \n"
        assert await stage.run("-S expect") == (0, counters, "")
        assert await stage.run("-C") == (0, "1\n", "")

    play(tmp_path, scene)


def test_labels_times_and_zones(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        ct = stage.router.udp(1000)
        ct.labels = 1 << 120
        stage.router.engine.core.timestamps = True
        shown = (await stage.run("-L -w 0 -o labels,ktimestamp")).out
        assert re.fullmatch(r".* mark=0 delta-time=[01] \[start=.{24}\] use=1 labels=120\n", shown)
        assert (await stage.run("-L --orig-zone 7")).out == ""

    play(tmp_path, scene)


def test_deleting_nothing_is_a_failure(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp(1000)
        assert await stage.run("-D -s 192.0.2.1") == (1, "", f"{NAME}: 0 flow entries have been deleted.\n")
        deleted = await stage.run("-D -p udp")
        assert (deleted.status, deleted.err) == (0, f"{NAME}: 1 flow entries have been deleted.\n")
        assert deleted.out.startswith("udp      17 30 src=10.0.0.1 ")

    play(tmp_path, scene)


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp(1000)
        stage.router.syn(2000)
        shown = await stage.run("-L -o json")
        assert [json.loads(line)["orig"]["sport"] for line in shown.out.splitlines()] == [1000, 2000]

    play(tmp_path, scene)


def test_events_until_a_signal(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            process = await stage.listening("-p", "udp")
            stage.router.udp(3000 + number)
            stage.publish()
            assert process.stdout is not None
            line = await process.stdout.readline()
            assert line.decode() == f"    [NEW] udp      17 30 {UNREPLIED.format(3000 + number)}\n"
            process.send_signal(number)
            assert await finished(process) == (0, "", f"{NAME}: 1 flow events have been shown.\n")

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("extended", r" progname=\x1b[31m[red]<\n"),
        ("save", r" progname=\x1b[31m[red]<\n"),
        ("xml", r" progname=\x1b[31m[red]&lt;\n"),
        ("json", r'"program":"\u001b[31m[red]<\n"}}'),
    ],
)
def test_a_process_cannot_command_the_terminal_by_its_name(tmp_path: Path, form: str, told: str) -> None:
    async def scene(stage: Stage) -> None:
        process = await stage.listening("-e", "DESTROY", "-o", form)
        stage.router.udp(3000)
        await flush(stage.path, b"\x1b[31m[red]<\n")
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(3 if form == "xml" else 1)]
        process.send_signal(signal.SIGINT)
        await finished(process)
        assert lines[-1].endswith(told + "\n")

    play(tmp_path, scene)


def test_a_name_that_the_locale_cannot_write_does_not_end_the_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    async def scene(stage: Stage) -> None:
        process = await stage.listening("-e", "DESTROY")
        stage.router.udp(3000)
        await flush(stage.path, "grün".encode())
        assert process.stdout is not None
        assert (await process.stdout.readline()).endswith(b" progname=gr\\xfcn\n")
        process.send_signal(signal.SIGINT)
        assert (await finished(process)).status == 0

    play(tmp_path, scene)


def test_an_error_repeats_no_control_character(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        process = await stage.start("-L", "-p", "\x1b[31m\nforged")
        result = await finished(process)
        assert result == (2, "", f"{NAME}: `\\x1b[31m\\nforged' unsupported protocol\n{HINT}")

    play(tmp_path, scene)


def test_events_are_told_to_be_lost_and_the_end_of_the_daemon_too(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        process = await stage.listening()
        stage.router.engine.core.events.limit = 1
        for port in range(4):
            stage.router.udp(4000 + port)
        stage.publish()
        assert process.stderr is not None
        assert (await process.stderr.readline()).decode().startswith(f"{NAME}: WARNING: 3 events were lost")
        await stage.control.stop()
        result = await finished(process)
        assert result.status == 1
        assert result.err.splitlines() == [
            f"{NAME}: 1 flow events have been shown.",
            f"{NAME}: the daemon on {stage.path} closed the connection",
        ]

    play(tmp_path, scene)


@pytest.mark.parametrize("line", ["-L", "-L -o json"])
def test_a_reader_of_stdout_that_leaves_is_no_error(tmp_path: Path, line: str) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(2000):
            stage.router.udp(10000 + port)
        process = await stage.start(*line.split())
        assert process.stdout is not None
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # what `| head -1` does
        async with asyncio.timeout(10):
            await process.wait()
        assert process.stderr is not None
        assert (process.returncode, await process.stderr.read()) == (141, b"")

    play(tmp_path, scene)


def test_events_end_when_the_reader_of_stdout_leaves(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        process = await stage.listening()
        assert process.stdout is not None
        process.stdout._transport.close()  # type: ignore[attr-defined]
        stage.router.udp()
        stage.publish()
        result = await finished(process)
        assert (result.status, result.err) == (141, f"{NAME}: 0 flow events have been shown.\n")

    play(tmp_path, scene)


def test_interrupting_a_listing_is_quiet(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(5000):
            stage.router.udp(10000 + port)
        process = await stage.start("-L")
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        result = await finished(process)
        assert (result.status, result.err) == (130, "")

    play(tmp_path, scene)


def test_a_daemon_with_no_room_says_so(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.control.acceptor.most = 0
        assert await stage.run("-L") == (1, "", f"{NAME}: too many clients (64 at most)\n")

    play(tmp_path, scene)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp(1000)
        with Path("/dev/full").open("w") as full:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "conntrackd_py.cli.conntrack.main", "-L", "--socket", str(stage.path)),
                stdout=full,
                stderr=asyncio.subprocess.PIPE,
            )
            result = await finished_stderr(process)
        assert result == (1, f"{NAME}: cannot write: No space left on device\n")

    play(tmp_path, scene)


async def finished_stderr(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(10):
        _, err = await process.communicate()
    return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("line", "status", "out", "err"),
    [
        ("-V", 0, f"{NAME}\n", ""),
        ("-L -p nosuch", 2, "", f"{NAME}: `nosuch' unsupported protocol\n{HINT}"),
        ("-L -o bogus", 2, "", f"{NAME}: Bad parameter `bogus'\n{HINT}"),
        ("-L expect -p tcp", 2, "", f"{NAME}: Illegal option `--protonum' with this command\n{HINT}"),
        ("-D expect", 2, "", f"{NAME}: You need to supply the `--src' option for this command\n{HINT}"),
        ("-U expect", 2, "", f"{NAME}: Can't do --update on expectations\n{HINT}"),
        ("-L --socket /nonexistent/socket", 1, "", f"{NAME}: no daemon listens on /nonexistent/socket\n"),
    ],
)
def test_without_a_daemon(tmp_path: Path, line: str, status: int, out: str, err: str) -> None:
    async def scene() -> None:
        assert await Stage(tmp_path / "none.sock").run(line) == (status, out, err)

    asyncio.run(scene())


def test_help_names_every_option(tmp_path: Path) -> None:
    async def scene() -> None:
        shown = await Stage(tmp_path / "none.sock").run("-h")
        assert shown.status == 0
        assert "Usage: conntrack-py" in shown.out
        assert (await Stage(tmp_path / "none.sock").run("")).out == shown.out

    asyncio.run(scene())


MADE = "-s 10.0.0.1 -d 10.0.0.2 -p udp --sport 1 --dport 53"


def test_json_everywhere(tmp_path: Path) -> None:
    """One object a line, whatever the command."""

    async def scene(stage: Stage) -> None:
        made = await stage.run(f"-I {MADE} -t 100 -o json")
        assert json.loads(made.out)["orig"]["sport"] == 1
        assert (await stage.run(f"-I {MADE} -t 100")).status == 1
        for line, keys in (
            (f"-A {MADE} -t 100 -o json", None),
            ("-L -o json", {"family", "orig", "reply", "status", "timeout"}),
            (f"-G {MADE} -o json", {"family", "orig", "reply", "status", "timeout"}),
            ("-U -p udp -m 5 -o json", {"mark", "orig"}),
            ("-C -o json", {"count", "limit"}),
            ("-S -o json", {"cpu", "found", "invalid"}),
            ("-V -o json", {"version"}),
            ("-D -p udp -o json", {"mark", "orig"}),
            ("-F -o json", {"flushed"}),
            ("-F expect -o json", {"flushed"}),
        ):
            shown = await stage.run(line)
            objects = [json.loads(text) for text in shown.out.splitlines()]
            assert shown.status == 0, line
            assert [True] * (keys is not None) == [keys <= found.keys() for found in objects], line

    play(tmp_path, scene)


def test_json_tells_lost_events_where_they_are_missing(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        process = await stage.listening("-o", "json")
        stage.router.engine.core.events.limit = 1
        for port in range(4):
            stage.router.udp(4000 + port)
        stage.publish()
        stage.router.udp(5000)
        stage.publish()
        assert process.stdout is not None
        lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
        assert [(line["event"], line.get("seq"), line.get("lost")) for line in lines] == [
            ("NEW", 1, None),
            ("LOST", None, 3),
            ("NEW", 5, None),
        ]
        process.send_signal(signal.SIGINT)
        assert (await finished(process)).status == 0

    play(tmp_path, scene)


def test_sort_and_limit(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in (1002, 1000, 1001):
            stage.router.udp(port)
        for options, ports in (
            ("--limit 2", [1002, 1000]),
            ("--sort sport", [1000, 1001, 1002]),
            ("--sort -sport --limit 2", [1002, 1001]),
            ("--limit 0", []),
        ):
            shown = await stage.run(f"-L -o json {options}")
            assert [json.loads(line)["orig"]["sport"] for line in shown.out.splitlines()] == ports
            assert shown.err == f"{NAME}: {len(ports)} flow entries have been shown.\n"
        assert (await stage.run("-L --sort bogus")).status == 2

    play(tmp_path, scene)


def test_expectations_by_hand(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.established(40000, 21)
        master = "-s 10.0.0.1 -d 10.0.0.2 -p tcp --sport 40000 --dport 21"
        expected = "--tuple-src 10.0.0.2 --tuple-dst 10.0.0.1 --tuple-port-src 0 --tuple-port-dst 3000"
        mask = "--mask-src 255.255.255.255 --mask-dst 255.255.255.255 --mask-port-src 0 --mask-port-dst 65535"
        assert await stage.run(f"-I expect {master} {expected} {mask} -t 60") == (0, "", "")
        listed = await stage.run("-L expect")
        assert listed.out == (
            "60 proto=6 src=10.0.0.2 dst=10.0.0.1 sport=0 dport=3000 mask-src=255.255.255.255 "
            "mask-dst=255.255.255.255 sport=0 dport=65535 master-src=10.0.0.1 master-dst=10.0.0.2 sport=40000 "
            "dport=21 USERSPACE class=0\n"
        )
        asked = "-s 10.0.0.2 -d 10.0.0.1 -p tcp --sport 5 --dport 3000"
        assert (await stage.run(f"-G expect {asked}")).out == listed.out
        assert (await stage.run(f"-D expect {asked}")).err == f"{NAME}: 1 expectations have been deleted.\n"
        gone = await stage.run(f"-D expect {asked}")
        assert gone == (1, "", f"{NAME}: Operation failed: such expectation doesn't exist\n")

    play(tmp_path, scene)


def test_events_of_expectations(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        process = await stage.listening("expect")
        stage.router.expect(stage.router.established(40000, 21), 3000)
        stage.publish()
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("    [NEW] 300 proto=6 src=10.0.0.2 dst=10.0.0.1 ")
        process.send_signal(signal.SIGINT)
        assert (await finished(process)).err == f"{NAME}: 1 expectation events have been shown.\n"

    play(tmp_path, scene)


# An editable installation has imports of its own before ours begin.
LIST_OF_IMPORTS = """
import sys
before = set(sys.modules)
import conntrackd_py.cli.conntrack.main
print(*(set(sys.modules) - before))
"""


def test_nothing_heavy_is_imported() -> None:
    async def scene() -> Result:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LIST_OF_IMPORTS),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return await finished(process)

    imported = set(asyncio.run(scene()).out.split())
    assert not imported & {"asyncio", "structlog", "pyroute2", "prometheus_client", "scapy", "ipaddress"}

"""The benchmark runs, as scripts/bench starts it: one round of the shortest of each part."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.results import Results
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "scripts" / "bench").read_text()
FIGURES = {
    "throughput": ["udp kpps", "udp us", "tcp Gbit/s"],
    "connections": ["tcp", "tcp us", "udp", "udp us"],
    "latency": ["udp idle p50", "tcp idle p99", "udp half p99", "tcp half p50", "udp half kpps"],
    "operations": ["connections", "nothing p50", "list p99", "json p99", "scrape p99", "expire p99", "flush p99"],
    "flood": ["syn calm Gbit/s", "syn k/s", "syn tracked", "udp calm Gbit/s", "udp tracked"],
}


def command(*options: str) -> list[str]:
    run = re.search("^RUN='(.*)'$", SCRIPT, re.MULTILINE)
    assert run is not None
    return [sys.executable, "-P", "-c", run[1], str(ROOT), "tests.bench", *options]


@pytest.mark.parametrize("part", FIGURES)
def test_a_part_measures_the_daemon(part: str, tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    options = ["--part", part, "--only", "daemon", "--rounds", "1", "--seconds", "0.4", "--count", "5000"]
    done = subprocess.run(command(*options, "--save", str(file)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "conntrackd-py: " in done.stdout
    results = Results.loaded(file.read_text())
    for column in FIGURES[part]:
        assert results.sure(part, "daemon", column) > 0, column


def test_the_contenders_are_compared() -> None:
    options = ["--part", "throughput", "--only", "daemon,kernel,batched", "--rounds", "1", "--seconds", "0.4"]
    done = subprocess.run(command(*options), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^kernel masquerade, no queue +[\d.]+ +\d+\.\d\d +[\d.]+ +\d+\.\d\d +-$", done.stdout, re.MULTILINE
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_signal_leaves_nothing_behind(number: signal.Signals) -> None:
    started = subprocess.Popen(
        command("--part", "throughput", "--only", "kernel", "--seconds", "30"), stdout=subprocess.DEVNULL
    )
    wait_until(lambda: f"ctpy-{started.pid}-" in namespaces(), "no namespace appears")
    time.sleep(1)
    started.send_signal(number)
    assert started.wait(20) == 128 + number
    assert f"ctpy-{started.pid}-" not in namespaces()


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout

"""`conntrackd-py lab` as a user runs it: it works, and afterwards nothing is left, however it ended."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.router import DAEMON

LAB = (*DAEMON, "lab")


def left_behind(lab: "subprocess.Popen[str]") -> list[str]:
    """Namespaces, files and processes of that run."""
    token = f"ctpy-{lab.pid}-"
    namespaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
    files = [str(path) for path in Path("/tmp").glob(f"{token}*")]
    processes = [str(path.parent) for path in Path("/proc").glob("[0-9]*/cmdline") if token in _text(path)]
    return [name for name in namespaces if name.startswith(token)] + files + processes


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*LAB, *getattr(request, "param", ())], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield process
    if process.poll() is None:
        process.terminate()
    process.wait(15)
    assert process.stdout is not None
    process.stdout.close()
    assert left_behind(process) == []


def test_every_step_works_and_nothing_is_left(lab: "subprocess.Popen[str]") -> None:
    shown, _ = lab.communicate(timeout=90)
    assert lab.returncode == 0, shown
    assert "✗" not in shown
    assert shown.count("✓") == 10
    for wanted in ("[NEW]", "[UPDATE]", "conntrack-py -L", "packets_total", "SNAT", "DNAT"):
        assert wanted in shown
    assert left_behind(lab) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [0.3, 1.5])
def test_interrupted_it_cleans_up(lab: "subprocess.Popen[str]", number: int, after: float) -> None:
    time.sleep(after)
    os.kill(lab.pid, number)
    lab.communicate(timeout=30)
    assert lab.returncode != 0
    assert left_behind(lab) == []


@pytest.mark.parametrize("lab", [("--keep",)], indirect=True)
def test_with_keep_it_prints_what_to_try_and_ends_with_ctrl_c(lab: "subprocess.Popen[str]") -> None:
    assert lab.stdout is not None
    shown = []
    for line in lab.stdout:
        shown.append(line.strip())
        if "daemon.log" in line:
            break
    ping = next(line for line in shown if line.startswith("ip netns exec") and "ping" in line).split()
    assert subprocess.run([*ping, "-c", "1", "-W", "2"], capture_output=True, timeout=15, check=False).returncode == 0
    lab.send_signal(signal.SIGINT)
    lab.communicate(timeout=30)
    assert lab.returncode == 0


def test_without_root_it_says_what_it_needs() -> None:
    unprivileged = ["setpriv", "--reuid", "65534", "--clear-groups", *LAB]
    done = subprocess.run(unprivileged, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 1
    assert "needs root" in done.stderr

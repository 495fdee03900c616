"""What tests start in the namespaces of a topology, and the configuration that several of them give the daemon."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conntrackd_py.lab.namespaces import INSIDE, INSIDE6, Namespace

MASQUERADE: Final = f"""
[[nat]]
out_interface = "wan0"
source = "{INSIDE}"
action = "MASQUERADE"
[[nat]]
out_interface = "wan0"
source = "{INSIDE6}"
action = "MASQUERADE"
"""


def start(where: Namespace, *words: str, says: str = "ready") -> subprocess.Popen[str]:
    """A command in the background, after its first line, which must be `says`."""
    process = where.start(*words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{says}\n", words
    return process


def start_script(where: Namespace, text: str, *arguments: str, says: str = "ready") -> subprocess.Popen[str]:
    """A Python program given as text; `start` otherwise."""
    return start(where, sys.executable, "-P", "-c", text, *arguments, says=says)


def capture(where: Namespace, file: Path, *options: str, interface: str = "eth0") -> None:
    """tcpdump, when it has begun to write to the file; options end with the expression."""
    command = ("tcpdump", "-i", interface, "-n", "-U", "-s", "128", "-w", str(file), *options)
    process = where.start(*command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.readline()
    if said.startswith("tcpdump: data link type"):  # with -y
        said = process.stderr.readline()
    assert "listening" in said, said


@contextlib.contextmanager
def one_processor(running: int) -> Iterator[None]:
    """The process `running`, and all that are started here, share one processor: packets then have one backlog."""
    processors = os.sched_getaffinity(0)
    for thread in (0, *threads(running)):
        os.sched_setaffinity(thread, {min(processors)})
    try:
        yield
    finally:
        for thread in (0, *threads(running)):
            os.sched_setaffinity(thread, processors)


def threads(process: int) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{process}/task").iterdir()]

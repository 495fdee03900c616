"""The output of the lab: the network, each step with its events, the table, the metrics."""

import queue
import re
import subprocess
import threading
import time
from typing import Final

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from conntrackd_py.lab.namespaces import (
    CLIENT,
    CLIENT6,
    ROUTER,
    ROUTER6,
    ROUTER6_INSIDE,
    ROUTER_INSIDE,
    SERVER,
    SERVER6,
    Topology,
)

EVENTS_SHOWN: Final = 14  # of one step
QUIET: Final = 0.25  # seconds without an event, after which a step has no more
KINDS: Final = {"NEW": "bold green", "UPDATE": "yellow", "DESTROY": "red"}
SAMPLE: Final = re.compile(r"^conntrackd_py_(\w+)\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)

PICTURE: Final = f"""\
  client                      router                       server
 ┌────────┐ eth0       lan0 ┌────────┐ wan0        eth0 ┌────────┐
 │        ├─────────────────┤ SNAT → ├──────────────────┤        │
 └────────┘                 │ ← DNAT │                  └────────┘
                            └────────┘
 {CLIENT:<14}{ROUTER_INSIDE:>13}          {ROUTER:<14}{SERVER:>14}
 {CLIENT6:<14}{ROUTER6_INSIDE:>13}          {ROUTER6:<14}{SERVER6:>14}"""


class Screen:
    """Writes to standard output; colours only on a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)

    def picture(self, net: Topology) -> None:
        names = "\n".join(f"{role:<7} {space.name}" for role, space in net.namespaces.items())
        self.console.print(Panel.fit(Text(f"{PICTURE}\n\n{names}"), title="conntrackd-py lab", border_style="cyan"))

    def say(self, text: str) -> None:
        self.console.print(Text(text))

    def step(self, title: str, checks: str, result: str, seconds: float, *, passed: bool = True) -> None:
        mark, style, result_style = ("✓ ", "bold green", "cyan") if passed else ("✗ ", "bold red", "red")
        title_style = "bold" if passed else style
        line = Text.assemble((mark, style), (title, title_style), f"  {checks}  ", (f"{seconds:.2f} s", "dim"))
        self.console.print(line)
        self.console.print(Text(f"    {result}", style=result_style))

    def event(self, line: str) -> None:
        text = Text(f"      {line.strip()}", style="dim")
        for kind, style in KINDS.items():
            text.highlight_regex(rf"\[{kind}\]", style)
        text.highlight_words([ROUTER], "magenta")
        self.console.print(text)

    def events(self, lines: list[str]) -> None:
        for line in lines[:EVENTS_SHOWN]:
            self.event(line)
        if len(lines) > EVENTS_SHOWN:
            self.console.print(Text(f"      ... and {len(lines) - EVENTS_SHOWN} more events", style="dim"))

    def section(self, title: str) -> None:
        self.console.rule(title, align="left", style="cyan")

    def numbers(self, metrics: str) -> None:
        """Packets by hook and verdict, and reasons, from the metrics page."""
        table = Table("metric", "labels", "value", box=None, pad_edge=False, header_style="dim")
        for name, labels, value in SAMPLE.findall(metrics):
            if name in ("packets_total", "invalid_total", "destroyed_total", "entries") and float(value):
                words = " ".join(re.findall(r'"([^"]*)"', labels))
                table.add_row(name, words, str(int(float(value))))
        self.console.print(table)


class Events:
    """The lines of `conntrack-py -E`, read by a thread."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def wait(self, seconds: float) -> str:
        """The next line, empty after a timeout."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            return ""

    def so_far(self, at_most: float = 2.0) -> list[str]:
        """The lines until none comes for QUIET seconds, or for at_most seconds."""
        found = []
        until = time.monotonic() + at_most
        while time.monotonic() < until and (line := self.wait(QUIET)):
            found.append(line)
        return found

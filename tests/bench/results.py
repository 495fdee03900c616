"""What a run measured: by part, row and column, the values of its rounds. Tables show medians."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from conntrackd_py import __version__, compiled


@dataclass
class Results:
    conditions: dict[str, str] = field(default_factory=dict)
    parts: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    def add(self, part: str, row: str, column: str, value: float) -> None:
        value = float(f"{value:.5g}")  # as a file has it
        self.parts.setdefault(part, {}).setdefault(row, {}).setdefault(column, []).append(value)

    def dumped(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def loaded(cls, text: str) -> Results:
        return cls(**json.loads(text))

    def rows(self, part: str) -> list[str]:
        return list(self.parts.get(part, {}))

    def median(self, part: str, row: str, column: str) -> float | None:
        values = self.parts.get(part, {}).get(row, {}).get(column)
        return statistics.median(values) if values else None

    def sure(self, part: str, row: str, column: str) -> float:
        """The median. KeyError if it was not measured."""
        return statistics.median(self.parts[part][row][column])


Table = list[list[str]]
Cell = Callable[[Results, str, str], str]  # of part and row


@dataclass(frozen=True)
class Column:
    title: str
    cell: Cell


def number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def plain(title: str, key: str) -> Column:
    return Column(title, lambda results, part, row: number(results.median(part, row, key)))


def ratio(title: str, key: str, *, first: str = "daemon") -> Column:
    """The first row's value divided by this row's."""

    def cell(results: Results, part: str, row: str) -> str:
        ours, other = results.median(part, first, key), results.median(part, row, key)
        return f"{ours / other:.2f}" if ours is not None and other and row != first else ""

    return Column(title, cell)


def added(title: str, key: str, *, base: str = "route") -> Column:
    """This row's value less that of the row `base`."""

    def cell(results: Results, part: str, row: str) -> str:
        less, value = results.median(part, base, key), results.median(part, row, key)
        return number(value - less, 2) if value is not None and less is not None and row != base else ""

    return Column(title, cell)


def table(results: Results, part: str, titles: dict[str, str], columns: list[Column], head: str) -> Table:
    """Head and rows, in the order of `titles`, which gives a row its name."""
    rows = [row for row in titles if row in results.rows(part)]
    return [
        [head, *(column.title for column in columns)],
        *([titles[row], *(column.cell(results, part, row) for column in columns)] for row in rows),
    ]


def aligned(lines: Table) -> str:
    """For a terminal."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in lines
    )


def markdown(lines: Table) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def conditions() -> dict[str, str]:
    """Of this machine, now."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = f", {models[0].partition(': ')[2]}" if models else ""
    commit = said("git", "describe", "--always", "--dirty")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "conntrackd-py": f"{__version__}, {'compiled' if compiled else 'pure'}, commit {commit}",
        "Python": platform.python_version(),
        "kernel": platform.release(),
        "CPUs": f"{os.cpu_count()}{model}",
        "iptables": said("iptables", "--version"),
        "nft": said("nft", "--version"),
    }


def load() -> str:
    """Load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def said(*command: str) -> str:
    """The first line of its output; "-" if it cannot run."""
    if shutil.which(command[0]) is None:
        return "-"
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.partition("\n")[0] if not done.returncode else "-"

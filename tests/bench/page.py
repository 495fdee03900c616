"""Writes tables between the markers of documentation pages; beside them the plots and the values of all rounds.

A table stands between `<!-- bench NAME -->` and `<!-- /bench -->`. The text around it is written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.bench import connections, flood, latency, memory, operations, plots, scale, throughput, turns
from tests.bench.contenders import TITLES
from tests.bench.results import Column, Results, Table, markdown, ratio, table

PAGES: Final = ("speed.md", "scale.md", "operations.md", "../README.md")  # from the directory of the documentation
MOST_LOAD: Final = 0.5  # average of the minute before the run
VALUES: Final = "speed.json"
BLOCK: Final = re.compile(r"(<!-- bench ([\w-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
CONNECTIONS: Final = ratio("", "tcp").cell
SHORT: Final = [
    ratio("small UDP packets", "udp kpps"),
    ratio("one TCP stream", "tcp Gbit/s"),
    Column("new TCP connections", lambda results, _, row: CONNECTIONS(results, connections.PART, row) or "-"),
]


def tables(results: Results) -> dict[str, Table]:
    """Every table whose part was measured, by its name."""
    found: dict[str, Table] = {}
    for part in (throughput, connections, latency, operations, flood, memory, turns):
        found.update(part.tables(results))
    return {name: lines for name, lines in found.items() if len(lines) > 1}


def blocks(results: Results) -> dict[str, Table]:
    """Every table of the pages."""
    compared = {name: title for name, title in TITLES.items() if not name.startswith("daemon") and name != "route"}
    conditions = [["condition", "value"], *([name, value] for name, value in results.conditions.items())]
    if float(results.conditions["load before"].split()[0]) > MOST_LOAD:
        conditions.append(["**warning**", "**other programs used this machine: measure again**"])
    bytes_of = [["connection", "bytes", "a million"]]
    for kind in results.rows(memory.PART):
        title = memory.KINDS[kind]
        size = results.sure(memory.PART, kind, "bytes")
        bytes_of.append([title, f"{size:.0f}", f"{size:.0f} MB"])
    return {
        **turns.tables(results),
        **tables(results),
        "conditions": conditions,
        "short": table(results, throughput.PART, compared, SHORT, "compared with"),
        "bytes": bytes_of,
        **scale.tables(results),
    }


def filled(text: str, found: dict[str, Table]) -> str:
    """The page with new tables. KeyError for a name that there is no table of."""

    def put(match: re.Match[str]) -> str:
        return f"{match[1]}{markdown(found[match[2]])}\n{match[3]}"

    return BLOCK.sub(put, text)


def files(results: Results, docs: Path) -> dict[Path, str]:
    """The pages and plots as they should be, and the values themselves."""
    found = blocks(results)
    texts = {docs / name: filled((docs / name).read_text(), found) for name in PAGES}
    texts.update({docs / f"speed-{name}.svg": draw(results) for name, draw in plots.PLOTS.items()})
    texts[docs / VALUES] = results.dumped()
    return texts


def write(results: Results, docs: Path) -> None:
    for path, text in files(results, docs).items():
        path.write_text(text)

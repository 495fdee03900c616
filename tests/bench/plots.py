"""The plots of docs/speed.md, as SVG: bars, and lines over the size of the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from tests.bench import connections, flood, latency, throughput
from tests.bench.contenders import TITLES
from tests.bench.results import Results, number
from tests.support.dashboard import COLOURS, FAINT, INK, LINE, PAPER, box, nice, text

WIDE, ROW, HEAD, LEFT, RIGHT = 860, 20, 34, 320, 90
FAMILY: Final = "Inter, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
Bar = tuple[str, float | None]


def picture(title: str, high: float, shapes: Iterator[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high:.0f}" font-family="{FAMILY}">'
    paper = f'<rect width="{WIDE}" height="{high:.0f}" fill="{PAPER}"/>'
    return "\n".join([head, paper, text(12, 22, title, 14, INK, bold=True), *shapes, "</svg>"]) + "\n"


def bars(title: str, groups: dict[str, list[Bar]]) -> str:
    """Groups of horizontal bars; each group has a scale of its own. A bar without a value is left out."""
    shown = {name: [(label, value) for label, value in group if value is not None] for name, group in groups.items()}

    def shapes() -> Iterator[str]:
        y = float(HEAD)
        for name, group in shown.items():
            yield text(12, y + 16, name, 12, FAINT)
            y += ROW + 4
            most = max((value for _, value in group), default=0) or 1
            for at, (label, value) in enumerate(group):
                yield text(LEFT - 8, y + 14, label, 11, INK, "end")
                wide = (WIDE - LEFT - RIGHT) * value / most
                yield box(LEFT, y + 3, max(wide, 1), ROW - 6, COLOURS[2 if at else 0], PAPER)
                yield text(LEFT + wide + 6, y + 14, number(value), 11)
                y += ROW
            y += 8

    high = HEAD + sum(ROW + 12 + ROW * len(group) for group in shown.values())
    return picture(title, high, shapes())


def lines(title: str, unit: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """Lines over a logarithmic axis."""
    top, bottom, left, right = HEAD + 10, 250, 60, WIDE - 40
    points = [point for line in series.values() for point in line]
    low, span = math.log10(min(x for x, _ in points)), math.log10(max(x for x, _ in points))
    most = nice(max(y for _, y in points))

    def across(x: float) -> float:
        return left + (right - left) * (math.log10(x) - low) / ((span - low) or 1)

    def shapes() -> Iterator[str]:
        for part in range(5):
            y = bottom - (bottom - top) * part / 4
            yield f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LINE}"/>'
            yield text(left - 6, y + 4, number(most * part / 4), 10, FAINT, "end")
        for x in sorted({x for x, _ in points}):
            yield text(across(x), bottom + 16, f"{x:,.0f}", 10, FAINT, "middle")
        yield text(left, bottom + 34, f"{unit}, over the connections in the table", 10, FAINT)
        for at, (name, line) in enumerate(series.items()):
            path = " ".join(f"{across(x):.1f},{bottom - (bottom - top) * y / most:.1f}" for x, y in line)
            yield f'<polyline points="{path}" fill="none" stroke="{COLOURS[at]}" stroke-width="1.6"/>'
            yield box(left + 200 * at, bottom + 46, 12, 3, COLOURS[at], COLOURS[at])
            yield text(left + 200 * at + 18, bottom + 51, name, 11)

    return picture(title, bottom + 64, shapes())


def of(results: Results, part: str, column: str) -> list[Bar]:
    return [(TITLES[row], results.median(part, row, column)) for row in TITLES if row in results.rows(part)]


def throughput_plot(results: Results) -> str:
    groups = {
        "small UDP packets, thousands a second": of(results, throughput.PART, "udp kpps"),
        "one TCP stream, Gbit/s": of(results, throughput.PART, "tcp Gbit/s"),
    }
    return bars("Throughput through source NAT", groups)


def connections_plot(results: Results) -> str:
    groups = {
        "TCP connections a second: connect, request, response, close": of(results, connections.PART, "tcp"),
        "UDP flows a second, one packet each": of(results, connections.PART, "udp"),
    }
    return bars("New connections", groups)


def latency_plot(results: Results) -> str:
    groups = {
        f"{kind.upper()} {figure}, {words}, µs": of(results, latency.PART, f"{kind} {load} {figure}")
        for load, words in latency.LOADS.items()
        for kind in latency.KINDS
        for figure in ("p50", "p99")
    }
    return bars("Round trip of one byte each way", groups)


def flood_plot(results: Results) -> str:
    groups = {
        "no flood": of(results, flood.PART, "syn calm Gbit/s"),
        "SYNs with random sources to a forwarded port": of(results, flood.PART, "syn Gbit/s"),
        "new UDP flows from inside": of(results, flood.PART, "udp Gbit/s"),
    }
    return bars("One established TCP stream during a flood, Gbit/s", groups)


def size_plot(results: Results) -> str:
    sizes = sorted(results.rows("size"), key=int)
    series = {
        f"{kind.upper()}, {words}": [(float(size), results.sure("size", size, f"{kind} {key} us")) for size in sizes]
        for kind in ("udp", "tcp")
        for key, words in (("known", "known packet"), ("new", "new connection"))
    }
    return lines("The engine alone: CPU time by the size of the table, both visits", "µs", series)


PLOTS: Final[dict[str, Callable[[Results], str]]] = {
    "throughput": throughput_plot,
    "connections": connections_plot,
    "latency": latency_plot,
    "flood": flood_plot,
    "size": size_plot,
}

"""Makes the picture of the dashboard (docs/metrics.md) from a real daemon under traffic, a real Prometheus and the
queries of config/grafana/conntrackd-py.json. Needs root, prometheus, and about two minutes:

sudo .venv-compiled/bin/python -m tests.support.dashboard docs/dashboard.svg
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Final

from conntrackd_py.cli.conntrackd.amounts import duration, percent, rate
from conntrackd_py.lab.namespaces import INSIDE, ROUTER, SERVER, LabError, Topology
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, UDP_PORT, WEB_PORT, start_servers
from tests.support.picture import HOSTS, MANY, strays
from tests.support.prometheus import DASHBOARD, RULES, Prometheus, filled, quick

SECONDS: Final = 100.0
WINDOW: Final = "10s"
LIMIT: Final = 4_000
COLUMN, ROW, GAP, MARGIN = 50, 30, 4, 10  # pixels of Grafana's grid
COLOURS: Final = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff", "#c8f2c2", "#ffb357")
NAMED: Final = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44"}
PAPER, PANEL, LINE, INK, FAINT = "#111217", "#181b1f", "#2c3235", "#d8d9da", "#8e8e8e"
MOST_NAMED: Final = 5

FEW_PORTS: Final = f"""\
[[nat]]
comment = "5,000 ports"
out_interface = "wan0"
proto = "udp"
action = "SNAT"
to = "{ROUTER}:20000-24999"

[[nat]]
comment = "a block a host"
out_interface = "wan0"
source = "{INSIDE}"
proto = "tcp"
action = "SNAT"
to = "{ROUTER}:30000-49999"
port_block = 500
"""
FILTER: Final = """
[[filter.rule]]
comment = "no telnet"
hook = "forward"
proto = "tcp"
dport = 23
action = "reject"

[[filter.rule]]
comment = "no outer mail"
hook = "forward"
proto = "tcp"
dport = 25
action = "drop"
"""
# Waves of UDP from many ports to some destinations, and knocks at doors that the filter closes.
WAVES: Final = """
import math, random, socket, sys, time
server, seconds, chosen = sys.argv[1], float(sys.argv[2]), random.Random(2)
began = time.monotonic()
while (now := time.monotonic() - began) < seconds:
    for _ in range(int(14 + 10 * math.sin(now / 9))):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", chosen.randrange(20000, 60000)))
            sender.sendto(b"x" * chosen.randrange(20, 900), (server, 7))
    if chosen.random() < 0.5:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as knock:
            knock.settimeout(0.02)
            knock.connect_ex((server, chosen.choice((23, 23, 25))))
    time.sleep(0.1)
"""

Json = dict[str, Any]


class Drawn:
    """One query's answer: name and (time, value) of each series."""

    def __init__(self, prometheus: Prometheus, target: Json, start: float, end: float) -> None:
        expression = filled(target["expr"], WINDOW)
        self.series = [
            (legend(target["legendFormat"], one["metric"]), [(float(at), float(value)) for at, value in one["values"]])
            for one in prometheus.range(expression, start, end, 1)
        ]


def legend(text: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    while "{{" in text:
        before, _, rest = text.partition("{{")
        text = before + rest.partition("}}")[2]
    return text.strip()


def shown(value: float, unit: str) -> str:
    """As Grafana writes a value of this unit."""
    if unit == "percentunit":
        return percent(value)
    if unit == "s":
        if value >= 60:
            return duration(value)
        small = next(
            (f"{value * scale:.3g} {name}" for scale, name in ((1e6, "µs"), (1e3, "ms")) if value * scale < 900), ""
        )
        return "0 s" if not value else small or f"{value:.3g} s"
    ends = {"pps": " p/s", "/s": "/s"}.get(unit, "")
    return rate(value) + ends


def text(
    x: float, y: float, what: str, size: int = 11, colour: str = INK, anchor: str = "start", bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(what)}</text>'


def box(x: float, y: float, w: float, h: float, colour: str, edge: str = LINE) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="2" fill="{colour}" stroke="{edge}"/>'


def stat(panel: Json, value: float | None, area: tuple[float, float, float, float]) -> Iterator[str]:
    x, y, w, h = area
    defaults = panel["fieldConfig"]["defaults"]
    colour = PANEL
    for step in defaults.get("thresholds", {"steps": []})["steps"]:
        if step["value"] is None or (value is not None and value >= step["value"]):
            colour = NAMED.get(step["color"], PANEL)
    what = defaults.get("noValue", "-") if value is None else shown(value, defaults["unit"])
    if value is None:
        colour = NAMED["green"]
    for mapping in defaults.get("mappings", []):
        what = mapping["options"].get(f"{value or 0:g}", {"text": what})["text"]
    yield box(x, y, w, h, colour, colour)
    yield text(x + 8, y + 17, panel["title"], 11, "#ffffff")
    yield text(x + w / 2, y + h / 2 + 20, what, 24 if len(what) < 10 else 19, "#ffffff", "middle", bold=True)


def chart(
    panel: Json,
    series: list[tuple[str, list[tuple[float, float]]]],
    area: tuple[float, float, float, float],
    span: tuple[float, float],
) -> Iterator[str]:
    x, y, w, h = area
    defaults = panel["fieldConfig"]["defaults"]
    unit, stacked = defaults["unit"], "stacking" in defaults.get("custom", {})
    yield box(x, y, w, h, PANEL)
    yield text(x + 8, y + 17, panel["title"], 12, INK, bold=True)
    named = [(name, values) for name, values in series if values]
    named.sort(key=lambda one: -max(value for _, value in one[1]))
    legend_rows = min(len(named), MOST_NAMED + 1)
    left, top, right, bottom = x + 58, y + 28, x + w - 10, y + h - 26 - 15 * ((legend_rows + 1) // 2)
    tops: dict[float, float] = {}
    if stacked:
        named.reverse()
        lifted = []
        for name, values in named:
            lifted.append((name, [(at, tops.get(at, 0.0)) for at, _ in values], values))
            for at, value in values:
                tops[at] = tops.get(at, 0.0) + value
        highest = max(tops.values(), default=0.0)
    else:
        highest = max((value for _, values in named for _, value in values), default=0.0)
    most = defaults.get("max") or nice(highest)
    for part in range(5):
        at = bottom - (bottom - top) * part / 4
        yield f'<line x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="{LINE}"/>'
        yield text(left - 5, at + 4, shown(most * part / 4, unit), 10, FAINT, "end")

    def point(at: float, value: float) -> str:
        across, up = (at - span[0]) / (span[1] - span[0]), min(value / most, 1)
        return f"{left + (right - left) * across:.1f},{bottom - (bottom - top) * up:.1f}"

    for number, (name, values) in enumerate(named):
        colour = COLOURS[number % len(COLOURS)]
        if stacked:
            base = dict(lifted[number][1])
            upper = [point(at, base[at] + value) for at, value in values]
            lower = [point(at, base[at]) for at, _ in reversed(values)]
            yield f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" fill-opacity="0.5"/>'
            yield f'<polyline points="{" ".join(upper)}" fill="none" stroke="{colour}"/>'
        else:
            line = " ".join(point(*one) for one in values)
            yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        if number < MOST_NAMED or len(named) <= MOST_NAMED + 1:
            yield from entry(
                x + 12 + (number % 2) * (w / 2 - 8), bottom + 34 + 15 * (number // 2), colour, name, w / 2 - 30
            )
    if len(named) > MOST_NAMED + 1:
        yield text(
            x + 12 + (MOST_NAMED % 2) * (w / 2 - 8),
            bottom + 34 + 15 * (MOST_NAMED // 2),
            f"and {len(named) - MOST_NAMED} more",
            10,
            FAINT,
        )
    for part in range(4):
        at = span[0] + (span[1] - span[0]) * part / 3
        anchor = ("start", "middle", "middle", "end")[part]
        yield text(
            left + (right - left) * part / 3, bottom + 15, time.strftime("%H:%M:%S", time.gmtime(at)), 10, FAINT, anchor
        )


def entry(x: float, y: float, colour: str, name: str, room: float) -> Iterator[str]:
    most = int(room / 5.6)
    yield f'<rect x="{x:.1f}" y="{y - 5:.1f}" width="12" height="3" fill="{colour}"/>'
    yield text(x + 17, y, name if len(name) <= most else name[: most - 1] + "…", 10)


def nice(value: float) -> float:
    """A round number at least as large."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def table(panel: Json, prometheus: Prometheus, area: tuple[float, float, float, float]) -> Iterator[str]:
    x, y, w, h = area
    yield box(x, y, w, h, PANEL)
    yield text(x + 8, y + 17, panel["title"], 12, INK, bold=True)
    (found,) = prometheus.query(filled(panel["targets"][0]["expr"], WINDOW))
    labels = {name: value for name, value in found["metric"].items() if name not in ("__name__", "job")}
    for number, (name, value) in enumerate(sorted(labels.items())):
        at = y + 44 + number * 22
        yield f'<line x1="{x + 8}" x2="{x + w - 8}" y1="{at + 7:.1f}" y2="{at + 7:.1f}" stroke="{LINE}"/>'
        yield text(x + 12, at, name, 11, FAINT)
        yield text(x + w / 3, at, value)


def picture(prometheus: Prometheus, start: float, end: float) -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    high = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW + 2 * MARGIN + 30
    wide = 24 * COLUMN + 2 * MARGIN
    family = "Inter, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="{family}">'
    yield f'<rect width="{wide}" height="{high}" fill="{PAPER}"/>'
    yield text(MARGIN + 2, 25, dashboard["title"], 16, INK, bold=True)
    for panel in panels:
        at = panel["gridPos"]
        x, y = MARGIN + at["x"] * COLUMN, MARGIN + 30 + at["y"] * ROW
        area = (x, y, at["w"] * COLUMN - GAP, at["h"] * ROW - GAP)
        if panel["type"] == "row":
            yield text(x + 4, y + 20, panel["title"], 14, INK, bold=True)
        elif panel["type"] == "table":
            yield from table(panel, prometheus, area)
        elif panel["type"] == "stat":
            found = prometheus.query(filled(panel["targets"][0]["expr"], WINDOW))
            yield from stat(panel, float(found[0]["value"][1]) if found else None, area)
        else:
            series = [one for target in panel["targets"] for one in Drawn(prometheus, target, start, end).series]
            yield from chart(panel, series, area, (start, end))
    yield "</svg>"


def main(file: Path) -> None:
    config = (
        CONFIG.replace("[tunables]", f"[tunables]\nnf_conntrack_max = {LIMIT}\nnf_conntrack_udp_timeout = 20") + FILTER
    )
    with Topology() as net:
        router = Router(net, config.replace("[[nat]]", f"{FEW_PORTS}\n[[nat]]", 1))
        router.install_rules()
        router.start()
        start_servers(net)
        prometheus = Prometheus(net.router, net.folder, quick(RULES.read_text(), WINDOW))
        for host in HOSTS:
            net.client.run("ip", "address", "add", f"{host}/24", "dev", "eth0")
        words = (",".join(HOSTS), SERVER, str(WEB_PORT), str(UDP_PORT), str(SECONDS + 20))
        net.client.start(sys.executable, "-c", MANY, *words)
        net.client.start(sys.executable, "-c", WAVES, SERVER, str(SECONDS + 20))
        time.sleep(15)
        start = time.time()
        for part in range(4):
            net.client.start(*strays())
            if part == 2:
                net.client.start(*TRAFFIC, "exchange", SERVER, str(EXCHANGE_PORT), "600000000")
            time.sleep(SECONDS / 4)
        file.write_text("\n".join(picture(prometheus, start, time.time())) + "\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except LabError as error:
        sys.exit(str(error))

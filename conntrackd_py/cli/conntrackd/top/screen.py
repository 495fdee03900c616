"""Draws a frame of `conntrackd-py top` with rich: table, traffic by hook, states, refusals, hosts."""

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from conntrackd_py.cli.conntrackd.amounts import NEARLY_FULL, duration, percent, rate

Fields = Mapping[str, Any]

HOOKS: Final = {
    "pre_routing": "PREROUTING",
    "local_in": "INPUT",
    "local_out": "OUTPUT",
    "post_routing": "POSTROUTING",
}
ORDERS: Final = {"connections": "connections", "bytes": "bit/s", "new": "new/s"}
FAMILIES: Final = {"": "IPv4 and IPv6", "ipv4": "IPv4", "ipv6": "IPv6"}
OTHER_ROWS: Final = 17  # lines without those of the hosts
BAR: Final = 12  # columns
LABEL: Final = "bold cyan"
ALARM: Final = "bold red"
DIM: Final = "dim"


class View(NamedTuple):
    """Order and family of the hosts; seconds between two samples."""

    sort: str
    family: str
    interval: float


def rows_for(height: int) -> int:
    """The number of hosts that fit on a screen of this height."""
    return max(height - OTHER_ROWS, 1)


def draw(frame: Fields, view: View, keys: bool = False) -> RenderableType:
    """keys: add a line that lists the keys."""
    parts: list[RenderableType] = [
        _line(
            ("conntrackd-py top", "bold"),
            f"   {time.strftime('%H:%M:%S')}   every {view.interval:g} s   hosts by {ORDERS[view.sort]}, ",
            FAMILIES[view.family],
        ),
        _fill(frame),
        _growth(frame),
        Text(),
        _traffic(frame),
        _reasons("ended/s", frame["ended_per_second"], ""),
        _reasons("INVALID/s", frame["invalid_per_second"], "yellow"),
        _reasons("dropped/s", frame["dropped_per_second"], ALARM),
        _pools(frame["pools"]),
        Text(),
        _hosts(frame, view),
    ]
    if keys:
        parts.append(_line(("q quit   sort: c connections  b bit/s  n new/s   family: 4  6  a both", DIM)))
    return Group(*parts)


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _fill(frame: Fields) -> Text:
    entries, limit = frame["entries"], frame["limit"]
    pending = f"   unconfirmed {frame['unconfirmed']:,}, dying {frame['dying']:,}"
    if offloaded := frame["offload"]["connections"]:
        pending += f", offloaded {offloaded:,}"
    if not limit:
        return _line(("table      ", LABEL), f"{entries:,}, no limit{pending}")
    share = entries / limit
    style = ALARM if share >= NEARLY_FULL else "green"
    filled = min(round(share * BAR), BAR)
    return _line(
        ("table      ", LABEL),
        ("█" * filled, style),
        ("·" * (BAR - filled), DIM),
        f" {entries:,} of {limit:,}, ",
        (percent(share), style),
        pending,
    )


def _growth(frame: Fields) -> Text:
    growing = frame["growth_per_second"]
    full = ""
    if "seconds_to_full" in frame:
        about = " ".join(duration(frame["seconds_to_full"]).split()[:2])
        full = f", table full in about {about} at this rate"
    return _line(
        ("new/s      ", LABEL),
        f"{rate(frame['created_per_second'])}   ",
        ("growth/s ", LABEL),
        f"{'+' if growing > 0 else ''}{_rate(growing)}{full}",
    )


def _rate(value: float) -> str:
    return f"-{rate(-value)}" if value < 0 else rate(value)


def _traffic(frame: Fields) -> Table:
    """Packets by hook; next to them the states of each protocol."""
    hooks = Table(box=None, pad_edge=False, header_style=LABEL)
    hooks.add_column("hook", no_wrap=True, min_width=11)
    for name in ("packet/s", "bit/s", "drop/s"):
        hooks.add_column(name, justify="right", no_wrap=True, min_width=7)
    for key, name in HOOKS.items():
        of = frame["hooks"][key]
        dropped = Text(rate(of["dropped_per_second"]), style=ALARM if of["dropped_per_second"] else "")
        hooks.add_row(name, rate(of["packets_per_second"]), rate(of["bytes_per_second"] * 8), dropped)
    both = Table.grid(padding=(0, 3), expand=True)
    both.add_column(no_wrap=True)
    both.add_column(ratio=1)
    both.add_row(hooks, _states(frame["states"]))
    return both


def _states(states: Fields) -> Group:
    """One line a protocol, as many as there are hooks. If there are more protocols, the last line sums them up."""
    sums = {proto: sum(of.values()) for proto, of in states.items()}
    ordered = sorted(sums, key=lambda proto: -sums[proto])
    lines = [_line(("states", LABEL))]
    whole = len(HOOKS) if len(ordered) <= len(HOOKS) else len(HOOKS) - 1
    for proto in ordered[:whole]:
        named = sorted(((n, s) for s, n in states[proto].items() if s), reverse=True)
        lines.append(_line((f"{proto} ", "bold"), f"{sums[proto]:,}", (_list(named), DIM)))
    if ordered[whole:]:
        lines.append(_line(", ".join(f"{proto} {sums[proto]:,}" for proto in ordered[whole:])))
    lines += [Text()] * (len(HOOKS) + 1 - len(lines))
    return Group(*lines)


def _list(named: list[tuple[int, str]]) -> str:
    return "".join(f"  {state} {count:,}" for count, state in named)


def _reasons(label: str, rates: Fields, style: str) -> Text:
    texts = ", ".join(f"{name} {rate(value)}" for name, value in rates.items())
    return _line((f"{label:<11}", LABEL), (texts, style) if texts else "-")


def _pools(pools: list[Fields]) -> Text:
    texts: list[str | tuple[str, str]] = []
    for pool in pools:
        share = pool.get("share", 0.0)
        text = f"{pool['address']} {pool['connections']:,} ({percent(share)} of ports)"
        texts += [", " if texts else "", (text, ALARM if share >= NEARLY_FULL else "")]
    return _line(("NAT        ", LABEL), *(texts or ["-"]))


def _hosts(frame: Fields, view: View) -> Group:
    """The hosts. Without accounting their packets and bytes are unknown."""
    table = Table(box=None, pad_edge=False, header_style=LABEL, expand=True)
    table.add_column("host", no_wrap=True, overflow="ellipsis", ratio=1)
    sorted_by = {"connections": "connections", "new": "new/s", "bytes": "packet/s"}[view.sort]
    for name in ("connections", "new/s", "packet/s", "sent bit/s", "recv bit/s"):
        mark = name == sorted_by or (view.sort == "bytes" and name.endswith("bit/s"))
        table.add_column(Text(name, style="reverse" if mark else ""), justify="right", no_wrap=True)
    for fields in frame["hosts"]:
        table.add_row(Text(fields["address"]), f"{fields['connections']:,}", *_moved(fields))
    return Group(table, _beyond(frame))


def _moved(fields: Fields) -> list[str]:
    found = []
    for name, factor in (
        ("created_per_second", 1),
        ("packets_per_second", 1),
        ("sent_bytes_per_second", 8),
        ("received_bytes_per_second", 8),
    ):
        found.append(rate(fields[name] * factor) if name in fields else "-")
    return found


def _beyond(frame: Fields) -> Text:
    texts = [f"{len(frame['hosts']):,} of {frame['hosts_known']:,} hosts"]
    if frame["other_connections"]:
        texts.append(f"{frame['other_connections']:,} connections of hosts beyond the limit")
    if not frame["accounting"]:
        texts.append("no packets and bytes: nf_conntrack_acct is off")
    return _line(("; ".join(texts), DIM))

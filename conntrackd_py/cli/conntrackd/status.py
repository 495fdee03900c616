"""`conntrackd-py status`: the state of the daemon on one screen, or as one JSON object.

The object is the daemon's answer to `status` (keys: control/status.py). Its `nat` also has `pools` and `unpooled` from
the answer to `top` (control/report/pools.py).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from conntrackd_py.cli.conntrackd import sync
from conntrackd_py.cli.conntrackd.amounts import NEARLY_FULL, duration, percent
from conntrackd_py.cli.stdout import discard_stdout
from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.answers import Line
from conntrackd_py.control.protocol.requests import DaemonStatus, Top
from conntrackd_py.control.sync.state import OFF
from conntrackd_py.settings.schema import OBSERVE

Fields = Mapping[str, Any]

NAMED: Final = 5  # reasons, states or protocols named in one line; the rest is summed up
BOLD: Final = "\x1b[1m"
RED: Final = "\x1b[31m"
PLAIN: Final = "\x1b[0m"


def main(args: argparse.Namespace) -> int:
    """0, or 1 if no daemon answers."""
    try:
        status = ask(socket_path(args.socket))
    except ClientError as error:
        print(f"conntrackd-py status: {escaped(str(error))}", file=sys.stderr)
        return 1
    try:
        if args.json:
            print(json.dumps(status))
        else:
            for line in lines(status, coloured=sys.stdout.isatty() and "NO_COLOR" not in os.environ):
                print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
    return 0


def ask(path: str) -> Line:
    """The answers to `status` and `top` in one. Raises ClientError."""
    with Client(path) as client:
        status: Line = next(client.ask(DaemonStatus()))["status"]
        top = next(client.ask(Top(hosts=0)))["top"]
    status["nat"].update(pools=top["pools"], unpooled=top["unpooled"])
    return status


class Lines:
    """Lines of a label and a text. With colours, an alarm is red."""

    def __init__(self, coloured: bool) -> None:
        self.coloured = coloured
        self.lines: list[str] = []

    def add(self, label: str, text: str, alarm: bool = False) -> None:
        padded = f"{label:<12}  "
        if self.coloured:
            padded = f"{BOLD}{padded}{PLAIN}"
            text = f"{RED}{text}{PLAIN}" if alarm else text
        self.lines.append(padded + text)


def lines(status: Fields, coloured: bool = False) -> list[str]:
    found = Lines(coloured)
    build = "compiled" if status["compiled"] else "pure"
    found.add("daemon", f"{status['version']}, {build}, Python {status['python']}, pid {status['pid']}")
    found.add("mode", status["mode"])
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["started"]))
    found.add("up", f"{duration(status['uptime'])}, since {since}; last reload: {reloaded(status['reloaded'])}")
    _reload(found, status["reload"])
    _steering(found, status["steering"])
    _journal(found, status["journal"])
    for number, text in enumerate(sync.lines(status["sync"]) if status["sync"]["role"] != OFF else ()):
        found.add("  sync" if number else "sync", text, not sync.in_order(status["sync"]))
    _table(found, status)
    _nat(found, status["nat"])
    _blocks(found, status["blocks"])
    _nat_log(found, status["nat_log"])
    _targets(found, status["targets"])
    _queues(found, status)
    invalid = status["invalid"]
    found.add("INVALID", f"{sum(invalid.values()):,}{_named(invalid, ': ')}")
    dropped = status["dropped"]
    found.add("dropped", f"{sum(dropped.values()):,}{_named(dropped, ': ')}")
    for rule in status["filter"][:NAMED]:
        comment = f" ({rule['comment']})" if rule["comment"] else ""
        found.add("  filter", escaped(f"{rule['rule']}{comment}: {rule['action']} {rule['packets']:,}"))
    hints = status["hints"]
    texts = f"expired while in use {hints['expired_in_use']:,}, one-sided flows {hints['one_sided_flows']:,}"
    found.add("hints", f"{texts}, marks overwritten {hints['mark_overwritten']:,}", any(hints.values()))
    if status["mark_rule"]:
        found.add("  mark", f"probably overwritten by {escaped(status['mark_rule'])}", True)
    found.add("helpers", ", ".join(status["helpers"]) or "none")
    lost = status["events_lost"]
    clients = (
        f"clients {status['clients']} ({status['refused_clients']:,} refused), subscribers {status['subscribers']}"
    )
    found.add("control", f"{clients}, events lost {lost:,}", lost > 0)
    return found.lines


def reloaded(when: float | None) -> str:
    return "never" if when is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def _reload(found: Lines, reload: Fields) -> None:
    """The error of the last reload, the keys that need a restart, the stale connections."""
    if not reload["successful"]:
        found.add("  failed", f"the previous configuration stays in force: {escaped(reload['error'])}", True)
    if reload["restart"]:
        found.add("  restart", f"needed for: {escaped(', '.join(reload['restart']))}")
    if reload["stale"]:
        found.add("  stale", f"{reload['stale']:,} connections that the current rules would not create")


def _steering(found: Lines, steering: Fields) -> None:
    if steering["installed"] is None:
        why = "a command changes the rules" if steering["held"] else escaped(steering["missing"])
        found.add("steering", f"not guarded: {why}")
        return
    state = "installed" if steering["installed"] else f"MISSING: {escaped(steering['missing'])}"
    table = steering["leak_table"]
    drops = f"; leak table dropped {steering['untranslated']:,}" if table == "in place" else ""
    held = f"; held by {steering['held']} command" if steering["held"] else ""
    text = f"{state}; guard {steering['guard']}, restored {steering['restored']:,}{drops}{held}"
    found.add("steering", text, not steering["installed"])
    if steering["error"]:
        found.add("  failed", escaped(steering["error"]), True)
    if table not in ("", "in place"):
        found.add("  leak table", f"none: {escaped(table)}", True)


def _journal(found: Lines, journal: Fields) -> None:
    """One line; none while the journal is off."""
    if journal["error"]:
        found.add("journal", f"NONE: {escaped(journal['error'])}", True)
    elif journal["enabled"]:
        refused, damaged = journal["refused"], journal["damaged"]
        lost = f", damaged {damaged:,}{_named(refused, ', ')}" if damaged or refused else ""
        texts = f"{journal['written']:,} written, {journal['unwritten']:,} unwritten"
        found.add("journal", f"{texts}; at the start {journal['restored']:,} restored{lost}", bool(damaged))
        if journal["side_unwritten"]:
            found.add("  no room", f"{journal['side_unwritten']:,} expectations or interfaces unwritten", True)


def _table(found: Lines, status: Fields) -> None:
    share = status["entries"] / status["limit"] if status["limit"] else 0.0
    full = f" of {status['limit']:,} ({percent(share)})" if status["limit"] else ", no limit"
    pending = f"unconfirmed {status['unconfirmed']:,}, dying {status['dying']:,}"
    found.add("table", f"{status['entries']:,}{full}; {pending}", share >= NEARLY_FULL)
    for proto, states in status["states"].items():
        found.add(f"  {proto}", f"{sum(states.values()):,}{_named({k: n for k, n in states.items() if k}, ': ')}")
    expected = status["expectations"]
    found.add("expectations", f"{expected['entries']:,} of {expected['limit']:,}")


def _nat(found: Lines, nat: Fields) -> None:
    refused = f"{nat['failures']:,} refused (no free port)"
    found.add("NAT", f"{nat['allocations']:,} mappings allocated, {refused}", nat["failures"] > 0)
    for pool in nat["pools"]:
        share = pool.get("share", 0.0)
        in_use = f", {percent(share)} of its ports in use" if "share" in pool else ""
        found.add(f"  {pool['address']}", f"{pool['connections']:,} connections{in_use}", share >= NEARLY_FULL)
        if "share" in pool:
            found.add("", _ports(pool["protocols"]))
    if nat["unpooled"]:
        found.add("  others", f"{nat['unpooled']:,} connections on addresses beyond the limit of the statistics")


def _ports(protocols: Fields) -> str:
    texts = []
    for proto, pool in protocols.items():
        of = f"{pool['ports']:,} of {pool['available']:,}" if "ports" in pool else f"{pool['connections']:,}"
        texts.append(f"{proto} {of}")
    return ", ".join(texts)


def _blocks(found: Lines, rows: Sequence[Fields]) -> None:
    """A line a rule: its blocks, and connections refused for want of a port in a block or slice."""
    for row in rows:
        share = row["in_use"] / row["limit"] if row["limit"] else 0.0
        texts = [f"{row['in_use']:,} of {row['limit']:,} port blocks in use ({percent(share)})"] if row["limit"] else []
        refused = row["no_block"] + row["host_limit"]
        what = "block" if row["limit"] else "port"
        why = f": no free {what} {row['no_block']:,}, limit of a host {row['host_limit']:,}" if refused else ""
        texts.append(f"{refused:,} refused{why}")
        found.add(f"  {row['rule']}", ", ".join(texts), share >= NEARLY_FULL or refused > 0)


def _nat_log(found: Lines, log: Fields) -> None:
    """None while it is off."""
    if log:
        texts = f"{log['lines']:,} lines, {log['waiting']:,} waiting, {log['lost']:,} lost"
        found.add("NAT log", f"{escaped(log['file'])}: {texts}", log["lost"] > 0)
        if log["error"]:
            found.add("  failed", f"lines wait: {escaped(log['error'])}", True)


def _targets(found: Lines, rows: Sequence[Fields]) -> None:
    if rows:
        down = [row["target"] for row in rows if row["down"]]
        named = f"; down: {escaped(', '.join(down[:NAMED]))}" if down else ""
        found.add("targets", f"{len(rows) - len(down)} of {len(rows)} up{named}", bool(down))


def _queues(found: Lines, status: Fields) -> None:
    for queue in status["queues"]:
        full, socket_full = queue["dropped"], queue["user_dropped"]
        dropped = f"dropped {full:,} (queue full), {socket_full:,} (socket full)"
        found.add(
            f"queue {queue['queue']}",
            f"{queue['name']}: {queue['waiting']:,} of {queue['limit']:,} waiting; {dropped}",
            full + socket_full > 0,
        )
        if queue["name"] == "new" and full:
            found.add("  overload", f"new connections refused (queue full): {full:,}", True)
    if status["mode"] == OBSERVE:
        copies = status["copies"]
        found.add(
            "copies",
            f"{copies['lost']:,} lost; translations learned {copies['translations']:,}, "
            f"losses {copies['translations_lost']:,}",
            copies["lost"] + copies["translations_lost"] > 0,
        )
    offload = status["offload"]
    if offload["on"] or offload["failures"]:
        state = "OFF: the kernel refused a request; see the log" if offload["failures"] else "on"
        text = f"{state}; {offload['connections']:,} connections, {offload['added']:,} since the start"
        found.add("offload", f"{text}, {offload['refused']:,} refused (limit)", offload["failures"] > 0)
    counters = status["queue"]
    texts = (
        f"{counters['enobufs']:,} ENOBUFS, {counters['verdict_errors']:,} verdict errors, "
        f"{counters['truncated']:,} truncated"
    )
    found.add("packets", texts, any(counters.values()))


def _named(counts: Mapping[str, int], before: str) -> str:
    """The largest counts by name and the sum of the others; empty without counts."""
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    texts = [f"{name} {count:,}" for name, count in ordered[:NAMED]]
    if len(ordered) > NAMED:
        texts.append(f"others {sum(count for _, count in ordered[NAMED:]):,}")
    return before + ", ".join(texts)

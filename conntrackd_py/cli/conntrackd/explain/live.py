"""`conntrackd-py explain --recent` and `--follow`: the packets that the daemon refused, and those that it refuses."""

import argparse
import json
import time

from msgspec import UNSET

from conntrackd_py.cli.conntrackd.options import RECENT_DEFAULT
from conntrackd_py.cli.stop import stop_signal
from conntrackd_py.control.client import Client, socket_path
from conntrackd_py.control.protocol.answers import Line
from conntrackd_py.control.protocol.requests import Recent


def request(args: argparse.Namespace, count: int, follow: bool) -> Recent:
    return Recent(
        count if args.last is None else args.last,
        follow,
        args.host or UNSET,
        UNSET if args.port is None else args.port,
        UNSET if args.proto is None else args.proto,
        tuple(args.reason),
    )


def recent(args: argparse.Namespace) -> int:
    with Client(socket_path(args.socket)) as client:
        for line in client.ask(request(args, RECENT_DEFAULT, follow=False)):
            if "done" in line:
                if not line["done"] and not args.json:
                    chosen = args.host or args.port is not None or args.proto is not None or args.reason
                    print(f"no {'such ' if chosen else ''}packet was refused, ignored or dropped yet")
                return 0
            show(args, line)
    return 1


def follow(args: argparse.Namespace) -> int:
    """Until SIGINT or SIGTERM."""
    with Client(socket_path(args.socket)) as client, stop_signal() as stop:
        for line in client.ask(request(args, 0, follow=True), stop):
            if "following" not in line:
                show(args, line)
    return 0


def show(args: argparse.Namespace, line: Line) -> None:
    if "recent" in line:
        print(json.dumps(line["recent"]) if args.json else recent_text(line["recent"]), flush=True)
    else:
        print(json.dumps(line) if args.json else not_shown_text(line["not_shown"]), flush=True)


def recent_text(note: Line) -> str:
    """Three lines: time, hook and reason; the packet; the explanation. A fourth for the connection, if any."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["time"]))
    lines = [f"#{note['sequence']}  {stamp}  {note['hook']}  {note['reason']}", note["text"], note["why"]]
    connection = note.get("connection")
    if connection:
        words = [f"connection {connection['id']}", connection.get("state", ""), *connection["status"]]
        lines.append(" ".join(word for word in words if word) + f", {connection['timeout']} s left")
    return "\n    ".join(lines) + "\n"


def not_shown_text(missed: Line) -> str:
    """`-- not shown: 30 packets over the rate, 5 overwritten before they were read`."""
    parts = []
    if missed["over_rate"]:
        parts.append(f"{missed['over_rate']} over the rate")
    if missed["overwritten"]:
        parts.append(f"{missed['overwritten']} overwritten before they were read")
    return f"--  refused packets not shown: {', '.join(parts)}\n"

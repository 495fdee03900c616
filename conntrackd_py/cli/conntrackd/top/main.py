"""`conntrackd-py top`: the table, the traffic and the hosts, live in the terminal, or as text or JSON.

Each sample is one request on a connection of its own; the daemon keeps no state for it. A frame is the difference of
two samples (rates.py).
"""

import argparse
import json
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import convert

from conntrackd_py.cli.conntrackd.options import TOP_HOSTS_LIMIT
from conntrackd_py.cli.conntrackd.top.rates import Frame, frame
from conntrackd_py.cli.stdout import discard_stdout
from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.answers import Line
from conntrackd_py.control.protocol.requests import Top

if TYPE_CHECKING:
    from rich.console import Console

    from conntrackd_py.cli.conntrackd.top.screen import View
    from conntrackd_py.cli.conntrackd.top.terminal import Terminal

HOSTS: Final = 20  # without a terminal
FIRST: Final = 0.5  # seconds until the first frame of the live view
GROWTH: Final = 10  # samples over which the table's growth is averaged
ATTEMPTS: Final = 5  # samples at most until the daemon has counted the hosts twice
OF_THE_WALK: Final = ("hosts", "counted", "pools", "unpooled")
WIDTH: Final = 100  # columns of plain text, unless COLUMNS is set
SORTS: Final = {"c": "connections", "b": "bytes", "n": "new"}
FAMILIES: Final = {"4": "ipv4", "6": "ipv6", "a": ""}


def main(args: argparse.Namespace) -> int:
    """0, also after q or Ctrl-C; 1 if no daemon answers."""
    try:
        if args.json or args.once or not sys.stdout.isatty():
            return printed(args)
        return live(args)
    except ClientError as error:
        print(f"conntrackd-py top: {escaped(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        discard_stdout()
        return 0
    except KeyboardInterrupt:
        return 0


class Samples:
    """The last answers of the daemon. Raises ClientError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kept: deque[Line] = deque(maxlen=GROWTH)

    def take(self, hosts: int, sort: str, family: str) -> None:
        answer = self._ask(hosts, sort, family)
        if self.kept and answer["clock"] < self.kept[-1]["clock"]:
            self.kept.clear()  # another daemon, after a reboot
        self.kept.append(answer)

    def recount(self, hosts: int, sort: str, family: str) -> None:
        """Ask again for hosts and pools only. The counters stay: rates are always those of a whole interval."""
        answer = self._ask(hosts, sort, family)
        self.kept[-1] = {**self.kept[-1], **{key: answer[key] for key in OF_THE_WALK}}

    @property
    def has_host_rates(self) -> bool:
        """Whether the daemon has counted the hosts twice: only then their rates are known."""
        return bool(self.kept) and "period" in self.kept[-1]["counted"]

    def _ask(self, hosts: int, sort: str, family: str) -> Line:
        request = convert({"hosts": hosts, "sort": sort, "family": family}, Top)
        with Client(self.path) as client:
            answer: Line = next(client.ask(request))["top"]
        return answer

    def frame(self) -> Frame:
        """The rates between the last two samples."""
        return frame(self.kept[-2], self.kept[-1], self.kept[0])


def printed(args: argparse.Namespace) -> int:
    """Print frames as text or JSON."""
    samples = Samples(socket_path(args.socket))
    hosts = HOSTS if args.hosts is None else args.hosts
    samples.take(hosts, args.sort, args.family)
    for _ in range(1 if args.once else args.count or 1):
        for _ in range(ATTEMPTS):
            time.sleep(args.interval)
            samples.take(hosts, args.sort, args.family)
            if samples.has_host_rates:
                break
        if args.json:
            print(json.dumps(samples.frame()), flush=True)
        else:
            _print(samples.frame(), args)
    return 0


def _print(made: Frame, args: argparse.Namespace) -> None:
    from rich.console import Console

    from conntrackd_py.cli.conntrackd.top.screen import View, draw

    columns = os.environ.get("COLUMNS", "")
    console = Console(width=int(columns) if columns.isdigit() and int(columns) else WIDTH, highlight=False)
    console.print(draw(made, View(args.sort, args.family, args.interval)))
    sys.stdout.flush()


def live(args: argparse.Namespace) -> int:
    from rich.console import Console

    from conntrackd_py.cli.conntrackd.top.screen import View
    from conntrackd_py.cli.conntrackd.top.terminal import Terminal

    samples = Samples(socket_path(args.socket))
    samples.take(0, args.sort, args.family)  # without a daemon, fail before the screen is cleared
    console = Console(highlight=False)
    with Terminal() as terminal:
        _watch(samples, console, terminal, View(args.sort, args.family, args.interval), args)
    return 0


def _watch(samples: Samples, console: "Console", terminal: "Terminal", view: "View", args: argparse.Namespace) -> None:
    from rich.control import Control

    from conntrackd_py.cli.conntrackd.top.screen import draw, rows_for

    def host_rows() -> int:
        return min(rows_for(console.height) if args.hosts is None else args.hosts, TOP_HOSTS_LIMIT)

    left = args.count or -1
    due = time.monotonic() + min(FIRST, args.interval)
    with console.screen() as screen:
        while left:
            keys = terminal.wait(due - time.monotonic())
            if "q" in keys:
                return
            before, view = view, _changed(view, keys)
            if time.monotonic() >= due:
                samples.take(host_rows(), view.sort, view.family)
                due = time.monotonic() + view.interval
                left -= 1
            elif view != before and len(samples.kept) > 1:
                samples.recount(host_rows(), view.sort, view.family)
            if len(samples.kept) > 1:
                made = samples.frame()
                made["hosts"] = made["hosts"][: host_rows()]  # the window may have become smaller
                with console:  # one write
                    console.control(Control.home())
                    screen.update(draw(made, view, keys=terminal.keys))


def _changed(view: "View", keys: str) -> "View":
    for key in keys:
        if key in SORTS:
            view = view._replace(sort=SORTS[key])
        elif key in FAMILIES:
            view = view._replace(family=FAMILIES[key])
    return view

"""The commands of conntrack-py: each checks what it was told, asks the daemon, prints what comes, and says how much.

A command gets the parsed line and a way to connect, so that a mistake in the line is told before a daemon is needed.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from msgspec import UNSET, convert
from msgspec.structs import replace

from conntrackd_py.cli.conntrack import filter as options
from conntrackd_py.cli.conntrack.format import json_line, stats_line
from conntrackd_py.cli.conntrack.output import Output, tell
from conntrackd_py.cli.conntrack.parse import Parsed
from conntrackd_py.cli.conntrack.values import number
from conntrackd_py.control.client import Client, ClientError
from conntrackd_py.control.protocol import requests
from conntrackd_py.control.protocol.requests import Change, Filter, Request

Connect = Callable[[], Client]
Fields = dict[str, Any]

EVENT_BYTES: Final = 256  # what conntrack(8) would need for one: -b in bytes becomes room for so many events


def run_command(parsed: Parsed, connect: Connect) -> int:
    commands = EXPECT if parsed.table == "expect" else RUN
    return commands[parsed.command](parsed, connect)


# --- answers ------------------------------------------------------------------------------------------


def one(connect: Connect, request: Request) -> Fields:
    """The first line of the answer."""
    with connect() as client:
        return next(client.ask(request))


def answers(connect: Connect, request: Request) -> Iterator[Fields]:
    """The lines of the answer, the last of them with `done`."""
    with connect() as client:
        for line in client.ask(request):
            yield line
            if "done" in line:
                return
    raise ClientError("the answer has no end")


def entries(connect: Connect, request: Request, what: str, done: list[int]) -> Iterator[Fields]:
    """The entries of the answer; afterwards `done` holds how many the daemon says there were."""
    for line in answers(connect, request):
        if "failed" in line:
            tell(f"Operation failed: {line['failed']}")
        if "done" in line:
            done.append(line["done"])
        else:
            yield line[what]


def shown(found: Iterator[Fields], render: Callable[[Fields], str], output: Output, root: str) -> int:
    """Print each as it comes; root: of the XML document they stand in, if in one. How many."""
    count = 0
    for entry in found:
        if not count and root:
            output.head(root)
        print(render(entry))
        count += 1
    if count and root:
        output.foot(root)
    sys.stdout.flush()
    return count


# --- connections --------------------------------------------------------------------------------------


def show(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    limit = number(parsed.values["limit"]) if "limit" in parsed.values else None
    request = requests.List(convert(parsed.table, requests.Table), options.filter_of(parsed.values))
    request = replace(request, zero="zero" in parsed.values)
    done: list[int] = []
    if "sort" in parsed.values:
        from conntrackd_py.cli.conntrack.sort import key_of, ordered

        key = key_of(parsed.values["sort"])
        found = ordered(entries(connect, request, "ct", done), key, limit)
    else:
        if limit is not None:
            request = replace(request, limit=limit)
        found = entries(connect, request, "ct", done)
    count = shown(found, output.connection, output, "conntrack")
    tell(f"{count} flow entries have been shown.")
    return 0


def get(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    wanted = options.filter_of({key: parsed.values[key] for key in ("proto", "state", "label") if key in parsed.values})
    request = requests.Get(options.tuple_of(parsed.values))
    fitting = (ct for ct in entries(connect, request, "ct", []) if fits(ct, wanted))
    count = shown(fitting, lambda ct: output.connection(ct, use=2), output, "conntrack")
    tell(f"{count} flow entries have been shown.")
    return 0 if count else 1


def fits(ct: Fields, wanted: Filter) -> bool:
    """What -G may ask beyond the tuple."""
    if wanted.state is not UNSET and ct.get("state") != wanted.state:
        return False
    return wanted.labels is UNSET or set(wanted.labels) <= set(ct.get("labels", ()))


def delete(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    request = requests.Delete(filter=options.filter_of(parsed.values))
    count = shown(entries(connect, request, "ct", []), lambda ct: output.connection(ct, command="-D"), output, "")
    tell(f"{count} flow entries have been deleted.")
    return 0 if count else 1


def update(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    matching, changes = options.update(parsed.values)
    done = [0]
    if changes != Change():
        request = requests.Update(changes, matching)
        shown(entries(connect, request, "ct", done), lambda ct: output.connection(ct, use=2), output, "")
    tell(f"{done[-1]} flow entries have been updated.")
    return 0 if done[-1] else 1


def create(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    exclusive = parsed.command == "I"
    request = requests.Create(ct=options.creation(parsed.values), exclusive=exclusive)
    done: list[int] = []
    for ct in entries(connect, request, "ct", done):
        if output.json:
            print(json_line(ct))
    tell(f"{done[-1]} flow entries have been {'created' if exclusive else 'added'}.")
    return 0


def flush(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    answer = one(connect, requests.Flush(filter=options.filter_of(parsed.values)))
    return emptied(output, answer, "connection tracking table has been emptied.")


def emptied(output: Output, answer: Fields, text: str) -> int:
    if output.json:
        print(json_line({"flushed": answer["done"]}))
    tell(text)
    return 0


def count(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    answer = one(connect, requests.Counts(convert(parsed.table, requests.KeptTable)))
    print(json_line(answer) if output.json else answer["count"])
    return 0


def stats(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    for row in one(connect, requests.Stats(convert(parsed.table, requests.KeptTable)))["stats"]:
        print(json_line(row) if output.json else stats_line(row))
    return 0


# --- events -------------------------------------------------------------------------------------------


def events(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    expectations = parsed.table == "expect"
    sized = "buffer" in parsed.values
    request = requests.Events(
        "expect" if expectations else "conntrack",
        options.event_mask(parsed.values),
        options.filter_of(parsed.values),
        number(parsed.values["buffer"]) // EVENT_BYTES if sized else UNSET,
    )
    render = output.expectation if expectations else output.event
    root = "expect" if expectations else "conntrack"
    count = 0
    with connect() as client, stop_signal() as stop:
        try:
            for line in client.ask(request, stop):
                if "event" in line:
                    if not count:
                        output.head(root)
                    print(render(line["event"]), flush=True)
                    count += 1
                elif "lost" in line:
                    output.lost(line["lost"])
                elif sized:
                    print(f"NOTICE: {line['buffer']} events may wait to be shown.", file=sys.stderr)
        finally:
            if count:
                output.foot(root)
            tell(f"{count} {'expectation' if expectations else 'flow'} events have been shown.")
    return 0


@contextmanager
def stop_signal() -> Iterator[int]:
    """A file descriptor that becomes readable at SIGINT or SIGTERM, so that no line is cut in half."""
    import os

    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *unused: None) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


# --- expectations -------------------------------------------------------------------------------------


def show_expectations(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    limit = number(parsed.values["limit"]) if "limit" in parsed.values else UNSET
    request = requests.List("expect", options.filter_of(parsed.values), limit)
    count = shown(entries(connect, request, "expect", []), output.expectation, output, "expect")
    tell(f"{count} expectations have been shown.")
    return 0


def get_expectation(parsed: Parsed, connect: Connect) -> int:
    return _one_expectation(parsed, connect, requests.Get(options.tuple_of(parsed.values), "expect"), "shown")


def delete_expectation(parsed: Parsed, connect: Connect) -> int:
    request = requests.Delete("expect", tuple=options.tuple_of(parsed.values))
    return _one_expectation(parsed, connect, request, "deleted")


def _one_expectation(parsed: Parsed, connect: Connect, request: Request, done: str) -> int:
    output = Output(parsed.values)
    count = shown(entries(connect, request, "expect", []), output.expectation, output, "expect")
    tell(f"{count} expectations have been {done}.")
    return 0


def create_expectation(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    request = requests.Create("expect", expect=options.expectation(parsed.values))
    for known in entries(connect, request, "expect", []):
        if output.json:
            print(json_line(known))
    return 0


def flush_expectations(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    answer = one(connect, requests.Flush("expect"))
    return emptied(output, answer, "expectation table has been emptied.")


Command = Callable[[Parsed, Connect], int]

RUN: Final[dict[str, Command]] = {
    "L": show,
    "G": get,
    "D": delete,
    "I": create,
    "A": create,
    "U": update,
    "E": events,
    "F": flush,
    "C": count,
    "S": stats,
}
EXPECT: Final[dict[str, Command]] = {
    "L": show_expectations,
    "G": get_expectation,
    "D": delete_expectation,
    "I": create_expectation,
    "E": events,
    "F": flush_expectations,
    "C": count,
    "S": stats,
}

"""The commands of conntrack-py: each checks its options, asks the daemon, prints the answer and a count.

A command connects only after the checks: a usage error needs no daemon.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import UNSET, convert
from msgspec.structs import replace

from conntrackd_py.cli.conntrack.format import json_line, stats_line
from conntrackd_py.cli.conntrack.options import MAPPINGS
from conntrackd_py.cli.conntrack.output import Output, report
from conntrackd_py.cli.conntrack.parse import Parsed
from conntrackd_py.cli.conntrack.request import change, event_mask, expectation, filter_of, tuple_of
from conntrackd_py.cli.conntrack.values import number
from conntrackd_py.cli.conntrackd.mappings import line as mapping_line
from conntrackd_py.cli.stop import stop_signal
from conntrackd_py.control.client import Client, ClientError
from conntrackd_py.control.protocol import requests
from conntrackd_py.control.protocol.requests import Filter, Request

Connect = Callable[[], Client]
Fields = dict[str, Any]

EVENT_BYTES: Final = 256  # of one event in conntrack(8)'s buffer; -b is converted to a number of events


def run_command(parsed: Parsed, connect: Connect) -> int:
    if parsed.table == MAPPINGS:
        return show_mappings(parsed, connect)
    commands = RUN | EXPECT if parsed.table == "expect" else RUN
    return commands[parsed.command](parsed, connect)


def one(connect: Connect, request: Request) -> Fields:
    """The first line of the answer."""
    with connect() as client:
        return next(client.ask(request))


def answers(connect: Connect, request: Request) -> Iterator[Fields]:
    """The lines of the answer; the last one has `done`."""
    with connect() as client:
        for line in client.ask(request):
            yield line
            if "done" in line:
                return
    raise ClientError("the daemon closed the connection before the end of the answer")


def entries(connect: Connect, request: Request, key: str = "ct", done: list[int] | None = None) -> Iterator[Fields]:
    """The entries of the answer. At the end their number, by the daemon's count, is appended to `done`."""
    for line in answers(connect, request):
        if "failed" in line:
            report(f"Operation failed: {line['failed']}")
        if "done" in line:
            if done is not None:
                done.append(line["done"])
        else:
            yield line[key]


def shown(found: Iterator[Fields], render: Callable[[Fields], str], output: Output, root: str) -> int:
    """Print each entry at once; returns their number. root: the root element with -o xml; empty: none."""
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


def show(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    expect = parsed.table == "expect"
    request = requests.List(
        convert(parsed.table, requests.Table), filter_of(parsed.values), zero="zero" in parsed.values
    )
    limit = number(parsed.values["limit"]) if "limit" in parsed.values else None
    if "sort" in parsed.values:
        from conntrackd_py.cli.conntrack.sort import key_of, ordered

        key = key_of(parsed.values["sort"])
        found = ordered(entries(connect, request), key, limit)
    else:
        if limit is not None:
            request = replace(request, limit=limit)
        found = entries(connect, request, "expect" if expect else "ct")
    if expect:
        report(f"{shown(found, output.expectation, output, 'expect')} expectations have been shown.")
    else:
        report(f"{shown(found, output.connection, output, 'conntrack')} flow entries have been shown.")
    return 0


def show_mappings(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    count = 0
    for answer in answers(connect, requests.Mappings()):
        for row in answer.get("mappings", []):
            print(json_line(row) if output.json else mapping_line(row))
            count += 1
    report(f"{count} mappings have been shown.")
    return 0


def get(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    wanted = filter_of({key: parsed.values[key] for key in ("proto", "state", "label") if key in parsed.values})
    request = requests.Get(tuple_of(parsed.values))
    matching = (ct for ct in entries(connect, request) if matches(ct, wanted))
    count = shown(matching, lambda ct: output.connection(ct, use=2), output, "conntrack")
    report(f"{count} flow entries have been shown.")
    return 0 if count else 1


def matches(ct: Fields, wanted: Filter) -> bool:
    """Whether a connection matches the options of -G that are not part of the tuple."""
    if wanted.state is not UNSET and ct.get("state") != wanted.state:
        return False
    return wanted.labels is UNSET or set(wanted.labels) <= set(ct.get("labels", ()))


def delete(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    count = shown(entries(connect, change(parsed)), lambda ct: output.connection(ct, command="-D"), output, "")
    report(f"{count} flow entries have been deleted.")
    return 0 if count else 1


def update(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    request = change(parsed)
    done = [0]
    if not isinstance(request, requests.Update) or request.set != requests.Change():
        shown(entries(connect, request, "ct", done), lambda ct: output.connection(ct, use=2), output, "")
    report(f"{done[-1]} flow entries have been updated.")
    return 0 if done[-1] else 1


def create(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    done: list[int] = []
    for ct in entries(connect, change(parsed), "ct", done):
        if output.json:
            print(json_line(ct))
    report(f"{done[-1]} flow entries have been {'created' if parsed.command == 'I' else 'added'}.")
    return 0


def flush(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    expect = parsed.table == "expect"
    answer = one(connect, requests.Flush("expect") if expect else change(parsed))
    if output.json:
        print(json_line({"flushed": answer["done"]}))
    report(f"{'expectation' if expect else 'connection tracking'} table has been emptied.")
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


def events(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    expectations = parsed.table == "expect"
    sized = "buffer" in parsed.values
    request = requests.Events(
        "expect" if expectations else "conntrack",
        event_mask(parsed.values),
        filter_of(parsed.values),
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
                    print(f"NOTICE: up to {line['buffer']} events are buffered.", file=sys.stderr)
        finally:
            if count:
                output.foot(root)
            report(f"{count} {'expectation' if expectations else 'flow'} events have been shown.")
    return 0


def one_expectation(parsed: Parsed, connect: Connect) -> int:
    """-G or -D of one expectation."""
    output = Output(parsed.values)
    wanted = tuple_of(parsed.values)
    request = requests.Get(wanted, "expect") if parsed.command == "G" else requests.Delete("expect", tuple=wanted)
    done = "shown" if parsed.command == "G" else "deleted"
    count = shown(entries(connect, request, "expect"), output.expectation, output, "expect")
    report(f"{count} expectations have been {done}.")
    return 0


def create_expectation(parsed: Parsed, connect: Connect) -> int:
    output = Output(parsed.values)
    request = requests.Create("expect", expect=expectation(parsed.values))
    for known in entries(connect, request, "expect"):
        if output.json:
            print(json_line(known))
    return 0


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
EXPECT: Final[dict[str, Command]] = {"G": one_expectation, "D": one_expectation, "I": create_expectation}

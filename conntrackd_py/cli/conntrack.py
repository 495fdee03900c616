"""conntrack-py: conntrack(8) for this daemon's table. Same options, same lines, same exit statuses.

Exit status: 0 done, 1 failed or nothing deleted, 2 wrong usage, 130 interrupted, 141 the reader of stdout left.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from conntrackd_py import __version__
from conntrackd_py.cli.client import Client, ClientError, socket_path
from conntrackd_py.cli.conntrack_options import Parsed, UsageError, parse, usage
from conntrackd_py.cli.filter import event_mask, filter_of
from conntrackd_py.cli.format import connection_line, event_line, expectation_line, json_line, stats_line

PROGRAM: Final = "conntrack-py"
NAME: Final = f"{PROGRAM} v{__version__} (conntrackd-py)"
FORMS: Final = ("extended", "timestamp", "id", "ktimestamp", "labels", "json")
LATER: Final = ("xml", "save", "userspace")
INTERRUPTED: Final = 128 + signal.SIGINT
STDOUT_GONE: Final = 128 + signal.SIGPIPE


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    try:
        status = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except UsageError as error:
        tell(f"{error}\nTry `{PROGRAM} -h' or '{PROGRAM} --help' for more information.")
        return 2
    except ClientError as error:
        tell(str(error))
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
        return STDOUT_GONE
    except KeyboardInterrupt:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except OSError as error:
        tell(f"cannot write: {error.strerror or error}")
        return 1


def run(arguments: list[str]) -> int:
    """Raises UsageError, ClientError, and OSError of stdout."""
    parsed = parse(arguments)
    if parsed.command in ("", "h"):
        print(usage(PROGRAM, __version__))
        return 0
    if parsed.command == "V":
        print(NAME)
        return 0
    if parsed.table == "expect":
        return EXPECT[parsed.command](parsed)
    return RUN[parsed.command](parsed)


def tell(text: str) -> None:
    print(f"{NAME}: {text}", file=sys.stderr)


def connected(parsed: Parsed) -> Client:
    return Client(socket_path(parsed.values.get("socket")))


def output_of(parsed: Parsed) -> frozenset[str]:
    """The forms of -o. Raises UsageError."""
    text = parsed.values.get("output")
    if text is None:
        return frozenset()
    forms = frozenset(text.lower().split(","))
    for form in forms:
        if form in LATER:
            raise UsageError(f"output `{form}' is not supported yet")
        if form not in FORMS:
            raise UsageError(f"Bad parameter `{form}'")
    if "json" in forms and len(forms) > 1:
        raise UsageError("cannot combine json output with any other output type, use -o json only")
    return forms


def show(parsed: Parsed) -> int:
    output = output_of(parsed)
    request = {"command": "list", "table": parsed.table, "filter": filter_of(parsed.values)}
    shown = _print_all(parsed, request, output)
    tell(f"{shown} flow entries have been shown.")
    return 0


def delete(parsed: Parsed) -> int:
    output = output_of(parsed)
    deleted = _print_all(parsed, {"command": "delete", "filter": filter_of(parsed.values)}, output)
    tell(f"{deleted} flow entries have been deleted.")
    return 0 if deleted else 1


def _print_all(parsed: Parsed, request: dict[str, Any], output: frozenset[str]) -> int:
    names = names_for(output)
    with connected(parsed) as client:
        for line in client.ask(request):
            if "done" in line:
                sys.stdout.flush()
                return int(line["done"])
            print(_line(line, output, names))
    raise ClientError("the answer has no end")


def _line(line: dict[str, Any], output: frozenset[str], names: Mapping[int, str]) -> str:
    described: dict[str, Any] = line["ct"] if "ct" in line else line["expect"]
    if "json" in output:
        return json_line(described)
    return connection_line(described, output, names) if "ct" in line else expectation_line(described, output)


def names_for(output: frozenset[str]) -> Mapping[int, str]:
    if "labels" not in output:
        return {}
    from conntrackd_py.cli.labels import label_names  # pathlib takes longer to import than all of this command

    return label_names()


def events(parsed: Parsed) -> int:
    output = output_of(parsed)
    names = names_for(output)
    request = {"command": "events", "filter": filter_of(parsed.values), "mask": event_mask(parsed.values)}
    shown = 0
    with connected(parsed) as client, stop_signal() as stop:
        try:
            for line in client.ask(request, stop):
                if "event" in line:
                    event = line["event"]
                    print(json_line(event) if "json" in output else event_line(event, output, names), flush=True)
                    shown += 1
                elif "lost" in line:
                    tell(f"{line['lost']} events were lost here: too many to read in time")
        finally:
            tell(f"{shown} flow events have been shown.")
    return 0


@contextmanager
def stop_signal() -> Iterator[int]:
    """A file descriptor that becomes readable at SIGINT or SIGTERM, so that no line is cut in half."""
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


def flush(parsed: Parsed) -> int:
    _one(parsed, {"command": "flush"})
    tell("connection tracking table has been emptied.")
    return 0


def count(parsed: Parsed) -> int:
    print(_one(parsed, {"command": "count", "table": parsed.table})["count"])
    return 0


def stats(parsed: Parsed) -> int:
    for row in _one(parsed, {"command": "stats", "table": parsed.table})["stats"]:
        print(stats_line(row))
    return 0


def _one(parsed: Parsed, request: dict[str, Any]) -> dict[str, Any]:
    with connected(parsed) as client:
        return next(client.ask(request))


def show_expectations(parsed: Parsed) -> int:
    output = output_of(parsed)
    request = {"command": "list", "table": "expect", "filter": filter_of(parsed.values)}
    shown = _print_all(parsed, request, output)
    tell(f"{shown} expectations have been shown.")
    return 0


def flush_expectations(parsed: Parsed) -> int:
    _one(parsed, {"command": "flush", "table": "expect"})
    tell("expectation table has been emptied.")
    return 0


def _unsupported(parsed: Parsed) -> int:
    raise UsageError("expectations can be listed, counted and flushed only")


RUN: Final = {"L": show, "D": delete, "E": events, "F": flush, "C": count, "S": stats}
EXPECT: Final = {
    "L": show_expectations,
    "F": flush_expectations,
    "C": count,
    "S": stats,
    "D": _unsupported,
    "E": _unsupported,
}

if __name__ == "__main__":
    sys.exit(main())

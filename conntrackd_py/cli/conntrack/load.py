"""-R: carry out the commands in a file, a line each, as `-o save` writes them. # begins a comment line.

As in conntrack(8): the whole file is read and checked before anything is done; -A of what is there is no mistake; the
first command that fails ends it; only -F says what it did. A line is split at blanks, nothing is quoted.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final, TextIO

from conntrackd_py.cli.conntrack import filter as options
from conntrackd_py.cli.conntrack.output import tell
from conntrackd_py.cli.conntrack.parse import Parsed, parse
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.control.client import Client, ClientError
from conntrackd_py.control.protocol.requests import Create, Delete, Flush, Request, Update

ALLOWED: Final = "AIDUF"

Connect = Callable[[], Client]


def load(path: str, connect: Connect) -> int:
    """Raises UsageError for a line that makes no sense and ClientError for one that failed, both with its number."""
    with opened(path) as file:
        requests = [(at, request) for at, line in enumerate(file, 1) for request in requests_of(at, line)]
    if not requests:
        return 0
    with connect() as client:
        for at, request in requests:
            try:
                carry_out(client, request)
            except ClientError as error:
                raise ClientError(f"line {at}: {error}") from error
    return 0


def carry_out(client: Client, request: Request) -> None:
    for line in client.ask(request):
        if "done" in line:
            break
    if isinstance(request, Flush):
        tell("connection tracking table has been emptied.")


@contextmanager
def opened(path: str) -> Iterator[TextIO]:
    try:
        with nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8") as file:  # noqa: PTH123  slow
            yield file
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Failed to open file {path} for reading: {error}") from error


def requests_of(at: int, line: str) -> list[Request]:
    words = line.split()
    if not words or words[0].startswith("#"):
        return []
    try:
        return [request_of(parse(words))]
    except UsageError as error:
        raise UsageError(f"line {at}: {error}") from error


def request_of(parsed: Parsed) -> Request:
    """Raises UsageError for a command that has no place in a file."""
    if not parsed.command or parsed.command not in ALLOWED or parsed.table != "conntrack":
        raise UsageError(f"Cannot use command `-{parsed.command}' with --load-file")
    if parsed.command in "AI":
        exclusive = parsed.command == "I"
        return Create(ct=options.creation(parsed.values), exclusive=exclusive)
    if parsed.command == "U":
        matching, changes = options.update(parsed.values)
        return Update(changes, matching)
    command = Delete if parsed.command == "D" else Flush
    return command(filter=options.filter_of(parsed.values))

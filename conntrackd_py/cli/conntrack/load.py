"""-R: executes the commands in a file, one a line, as `-o save` writes them. # begins a comment line.

As in conntrack(8): the whole file is checked first; -A of an existing connection is no error; the first command that
fails ends it; only -F prints a message. A line is split at blanks, without quoting.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final, TextIO

from conntrackd_py.cli.conntrack.output import report
from conntrackd_py.cli.conntrack.parse import Parsed, parse
from conntrackd_py.cli.conntrack.request import change
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.control.client import Client, ClientError
from conntrackd_py.control.protocol.requests import Flush, Request

ALLOWED: Final = "AIDUF"

Connect = Callable[[], Client]


def load(path: str, connect: Connect) -> int:
    """Raises UsageError for a wrong line and ClientError for a command that failed, both with the line number."""
    with opened(path) as file:
        requests = [(at, request) for at, line in enumerate(file, 1) for request in requests_of(at, line)]
    if not requests:
        return 0
    with connect() as client:
        for at, request in requests:
            try:
                execute(client, request)
            except ClientError as error:
                raise ClientError(f"line {at}: {error}") from error
    return 0


def execute(client: Client, request: Request) -> None:
    for line in client.ask(request):
        if "done" in line:
            break
    if isinstance(request, Flush):
        report("connection tracking table has been emptied.")


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
    """Raises UsageError for a command that is not allowed in a file."""
    if not parsed.command or parsed.command not in ALLOWED or parsed.table != "conntrack":
        raise UsageError(f"Cannot use command `-{parsed.command}' with --load-file")
    return change(parsed)

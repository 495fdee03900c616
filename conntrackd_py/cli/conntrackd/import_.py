"""`conntrackd-py import`: gives the daemon the connections of an export.

Connections with a master come after all others, so that it finds the master. The file is read once, as a stream.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final, final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Import
from conntrackd_py.control.transfer.form import READABLE, VERSION
from conntrackd_py.control.transfer.transfer import COLLIDES, EXISTS, FORMAT, IMPORTED, REPLACED, WRONG

A_REQUEST: Final = 32_768  # bytes, less than control.max_request
CONNECTIONS: Final = 256  # in a request
LONGEST: Final = 16_384  # bytes of a line
SHOWN: Final = 50  # errors printed
COMPLETE: Final = 0
FAILED: Final = 1
PARTLY: Final = 3  # some were not imported
QUIET: Final = (IMPORTED, REPLACED, EXISTS)
_line: Final = Decoder(dict[str, Raw]).decode

Batch = list[tuple[int, Raw]]


class FormatError(Exception):
    """The file is not an export, or one of another version."""


def main(args: argparse.Namespace) -> int:
    """COMPLETE; PARTLY if some connections were not imported; FAILED if it stopped, or the file is truncated."""
    source = sys.stdin.buffer
    try:
        if args.file != "-":
            source = Path(args.file).open("rb")  # noqa: SIM115  closed below
        with closing(source), Client(socket_path(args.socket)) as client:
            reading = Reading(client, source, args.first, replace=args.replace)
            reading.run()
    except (ClientError, FormatError, OSError) as error:
        text = f"{args.file}: {error.strerror}" if isinstance(error, OSError) else str(error)
        sys.stderr.write(f"conntrackd-py import: {escaped(text)}\n")
        return FAILED
    print(json.dumps(reading.report()) if args.json else reading.summary())
    return reading.status


@final
class Reading:
    """One import. first: number of the first line to import; the first of the file is 1."""

    def __init__(self, client: Client, source: IO[bytes], first: int, *, replace: bool) -> None:
        self.client = client
        self.source = source
        self.first = first
        self.replace = replace
        self.counts: dict[str, int] = {}
        self.errors = 0
        self.found = 0  # connections in the file
        self.announced = -1  # by its last line
        self.done = 0  # the last line that the daemon has answered

    @property
    def status(self) -> int:
        if self.announced != self.found:
            return FAILED
        return PARTLY if any(self.counts.get(name) for name in self.counts if name not in QUIET) else COMPLETE

    def run(self) -> None:
        """Raises ClientError, FormatError and OSError."""
        children: Batch = []
        batch: Batch = []
        size = 0
        try:
            for number, text, has_master in self._connections():
                (children if has_master else batch).append((number, text))
                size += 0 if has_master else len(bytes(text))
                if size >= A_REQUEST or len(batch) >= CONNECTIONS:
                    self._send(batch)
                    self.done, batch, size = number, [], 0
            self._send(batch)
            for at in range(0, len(children), 16):
                self._send(children[at : at + 16])
        except ClientError as error:
            raise ClientError(f"{error}; continue with --from {self.done + 1}") from error

    def _connections(self) -> Iterator[tuple[int, Raw, bool]]:
        """(line, connection, whether it has a master), from line `first` on."""
        for number, raw in enumerate(iter(lambda: self.source.readline(LONGEST), b""), 1):
            try:
                line = _line(raw)
            except (DecodeError, RecursionError, ValueError) as error:
                if number == 1:
                    raise FormatError("line 1: not an export of conntrackd-py") from error
                self._wrong(number, f"not JSON: {error}")
                continue
            if number == 1:
                _check_head(line)
            elif "connections" in line:
                self.announced = _number(line["connections"])
                break
            elif "connection" not in line:
                self._wrong(number, "neither a connection nor the last line")
            else:
                self.found += 1
                text = line["connection"]
                if number >= self.first:
                    yield number, text, b'"master":' in bytes(text)
        if self.announced != self.found:
            announced = "no last line" if self.announced < 0 else f"its last line announces {self.announced:,}"
            self._say(f"the file is truncated or damaged: {self.found:,} connections found, {announced}")

    def _send(self, batch: Batch) -> None:
        if not batch:
            return
        request = Import(tuple(text for _, text in batch), replace=self.replace)
        outcomes = next(self.client.ask(request))["import"]
        for (number, _), (outcome, why) in zip(batch, outcomes, strict=True):
            self.counts[outcome] = self.counts.get(outcome, 0) + 1
            if outcome not in QUIET:
                self._complain(number, why)

    def _wrong(self, number: int, why: str) -> None:
        if number >= self.first:
            self.counts[WRONG] = self.counts.get(WRONG, 0) + 1
            self._complain(number, why)

    def _complain(self, number: int, why: str) -> None:
        self.errors += 1
        if self.errors <= SHOWN:
            self._say(f"line {number}: {why}")
        elif self.errors == SHOWN + 1:
            self._say("further errors are only counted")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"conntrackd-py import: {escaped(text)}\n")

    def report(self) -> dict[str, Any]:
        return {"outcomes": self.counts, "complete": self.announced == self.found}

    def summary(self) -> str:
        parts = [f"{self.counts.get(IMPORTED, 0):,} imported", f"{self.counts.get(EXISTS, 0):,} existed"]
        for name, text in ((REPLACED, "replaced others"), (COLLIDES, "refused: collided"), (WRONG, "wrong")):
            if self.counts.get(name):
                parts.append(f"{self.counts[name]:,} {text}")
        others = {*self.counts} - {*QUIET, COLLIDES, WRONG}
        parts += [f"{self.counts[name]:,} refused: {name.replace('_', ' ')}" for name in sorted(others)]
        return ", ".join(parts)


def _check_head(line: dict[str, Raw]) -> None:
    try:
        head = json.loads(bytes(line["export"]))
        name, version = head["format"], head["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("line 1: not an export of conntrackd-py") from error
    if name != FORMAT or version not in READABLE:
        raise FormatError(f"line 1: version {version} of {name}; this program reads version {VERSION} of {FORMAT}")


def _number(text: Raw) -> int:
    value = json.loads(bytes(text))
    return value if isinstance(value, int) else -1

"""Prints connections and events in the form of -o, and messages on standard error."""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from conntrackd_py import __version__
from conntrackd_py.cli.conntrack.format import (
    connection_line,
    event_line,
    expectation_event_line,
    expectation_line,
    json_line,
    origin,
)
from conntrackd_py.cli.conntrack.format_save import COMMANDS, save_line
from conntrackd_py.cli.conntrack.options import FORMS
from conntrackd_py.cli.conntrack.values import UsageError, label_names
from conntrackd_py.control.escape import escaped

PROGRAM: Final = "conntrack-py"
NAME: Final = f"{PROGRAM} v{__version__} (conntrackd-py)"
ALONE: Final = ("save", "json")

Fields = dict[str, Any]


def report(text: str) -> None:
    print(f"{NAME}: {escaped(text)}", file=sys.stderr)


class CombinationError(Exception):
    """Forms of -o that exclude each other: exit status 1, as in conntrack(8)."""


class Output:
    """values: of the options, by key. Raises UsageError and CombinationError."""

    def __init__(self, values: Mapping[str, str]) -> None:
        text = values.get("output")
        self.forms = frozenset(text.lower().split(",")) if text is not None else frozenset()
        for form in self.forms:
            if form not in FORMS:
                raise UsageError(f"Bad parameter `{form}'")
        for form in ALONE:
            if form in self.forms and len(self.forms) > 1:
                raise CombinationError(f"cannot combine {form} output with any other output type, use -o {form} only")
        self.json = "json" in self.forms
        self.xml = "xml" in self.forms
        self.save = "save" in self.forms
        if "label" in values or "label_add" in values:
            self.forms |= {"labels"}
        self._names: Mapping[int, str] | None = None

    @property
    def names(self) -> Mapping[int, str]:
        """The names of labels by bit; empty unless labels are shown."""
        if self._names is None:
            self._names = {}
            if "labels" in self.forms:
                self._names = label_names()
        return self._names

    def head(self, root: str) -> None:
        """Print what comes before the first entry."""
        if self.xml:
            from conntrackd_py.cli.conntrack.format_xml import HEADER

            print(f"{HEADER}\n<{root}>")

    def foot(self, root: str) -> None:
        """Print what comes after the last entry."""
        if self.xml:
            print(f"</{root}>")

    def connection(self, ct: Fields, *, command: str = "-A", use: int = 1) -> str:
        if self.json:
            return json_line(ct)
        if self.save:
            return save_line(ct, command)
        if self.xml:
            from conntrackd_py.cli.conntrack.format_xml import connection_xml

            return connection_xml(ct, self.forms, self.names, use)
        return connection_line(ct, self.forms, self.names, use)

    def event(self, event: Fields) -> str:
        if self.json:
            return json_line(event)
        if self.save:
            return save_line(event, COMMANDS[event["event"]]) + origin(event)
        if self.xml:
            from xml.sax.saxutils import escape

            from conntrackd_py.cli.conntrack.format_xml import event_xml

            return event_xml(event, self.forms, self.names) + escape(origin(event))
        return event_line(event, self.forms, self.names)

    def expectation(self, known: Fields) -> str:
        if self.json:
            return json_line(known)
        if self.xml:
            from conntrackd_py.cli.conntrack.format_xml import expectation_xml

            return expectation_xml(known)
        return expectation_event_line(known, self.forms) if "event" in known else expectation_line(known, self.forms)

    def lost(self, count: int) -> None:
        """Report that events were dropped: on stderr, with json and xml also on stdout."""
        if self.json:
            print(json.dumps({"event": "LOST", "lost": count}, separators=(",", ":")), flush=True)
        elif self.xml:
            print(f"<!-- {count} events were dropped here -->", flush=True)
        report(f"WARNING: {count} events were dropped here: they were not read in time")

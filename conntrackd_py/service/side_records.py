"""The side records of a journal: expectations and the names of the interfaces, written when they have changed."""

from typing import Final, final

from conntrackd_py.conntrack.journal import Journal
from conntrackd_py.conntrack.records import record
from conntrackd_py.engine.engine import Engine

LINKS: Final = 1024  # the last side records: interfaces


@final
class SideRecords:
    """unwritten: expectations and interfaces that did not fit, as of the last change."""

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self.engine = engine
        self.journal = journal
        self.expectations = max(journal.side - LINKS, journal.side // 2)  # of the side records
        self.numbers: dict[int, int] = {}  # by id of the expectation
        self.free = list(range(self.expectations - 1, -1, -1))
        self.changes = -1
        self.names: dict[int, str] = {}
        self.expectations_unwritten = 0
        self.links_unwritten = 0

    @property
    def unwritten(self) -> int:
        return self.expectations_unwritten + self.links_unwritten

    def pending(self) -> bool:
        """Whether expectations have changed since the previous turn."""
        return self._changes() != self.changes

    def _changes(self) -> int:
        known = self.engine.core.expectations
        return known.created + known.deleted + known.changed

    def turn(self) -> None:
        """Write what has changed since the previous turn."""
        if self.pending():
            self.changes = self._changes()
            self._write_expectations()
        if self.engine.names != self.names:
            self.names = dict(self.engine.names)
            self._write_links()

    def _write_expectations(self) -> None:
        present = {known.id: known for known in self.engine.core.expectations.all()}
        self.expectations_unwritten = 0
        for ended in [number for number in self.numbers if number not in present]:
            self.journal.write_side(self.numbers[ended], b"")
            self.free.append(self.numbers.pop(ended))
        for number, known in present.items():
            data = record.encode_expectation(known)
            if number not in self.numbers and data and self.free:
                self.numbers[number] = self.free.pop()
            if number in self.numbers:
                self.journal.write_side(self.numbers[number], data)
            else:
                self.expectations_unwritten += 1

    def _write_links(self) -> None:
        room = self.journal.side - self.expectations
        links = [record.encode_link(index, name) for index, name in sorted(self.names.items())][:room]
        self.links_unwritten = len(self.names) - len(links)
        for at in range(room):
            self.journal.write_side(self.expectations + at, links[at] if at < len(links) else b"")

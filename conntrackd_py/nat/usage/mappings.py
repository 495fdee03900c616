"""The source mappings in use, so that a new connection of a source can get one that the source already has.

Bound: CANDIDATES mappings per source; a connection with a further one is not counted. Most sources have one mapping.
So the mappings of a source are one bytes object, oldest mapping first:

    +---------+------+-------------+ - - -
    | address | port | connections |           4 or 16, 2 and 4 bytes
    +---------+------+-------------+ - - -
"""

from typing import Final, final

from conntrackd_py.conntrack.split_dict import SplitDict

CANDIDATES: Final = 16  # mappings kept and tried per source
COUNT: Final = 4  # bytes
NOWHERE: Final = -1


@final
class Mappings:
    """source: as of tuples.source_key; mapping: address and port."""

    def __init__(self) -> None:
        self.by_source: SplitDict[bytes] = SplitDict()

    def of(self, source: bytes, length: int) -> list[bytes]:
        """The mappings of a source; length: of an address."""
        known = self.by_source.get(source)
        if known is None:
            return []
        size = length + 2
        return [known[at : at + size] for at in range(0, len(known), size + COUNT)]

    def add(self, source: bytes, mapping: bytes) -> bool:
        """Count one connection more; False when the source has CANDIDATES other mappings."""
        known = self.by_source.get(source) or b""
        at = _find(known, mapping)
        if at == NOWHERE:
            if len(known) >= CANDIDATES * (len(mapping) + COUNT):
                return False
            at = len(known)
        self._put(source, known, mapping, at, 1)
        return True

    def remove(self, source: bytes, mapping: bytes) -> None:
        """Count one connection less."""
        known = self.by_source[source]
        self._put(source, known, mapping, _find(known, mapping), -1)

    def _put(self, source: bytes, known: bytes, mapping: bytes, at: int, more: int) -> None:
        end = at + len(mapping)
        count = int.from_bytes(known[end : end + COUNT], "big") + more
        record = mapping + count.to_bytes(COUNT, "big") if count else b""
        known = known[:at] + record + known[end + COUNT :]
        if known:
            self.by_source[source] = known
        else:
            del self.by_source[source]


def _find(known: bytes, mapping: bytes) -> int:
    size = len(mapping)
    for at in range(0, len(known), size + COUNT):
        if known[at : at + size] == mapping:
            return at
    return NOWHERE

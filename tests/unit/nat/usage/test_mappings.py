"""The mappings of sources, against a dict of counters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.nat.usage.mappings import CANDIDATES, Mappings

SOURCES = [b"source 1", b"source 2"]


@pytest.mark.parametrize("length", [4, 16], ids=["ipv4", "ipv6"])
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(SOURCES), st.integers(0, CANDIDATES + 4)), max_size=150))
def test_it_counts_as_a_dict_does(length: int, steps: list[tuple[bool, bytes, int]]) -> None:
    mappings = Mappings()
    plain: dict[bytes, dict[bytes, int]] = {source: {} for source in SOURCES}
    wrong = []
    for adds, source, number in steps:
        mapping = bytes(length) + number.to_bytes(2, "big")
        known = plain[source]
        if adds:
            room = mapping in known or len(known) < CANDIDATES
            if room:
                known[mapping] = known.get(mapping, 0) + 1
            if mappings.add(source, mapping) != room:
                wrong.append((source, mapping))
        elif mapping in known:
            mappings.remove(source, mapping)
            known[mapping] -= 1
            if not known[mapping]:
                del known[mapping]
        assert mappings.of(source, length) == list(known)
    assert wrong == []
    assert len(mappings.by_source) == sum(bool(known) for known in plain.values())


def test_more_connections_than_a_byte_counts() -> None:
    mappings = Mappings()
    mapping = b"\x0a\0\0\1\4\0"
    for _ in range(70_000):
        assert mappings.add(b"source", mapping)
    for _ in range(69_999):
        mappings.remove(b"source", mapping)
    assert mappings.of(b"source", 4) == [mapping]
    mappings.remove(b"source", mapping)
    assert mappings.of(b"source", 4) == []
    assert len(mappings.by_source) == 0

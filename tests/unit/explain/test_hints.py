"""The texts about refused packets; the sentences themselves: test_sentences.py."""

import pytest

from conntrackd_py.explain.hints import seconds


@pytest.mark.parametrize(
    ("ms", "text"), [(30_000, "30 s"), (500, "0.5 s"), (0, "0 s"), (1, "0.001 s"), (100_000, "100 s")]
)
def test_seconds(ms: int, text: str) -> None:
    assert seconds(ms) == text

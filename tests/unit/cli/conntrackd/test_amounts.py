"""Rates, shares and spans as people read them."""

import pytest

from conntrackd_py.cli.conntrackd.amounts import duration, percent, rate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.04, "<0.1"),
        (0.44, "0.4"),
        (5.0, "5"),
        (9.94, "9.9"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (12_345, "12k"),
        (120_000_000, "120M"),
        (2.4e9, "2.4G"),
        (1e19, "10000P"),
    ],
)
def test_rates(value: float, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0.0 %"),
        (0.0001, "< 0.1 %"),
        (0.047, "4.7 %"),
        (0.9995, "> 99.9 %"),
        (1, "100 %"),
        (1.5, "150 %"),
    ],
)
def test_shares(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0 s"),
        (59.9, "59 s"),
        (123, "2 min 3 s"),
        (3 * 3600 + 300, "3 h 5 min"),
        (86400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_spans_of_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text

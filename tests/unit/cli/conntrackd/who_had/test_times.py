"""Times as an operator writes them, and times of the log."""

import pytest

from conntrackd_py.cli.conntrackd.who_had.times import Span, ms_of, span, text_of
from tests.support.nat_logs import BEGIN

MINUTE = 60_000


@pytest.mark.parametrize(
    ("text", "first", "length"),
    [
        ("2026-11-22T10:03:00Z", 0, 1000),
        ("2026-11-22T10:03:00", 0, 1000),
        ("2026-11-22 10:03", 0, MINUTE),
        ("2026-11-22 11:03+01:00", 0, MINUTE),
        ("2026-11-22 04:33:00 -0530", 0, 1000),
        ("2026-11-22T10:03:00.250Z", 250, 1),
        ("2026-11-22 10:03:00,25", 250, 1),
        ("2026-11-22", -603 * MINUTE, 1440 * MINUTE),
        ("1795341780", 0, 1000),
        ("1795341780.25", 250, 1),
    ],
)
def test_a_time_is_as_precise_as_it_is_written(text: str, first: int, length: int) -> None:
    assert span(text) == Span(BEGIN + first, BEGIN + first + length - 1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "yesterday", "10:03", "2026-11-22 10", "2026-13-01", "2026-02-30 10:00", "2026-11-22 25:00"),
        *(
            "2026-11-22 10:03 Mars",
            "2026-11-22T10:03:00ZZ",
            "-5",
            "1e9",
            "999999999999",
            "٢٠٢٦-11-22",
            "2026-11-22+01:00",
        ),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        span(text)


@pytest.mark.parametrize("at", [0, 999, BEGIN, BEGIN + 123, 951_827_696_040])
def test_a_time_of_the_log_reads_back(at: int) -> None:
    assert ms_of(text_of(at)) == at


def test_a_time_out_of_range_is_still_a_text() -> None:
    assert text_of(-5) == "1970-01-01T00:00:00.000Z"
    assert text_of(2**62) == "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize("stamp", ["", "2026-11-22T10:03:00Z", "2026-11-22T24:03:00.000Z", "3026-11-22T10:03:00.000Z"])
def test_another_time_is_none_of_the_log(stamp: str) -> None:
    with pytest.raises(ValueError, match="not a time of the log"):
        ms_of(stamp)


def test_a_day_that_does_not_exist_is_a_later_one() -> None:
    assert ms_of("2026-02-31T00:00:00.000Z") == ms_of("2026-03-03T00:00:00.000Z")

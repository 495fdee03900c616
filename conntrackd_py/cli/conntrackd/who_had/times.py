"""A time as an operator writes it, and times of the NAT log. All in ms since 1970; UTC unless a zone is written."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

ISO: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?P<time>[T ]\d\d:\d\d(?P<second>:\d\d(?P<part>[.,]\d{1,6})?)?( ?(Z|[+-]\d\d:?\d\d))?)?", re.ASCII
)
STAMP: Final = re.compile(
    r"([12]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)\.(\d{3})Z", re.ASCII
)
UNIX: Final = re.compile(r"(\d{1,11})(\.\d{1,6})?", re.ASCII)
DAY: Final = timedelta(days=1)
MINUTE: Final = timedelta(minutes=1)
SECOND: Final = timedelta(seconds=1)
MILLISECOND: Final = timedelta(milliseconds=1)
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = 253_402_300_799_999  # the last ms of the year 9999


class Span(NamedTuple):
    """first and last ms."""

    first: int
    last: int


def span(text: str) -> Span:
    """As precise as the text: a time without seconds is a whole minute, a date alone a whole day. Raises ValueError."""
    if found := UNIX.fullmatch(text):
        moment, length = BEGINNING + timedelta(seconds=float(text)), MILLISECOND if found[2] else SECOND
    elif found := ISO.fullmatch(text):
        moment = datetime.fromisoformat(text.replace(" ", "T", 1).replace(" ", "").replace(",", "."))
        length = MILLISECOND if found["part"] else SECOND if found["second"] else MINUTE if found["time"] else DAY
    else:
        raise ValueError(f"{text!r} is not a time such as 2026-11-22T10:03:00Z, 2026-11-22 10:03 or a Unix time")
    first = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - BEGINNING
    return Span(first // MILLISECOND, (first + length) // MILLISECOND - 1)


def ms_of(stamp: str) -> int:
    """Of a time in the log. Raises ValueError; 31 February is 3 March."""
    found = STAMP.fullmatch(stamp)
    if found is None:
        raise ValueError("not a time of the log")
    year, month, day, hour, minute, second, ms = map(int, found.groups())
    begin = datetime(year, month, 1, tzinfo=UTC) - BEGINNING
    return (begin.days + day - 1) * 86_400_000 + ((hour * 60 + minute) * 60 + second) * 1000 + ms


def text_of(at: int) -> str:
    moment = BEGINNING + timedelta(milliseconds=min(max(at, 0), LATEST))
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

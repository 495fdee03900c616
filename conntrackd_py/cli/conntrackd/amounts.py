"""Amounts as text: rates, shares, durations."""

from typing import Final

NEARLY_FULL: Final = 0.8  # the share from which a table or a pool is shown as an alarm
PREFIXES: Final = ("", "k", "M", "G", "T", "P")


def rate(value: float) -> str:
    """`0`, `0.4`, `5`, `12`, `3.0k`, `120M`: two or three digits. Only 0 is shown as 0."""
    if 0 < value < 0.05:
        return "<0.1"
    at = 0
    while value >= 999.5 and at < len(PREFIXES) - 1:
        value /= 1000
        at += 1
    if value >= 9.95:
        return f"{value:.0f}{PREFIXES[at]}"
    return f"{value:.1f}{PREFIXES[at]}" if at else f"{value:.1f}".removesuffix(".0")


def percent(share: float) -> str:
    """`4.7 %` for 0.047. Only 0 is shown as 0 %, only 1 as 100 %."""
    hundredths = share * 100
    if 0 < hundredths < 0.1:
        return "< 0.1 %"
    if 99.9 < hundredths < 100:
        return "> 99.9 %"
    return f"{hundredths:.1f} %" if hundredths < 100 else f"{hundredths:.0f} %"


def duration(seconds: float) -> str:
    """`59 s`, `2 min 3 s`, `1 h 5 min`, `3 d 4 h`: the two largest units. Rounds down."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"

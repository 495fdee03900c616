"""Values of options: what is read, and that nothing else is taken for it."""

import pytest

from conntrackd_py.cli.conntrack.values import UsageError, chosen, duration, labels, number, protocol


def test_numbers_are_read_as_strtoul_does() -> None:
    assert [number(text) for text in ("10", "0x1F", "010", "0")] == [10, 31, 8, 0]


@pytest.mark.parametrize("text", ["", "x", "1x", "-1", "1.5", "65536", "0b1x"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UsageError):
        number(text, 65535)


def test_protocols_by_name_and_number() -> None:
    assert [protocol(text) for text in ("tcp", "UDP", "6", "0x11", "esp", "0", "255")] == [6, 17, 6, 17, 50, 0, 255]
    for text in ("bogus", "256", "-1", ""):
        with pytest.raises(UsageError, match=f"`{text}' unsupported protocol"):
            protocol(text)


def test_times() -> None:
    assert [duration(text) for text in ("0", "90", "90s", "15m", "2h", "3d")] == [0, 90, 90, 900, 7200, 259200]
    for text in ("", "m", "1w", "-5", "1.5h", "9999999999"):
        with pytest.raises(UsageError, match="is not a time"):
            duration(text)


def test_labels_by_name_and_number() -> None:
    names = {1: "web", 5: "voice"}
    assert labels("voice,7,web", names) == [5, 7, 1]
    for text in ("bogus", "128", "web,", "-1"):
        with pytest.raises(UsageError, match="unknown label"):
            labels(text, names)


def test_choices_in_any_case() -> None:
    assert chosen("assured,Seen_Reply", ("ASSURED", "SEEN_REPLY")) == ["ASSURED", "SEEN_REPLY"]
    with pytest.raises(UsageError, match="Bad parameter"):
        chosen("assured,", ("ASSURED",))

"""Values of options: what is read, and that nothing else is taken for it."""

from pathlib import Path

import pytest

from conntrackd_py.cli.conntrack.values import (
    UsageError,
    chosen,
    duration,
    label_names,
    labels,
    number,
    parsed_labels,
    protocol,
)


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


# Each line was read by libnetfilter_conntrack 1.0.9 too, with this outcome.
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("3 three\n", {3: "three"}),
        ("  3\tthree  \r\n", {3: "three"}),
        ("3 three # x\n", {}),
        ("#3 three\n2 two", {2: "two"}),
        ("0x5 five\n010 eight\n0 zero\n", {5: "five", 8: "eight", 0: "zero"}),
        ("1 a\n1 b\n", {1: "a"}),
        ("1 a\n2 a\n", {1: "a"}),
        ("1 a b\n", {1: "a b"}),
        ("1a\n", {1: "a"}),
        ("1\n", {}),
        ("1 a-b\n2 a_b\n3 a.b\n", {1: "a-b"}),
        ("-1 a\nx y\n2 q\n", {2: "q"}),
    ],
)
def test_lines_of_connlabel_conf(text: str, names: dict[int, str]) -> None:
    assert parsed_labels(text) == names


def test_the_first_readable_file_counts_and_none_is_no_error(tmp_path: Path) -> None:
    first, second = tmp_path / "first.conf", tmp_path / "second.conf"
    assert label_names((str(first), str(second))) == {}
    second.write_text("2 second\n")
    assert label_names((str(first), str(second))) == {2: "second"}
    first.write_bytes(b"1 first\n3 \xff\n")
    assert label_names((str(first), str(second))) == {1: "first"}

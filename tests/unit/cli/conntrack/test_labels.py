"""connlabel.conf: each line here was read by libnetfilter_conntrack 1.0.9 too, with this outcome."""

from pathlib import Path

import pytest

from conntrackd_py.cli.conntrack.labels import label_names, parsed


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
def test_lines(text: str, names: dict[int, str]) -> None:
    assert parsed(text) == names


def test_the_first_file_there_is_counts_and_none_is_no_mistake(tmp_path: Path) -> None:
    first, second = tmp_path / "first.conf", tmp_path / "second.conf"
    assert label_names((first, second)) == {}
    second.write_text("2 second\n")
    assert label_names((first, second)) == {2: "second"}
    first.write_bytes(b"1 first\n3 \xff\n")
    assert label_names((first, second)) == {1: "first"}

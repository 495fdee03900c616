"""Whatever text holds, what is printed of it neither commands the terminal nor begins a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.control.escape import escaped, escaped_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conntrack -D", "conntrack -D"),
        ("grün 日本 [red]", "grün 日本 [red]"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\r\tc\0", r"a\nb\r\tc\x00"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202e\u2066\u200f", r"\u202e\u2066\u200f"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_is_not_printable_is_an_escape(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(text=st.text(st.characters()))
def test_nothing_else_comes_out(text: str) -> None:
    assert escaped(text).isprintable()
    escaped(text).encode()
    assert escaped_lines(text).count("\n") == text.count("\n")
    assert escaped_lines(text).replace("\n", "").isprintable()

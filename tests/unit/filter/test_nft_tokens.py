"""nft text as words."""

import pytest

from conntrackd_py.filter.nft_tokens import Cursor
from conntrackd_py.match.words import ParseError


def words(text: str, lines: bool = False) -> list[str]:
    return Cursor(text, lines).words


def test_words() -> None:
    assert words("ct state!=new,established|{ 1-2, fd00::/8 } # and a comment") == [
        *("ct", "state", "!=", "new", ",", "established", "|", "{", "1-2", ",", "fd00::/8", "}")
    ]
    assert words('iifname "eth*" a<=b') == ["iifname", '"eth*"', "a", "<=", "b"]


def test_a_new_line_counts_only_in_a_ruleset() -> None:
    text = "a\nb # c\n\nd \\\n e"
    assert words(text) == ["a", "b", "d", "e"]
    assert words(text, True) == ["a", "\n", "b", "\n", "\n", "d", "e"]


def test_lines() -> None:
    cursor = Cursor("a\n# b\nc \\\nd", True)
    assert cursor.numbers == [1, 1, 2, 3, 4]
    assert cursor.line == 1
    while cursor.take():
        pass
    assert cursor.line == 4
    assert Cursor("").line == 1


def test_values_are_no_punctuation() -> None:
    assert Cursor('"eth0"').value("an interface") == "eth0"
    for text, why in (("{", "expected a name, found {"), ("", "expected a name, found the end of the text")):
        with pytest.raises(ParseError, match=why):
            Cursor(text).value("a name")


def test_expect() -> None:
    with pytest.raises(ParseError, match="expected a at the beginning, found b"):
        Cursor("b").expect("a", "at the beginning")

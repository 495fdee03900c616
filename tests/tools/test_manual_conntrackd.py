"""conntrackd-py(8): its examples are valid, and its prose is about existing subcommands."""

from __future__ import annotations

import pytest
from generators import manual_conntrackd, roff
from generators import manual_conntrackd_text as text
from generators.subcommands import every

from conntrackd_py.cli.conntrackd.main import command_line


def test_every_subcommand_and_option_is_on_the_page() -> None:
    page = manual_conntrackd.page()
    for path in [node.path for node in every() if not node.subcommands]:
        assert roff.subsection(" ".join(path))[0] in page
    for node in every():
        for option in (*node.options, *node.arguments):
            said_once = node.path and option.names == ("-h", "--help")
            assert said_once or roff.inline(manual_conntrackd._term(option)) in page


def test_no_words_about_a_subcommand_that_is_gone() -> None:
    names = {" ".join(node.path) for node in every()}
    assert {*text.MORE, *text.EXITS} <= names


@pytest.mark.parametrize("line", [line for example, _ in text.EXAMPLES for line in example.split("\n")])
def test_an_example_is_valid(line: str) -> None:
    words = line.removesuffix(" &").split()
    assert words.pop(0) == "conntrackd-py"
    command_line().parse_args(words)

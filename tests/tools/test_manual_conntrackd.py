"""conntrackd-py(8): its examples are understood, and what it says of subcommands is about some that exist."""

from __future__ import annotations

import importlib

import pytest
from generators import manual_conntrackd, roff
from generators import manual_conntrackd_text as text
from generators.subcommands import every

from conntrackd_py.cli.conntrackd import main as conntrackd_py


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
def test_an_example_is_understood(line: str) -> None:
    words = line.removesuffix(" &").split()
    assert words.pop(0) == "conntrackd-py"
    parser, subparsers = conntrackd_py._parser()
    importlib.import_module(conntrackd_py.COMMANDS[words[0]].arguments).add_arguments(subparsers[words[0]])
    parser.parse_args(words)

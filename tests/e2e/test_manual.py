"""The manual pages as groff renders them: without a warning, and with every option on the page."""

from __future__ import annotations

import re
import subprocess
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from generators import manual_conntrack_text as text
from generators.subcommands import every

from conntrackd_py.cli.conntrack.options import EVERYTHING
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.settings import schema

MANUAL = Path(__file__).parents[2] / "share" / "man"


def rendered(page: str) -> str:
    """As plain text of 78 columns."""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=78n", str(MANUAL / f"man{page[-1]}" / page)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("page", ["conntrack-py.8", "conntrackd-py.8"])
def test_groff_has_nothing_to_warn_of(page: str) -> None:
    shown = rendered(page)
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "FILES", "ENVIRONMENT", "SEE ALSO"):
        assert f"\n{section}\n" in shown


def test_the_page_of_the_configuration_has_every_key() -> None:
    shown = rendered("conntrackd.toml.5")
    for section in ("NAME", "DESCRIPTION", "[queue]", "[steering]", "[tunables]", "RULES", "FILES", "SEE ALSO"):
        assert f"\n{section}\n" in shown
    for table in (schema.Settings, schema.Queue, schema.Steering, Tunables, schema.Metrics, schema.Control):
        for key in fields(table):
            if not key.name.islower() or key.default is MISSING or isinstance(key.default, tuple):
                continue
            assert re.search(rf"^ +{key.name} = ", shown, re.MULTILINE), key.name


def test_every_option_of_conntrack_py_has_its_paragraph() -> None:
    shown = rendered("conntrack-py.8")
    for option in EVERYTHING:
        term = f"{', '.join(option.names)} {option.argument}".strip()
        assert re.search(rf"^ +{re.escape(term)}(  .*)?$", shown, re.MULTILINE), term


def test_every_option_of_conntrackd_py_has_its_paragraph() -> None:
    shown = rendered("conntrackd-py.8")
    for node in every():
        for option in [option for option in node.options if node.path == () or "--help" not in option.names]:
            assert re.search(rf"^ +{re.escape(', '.join(option.names))}( .*)?$", shown, re.MULTILINE), option


def test_examples_can_be_copied() -> None:
    shown = {line.strip() for line in rendered("conntrack-py.8").splitlines()}
    for example, _ in text.EXAMPLES:
        assert set(example.split("\n")) <= shown

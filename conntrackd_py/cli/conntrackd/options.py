"""Options that several subcommands share, and how they report a configuration they cannot use."""

import argparse
import sys
from pathlib import Path

from conntrackd_py.control.escape import escaped_lines
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import DEFAULT_PATH, load
from conntrackd_py.settings.schema import Settings


def add_config(parser: argparse.ArgumentParser) -> None:
    """`-c FILE`, as args.config."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help=f"configuration ({DEFAULT_PATH})"
    )


def settings_or_none(path: Path) -> Settings | None:
    """The settings, or None after every mistake in them has been printed to stderr."""
    try:
        return load(path)
    except ConfigError as error:
        print(escaped_lines(str(error)), file=sys.stderr)
        return None

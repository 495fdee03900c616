"""`conntrackd-py check-config`: reads the configuration, reports every error in it, or sums it up."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from conntrackd_py.control.escape import escaped, escaped_lines
from conntrackd_py.nat.rules import NAT_ACTIONS
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load
from conntrackd_py.settings.schema import NAT, Settings


def main(args: argparse.Namespace) -> int:
    """0, or 1 if the configuration is wrong."""
    path: Path = args.file or args.config
    settings = settings_or_none(path)
    if settings is None:
        return 1
    print(f"{escaped(str(path))}: ok: {summary(settings)}")
    return 0


def settings_or_none(path: Path) -> Settings | None:
    """The settings, or None after every error in them was printed to stderr."""
    try:
        return load(path)
    except ConfigError as error:
        print(escaped_lines(str(error)), file=sys.stderr)
        return None


def summary(settings: Settings) -> str:
    """One line: the mode, the number of NAT rules of each action, the first queue."""
    actions = Counter(NAT_ACTIONS[rule.action] for rule in settings.nat)
    rules = ", ".join(f"{count} {action}" for action, count in actions.items()) or "none"
    if actions and settings.mode != NAT:
        rules += f" (not applied in mode {settings.mode})"
    return f"mode {settings.mode}; NAT rules: {rules}; queues from {settings.queue.first} on"

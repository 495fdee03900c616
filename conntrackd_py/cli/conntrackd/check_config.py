"""`conntrackd-py check-config`: is a configuration right, and what does it come to?"""

import argparse
from collections import Counter
from pathlib import Path

from conntrackd_py.cli.conntrackd.options import add_config, settings_or_none
from conntrackd_py.control.escape import escaped
from conntrackd_py.nat.rules import NAT_ACTIONS
from conntrackd_py.settings.schema import NAT, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", type=Path, help="the configuration, as -c FILE")
    add_config(parser)


def main(args: argparse.Namespace) -> int:
    path: Path = args.file or args.config
    settings = settings_or_none(path)
    if settings is None:
        return 1
    print(f"{escaped(str(path))}: ok: {summary(settings)}")
    return 0


def summary(settings: Settings) -> str:
    """One line: the mode, the rules by action, the queue."""
    actions = Counter(NAT_ACTIONS[rule.action] for rule in settings.nat)
    rules = ", ".join(f"{count} {action}" for action, count in actions.items()) or "none"
    if actions and settings.mode != NAT:
        rules += f" (not applied in mode {settings.mode})"
    return f"mode {settings.mode}; NAT rules: {rules}; queues from {settings.queue.first} on"

"""`conntrackd-py check-config`: reads the configuration and reports every error in it; or lists its rules, reports
warnings, and sums it up.

Errors and warnings are written to stderr as compilers write them: `file:line: error: key = value: reason`.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from conntrackd_py.cli.conntrackd.rule_lines import rule_lines
from conntrackd_py.cli.stdout import discard_stdout
from conntrackd_py.control.escape import escaped, escaped_lines
from conntrackd_py.kernel.steering.plan import plan
from conntrackd_py.nat.rules import NAT_ACTIONS
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load
from conntrackd_py.settings.schema import NAT, Settings


def main(args: argparse.Namespace) -> int:
    """0; 1 if the configuration is wrong or, with --strict, has a warning."""
    path: Path = args.file or args.config
    settings = settings_or_none(path)
    if settings is None:
        return 1
    for line in rule_lines(settings):
        _write(line)
    for warning in settings.warnings:
        print(escaped_lines(warning.text("warning")), file=sys.stderr)
    count = len(settings.warnings)
    warnings = f"{count} warning{'s' if count > 1 else ''}" if count else ""
    if warnings and args.strict:
        print(f"{escaped(str(path))}: {warnings}, refused because of --strict", file=sys.stderr)
        return 1
    _write(f"{path}: ok{warnings and f', {warnings}'}: {summary(settings)}")
    return 0


def _write(line: str) -> None:
    """Without a reader too, as after `| head`, the exit status is that of the configuration."""
    try:
        print(escaped(line), flush=True)
    except BrokenPipeError:
        discard_stdout()


def settings_or_none(path: Path) -> Settings | None:
    """The settings, or None after every error in them was printed to stderr."""
    try:
        return load(path)
    except ConfigError as error:
        print(escaped_lines(error.text("error")), file=sys.stderr)
        return None


def summary(settings: Settings) -> str:
    """One line: the mode, the number of NAT rules of each action, the first queue or the NFLOG group."""
    actions = Counter(NAT_ACTIONS[rule.action] for rule in settings.nat)
    rules = ", ".join(f"{count} {action}" for action, count in actions.items()) or "none"
    if actions and settings.mode != NAT:
        rules += f" (not applied in mode {settings.mode})"
    group = plan(settings).group
    source = f"NFLOG group {group}" if group else f"queues from {settings.queue.first} on"
    return f"mode {settings.mode}; NAT rules: {rules}; {source}"

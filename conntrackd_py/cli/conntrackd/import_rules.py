"""`conntrackd-py import-rules`: prints the NAT and raw rules of a firewall as [[nat]] and [[raw]] tables."""

import argparse
import sys
from pathlib import Path
from typing import Final

from conntrackd_py.control.escape import escaped
from conntrackd_py.kernel.import_rules.import_rules import Imported, import_rules
from conntrackd_py.kernel.import_rules.walk import UnusableError
from conntrackd_py.kernel.translate.translate import UnknownTextError, recognised

STDIN: Final = "-"
NOT_ALL, UNUSABLE = 1, 2
LEFT_OUT: Final = "a rule that is not translated has no effect in the result: its packets reach the rules after it"


def main(args: argparse.Namespace) -> int:
    """0 every rule translated, 1 some not, 2 the text cannot be used."""
    try:
        text = _read(args.file)
        done = import_rules(text, args.text_format or recognised(text), args.file)
    except (OSError, UnknownTextError, UnusableError) as error:
        _say(f"conntrackd-py import-rules: {args.file}: {getattr(error, 'strerror', None) or error}")
        return UNUSABLE
    sys.stdout.write(done.text)
    sys.stdout.flush()
    _report(done, args.file)
    return NOT_ALL if done.problems else 0


def _read(file: str) -> str:
    data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    return data.decode(errors="replace")


def _report(done: Imported, file: str) -> None:
    for line, why, rule in done.problems:
        _say(f"{file}{f':{line}' if line else ''}: not translated: {why}")
        _say(f"    {rule}")
    for table in sorted(done.others):
        _say(f"{file}: table {table}: not read; only nat and raw are imported")
    _say(f"{file}: rules written: {done.rules}; lines not translated: {len({line for line, _, _ in done.problems})}")
    if done.problems:
        _say(LEFT_OUT)


def _say(text: str) -> None:
    print(escaped(text), file=sys.stderr)

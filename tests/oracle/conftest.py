"""The closing line of a run: how much was compared with the kernel."""

import pytest

from tests.oracle.shrink import COMPARED
from tests.oracle.twin import CONVERSATIONS, SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not COMPARED:
        return
    terminalreporter.section(f"compared with the kernel, seed {SEED}, {CONVERSATIONS:,} conversations a variant")
    for what, tally in sorted(COMPARED.items()):
        terminalreporter.write_line(f"{what:<28}{tally.conversations:>12,} conversations{tally.packets:>14,} packets")
    conversations = sum(tally.conversations for tally in COMPARED.values())
    packets = sum(tally.packets for tally in COMPARED.values())
    terminalreporter.write_line(f"{'in all':<28}{conversations:>12,} conversations{packets:>14,} packets")

"""What every test run says and checks about itself before it starts."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

import conntrackd_py
from tests.support.examples import examples
from tests.support.transcript import all_asserted

# A loaded machine is no reason to fail: speed is the benchmark's business.
settings.register_profile("conntrackd-py", deadline=None, max_examples=examples(100))
settings.load_profile("conntrackd-py")

PACKAGE = Path(conntrackd_py.__file__).parent
SOURCE = Path(__file__).parent.parent / "conntrackd_py"
TESTS_THAT_NEED_ROOT = tuple(Path(__file__).parent / name for name in ("e2e", "oracle", "systemd"))


def differing_sources() -> list[str]:
    """Modules whose installed text is not the text of the source tree."""
    return [
        str(path.relative_to(SOURCE))
        for path in sorted(SOURCE.rglob("*.py"))
        if not (installed := PACKAGE / path.relative_to(SOURCE)).exists() or installed.read_bytes() != path.read_bytes()
    ]


def pytest_report_header() -> str:
    return f"conntrackd_py {conntrackd_py.__version__}: {'compiled' if conntrackd_py.compiled else 'pure'}, {PACKAGE}"


def pytest_sessionstart() -> None:
    # A shell starts a background command with SIGINT ignored, and so would the programs under test be.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if stale := differing_sources():
        pytest.exit(f"{PACKAGE} is older than the source ({', '.join(stale)}): run scripts/test", returncode=3)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(folder in item.path.parents for folder in TESTS_THAT_NEED_ROOT):
            item.add_marker("root")
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """A test passes only if it has asserted the conversations it began."""
    with all_asserted():
        return (yield)

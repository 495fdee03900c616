"""Programs that tests without root use where they are installed; `scripts/test` with root installs them all.

tests/e2e/test_tools.py fails where one is missing, so nothing is left out of the whole run unnoticed.
"""

import shutil
from typing import Final

import pytest

OPTIONAL: Final = ("openssl", "promtool", "redis-server")


def needs(tool: str) -> pytest.MarkDecorator:
    assert tool in OPTIONAL
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"needs {tool}, which scripts/test installs as root")

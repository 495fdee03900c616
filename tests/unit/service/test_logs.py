"""The log of a real process, with values that others have chosen."""

import subprocess
import sys

import pytest

LOGGING = """
import logging, sys, structlog
from conntrackd_py.service import logs
logs.configure("info", sys.argv[1])
name = "\\x1b[31m\\nforged event\\u202e"
structlog.get_logger().warning(name, interface=name, names=[name])
try:
    raise ValueError("\\x1b[31m")
except ValueError as error:
    structlog.get_logger().error("failed", exc_info=error)
    logging.getLogger("asyncio").error("failed", exc_info=error)
logging.getLogger("asyncio").error("%s", name)
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_value_gets_to_the_terminal_as_it_is(form: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING, form], capture_output=True, text=True, check=True)
    assert done.stderr.count("forged event") >= 3
    assert not any(line.startswith("forged") for line in done.stderr.splitlines())
    assert done.stderr.replace("\n", "").isprintable()

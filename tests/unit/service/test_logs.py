"""The log of a real process, with values that others have chosen."""

import subprocess
import sys
from pathlib import Path

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


WRITING = """
import logging, os, sys, structlog
from conntrackd_py.service import logs
logs.configure("info", sys.argv[1])
structlog.get_logger().info("one")
logging.getLogger("asyncio").error("two")
open("/proc/self/fd/3", "w").write("still here")
"""


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2> >(:)"], ids=["full disk", "closed", "broken pipe"])
def test_a_log_that_cannot_be_written_ends_nothing(form: str, where: str, tmp_path: Path) -> None:
    file = tmp_path / "said"
    wait = "sleep 0.2; " if ">(" in where else ""  # for the reader to have ended
    command = f'( {wait}exec "$0" -c "$1" {form} ) 3>{file} {where}'
    done = subprocess.run(["bash", "-c", command, sys.executable, WRITING], check=False)
    assert done.returncode == 0
    assert file.read_text() == "still here"

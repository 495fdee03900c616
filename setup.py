"""Builds the packet path (FILES and ROOMS) into one mypyc group; pyproject.toml says everything else.

CONNTRACKD_PY_PURE=1              compile nothing.
CONNTRACKD_PY_REQUIRE_COMPILED=1  a failed compile is an error; without it, a warning and a pure installation.
CONNTRACKD_PY_OPT_LEVEL=0          a quicker build of slower code, for tests; default 3.
An editable installation is always pure: it runs the source as it is, so it can never run stale C.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FILES = ("const.py", "reasons.py", "kernel/queues/packet_message.py", "kernel/queues/batch.py")
ROOMS = ("wire", "conntrack", "match", "proto", "nat", "filter", "helpers", "explain", "engine")
PURE = os.environ.get("CONNTRACKD_PY_PURE") == "1"
OPT_LEVEL = os.environ.get("CONNTRACKD_PY_OPT_LEVEL", "3")
REQUIRED = os.environ.get("CONNTRACKD_PY_REQUIRE_COMPILED") == "1"
COMMANDS_THAT_COMPILE = {"bdist_wheel", "build", "build_ext", "install"}


def sources() -> list[str]:
    """FILES and every module of the rooms; an __init__.py holds a docstring and gains nothing."""
    package = Path("conntrackd_py")
    modules = [path for room in ROOMS for path in sorted((package / room).rglob("*.py"))]
    return [str(path) for path in (*(package / file for file in FILES), *modules) if path.name != "__init__.py"]


def fall_back(why: object) -> None:
    """End the build if compiled code was required; otherwise say that this installation will be slow."""
    if REQUIRED:
        raise SystemExit(f"conntrackd-py: CONNTRACKD_PY_REQUIRE_COMPILED=1, but compiling failed: {why}")
    print(f"WARNING: conntrackd-py could not be compiled and will run as plain Python, slower: {why}", file=sys.stderr)


def extensions() -> list[Extension]:
    """The C of the mypyc group, or nothing when this build is to be pure or mypyc refuses."""
    if PURE and REQUIRED:
        raise SystemExit("conntrackd-py: CONNTRACKD_PY_PURE=1 and CONNTRACKD_PY_REQUIRE_COMPILED=1 exclude each other")
    if REQUIRED and "editable_wheel" in sys.argv:
        raise SystemExit("conntrackd-py: an editable installation is never compiled; install without -e")
    if PURE or not COMMANDS_THAT_COMPILE & set(sys.argv):
        return []
    try:
        from mypyc.build import mypycify

        return list(mypycify(sources(), opt_level=OPT_LEVEL, debug_level="0", group_name="conntrackd_py"))
    except (ImportError, SystemExit) as error:  # mypycify exits when mypy finds an error
        fall_back(error)
        return []


class BuildGroup(build_ext):
    """All of the group or none of it: a module of the group cannot be loaded without the others."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # noqa: BLE001  whatever a compiler does wrong, it is reported here
            fall_back(error)
            for output in self.get_outputs():
                Path(output).unlink(missing_ok=True)
            self.extensions = []


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildGroup})

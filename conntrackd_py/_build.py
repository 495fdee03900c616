"""Which build of the packet path is loaded: C made by mypyc, or the Python it was made from."""

import os

from conntrackd_py import const


def is_compiled() -> bool:
    """Whether the mypyc group is loaded. It is built whole or not at all, so one module answers for all."""
    return not const.__file__.endswith(".py")


def check_required(compiled: bool) -> None:
    """Raise ImportError when CONNTRACKD_PY_REQUIRE_COMPILED=1 is set and plain Python was loaded."""
    if os.environ.get("CONNTRACKD_PY_REQUIRE_COMPILED") == "1" and not compiled:
        raise ImportError(
            f"CONNTRACKD_PY_REQUIRE_COMPILED=1 is set, but {const.__file__} is plain Python: "
            "install again with a C compiler, or unset the variable"
        )

"""How many examples a property test tries."""

import conntrackd_py


def examples(number: int) -> int:
    """All of them with the compiled build, which routers run; a quarter with the slower pure one."""
    return number if conntrackd_py.compiled else number // 4

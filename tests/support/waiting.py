"""Waiting for a state, with a deadline that only a broken program or a broken machine reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

WITHIN: Final = 20.0  # seconds


def wait_until(true: Callable[[], object], what: str | Callable[[], str], within: float = WITHIN) -> None:
    """what: the state, or what to print instead of it; for the failure."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.02)


async def until(true: Callable[[], object], within: float = WITHIN) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)

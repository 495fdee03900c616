"""The requests about the hot standby."""

import asyncio
import json

import pytest

from conntrackd_py.control.protocol.requests import RefusedError, RequestError, Sync
from conntrackd_py.control.sync.state import OFF, STANDBY, SyncState, command


def state() -> SyncState:
    made = SyncState()
    said: list[bool] = []

    async def take_over(stale: bool) -> None:
        if not stale:
            raise RefusedError("the state is stale")
        made.role = "active"

    made.role, made.clock = STANDBY, lambda: 5000
    made.take_over, made.stand_by = take_over, lambda: said.append(True)
    return made


def ask(request: Sync, of: SyncState) -> dict[str, object]:
    found: dict[str, object] = json.loads(asyncio.run(command(request, of)))["sync"]
    return found


def test_without_sync_there_is_nothing_to_ask() -> None:
    assert SyncState().report() == {"role": OFF}
    with pytest.raises(RequestError, match="has no"):
        asyncio.run(command(Sync(), SyncState()))


def test_a_takeover_may_be_refused_or_forced() -> None:
    made = state()
    with pytest.raises(RefusedError, match="stale"):
        ask(Sync("takeover"), made)
    assert ask(Sync("takeover", stale=True), made)["role"] == "active"
    assert ask(Sync("standby"), made)["role"] == "active"


def test_the_age_is_that_of_the_last_frame() -> None:
    made = state()
    assert ask(Sync(), made)["age"] == -1
    made.heard, made.refused = 3500, {"tuple_taken": 2, "table_full": 0}
    found = ask(Sync(), made)
    assert (found["age"], found["refused"]) == (1.5, {"tuple_taken": 2})

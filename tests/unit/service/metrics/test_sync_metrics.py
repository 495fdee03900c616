"""The metrics of the hot standby by role."""

from conntrackd_py.control.sync.state import ACTIVE, STANDBY, SyncState
from conntrackd_py.service.metrics.sync_metrics import standby


def samples(state: SyncState) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in standby(state)
        for sample in family.samples
    }


def test_off_has_no_samples() -> None:
    assert samples(SyncState()) == {}


def test_a_standby_has_a_lag_and_an_active_one_has_none() -> None:
    state = SyncState()
    state.role, state.lag, state.refused = STANDBY, 250, {"tuple_taken": 3}
    found = samples(state)
    assert found["conntrackd_py_sync_lag_seconds[]"] == 0.25
    assert found["conntrackd_py_sync_records_refused_total['tuple_taken']"] == 3
    assert (found["conntrackd_py_sync_role['active']"], found["conntrackd_py_sync_role['standby']"]) == (0, 1)
    state.role = ACTIVE
    found = samples(state)
    assert "conntrackd_py_sync_lag_seconds[]" not in found
    assert found["conntrackd_py_sync_role['active']"] == 1

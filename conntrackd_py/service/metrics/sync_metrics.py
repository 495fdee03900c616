"""The metrics of the hot standby; without samples while [sync] is off."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from conntrackd_py.control.sync.state import ACTIVE, OFF, STANDBY, SyncState
from conntrackd_py.service.metrics.families import counter, counter_of, gauge, gauge_of


def standby(state: SyncState) -> Iterator[Metric]:
    """Every family. Of an active one, those of a standby have no samples."""
    role = gauge("sync_role", "1 for the role of this daemon.", "role")
    for name in (ACTIVE, STANDBY):
        role.add_metric([name], state.role == name)
    refused = counter("sync_records_refused", "Records that the standby did not take over, by reason.", "reason")
    for reason, count in state.refused.items():
        refused.add_metric([reason], count)
    for metric in (role, refused, *_both(state)):
        if state.role == OFF:
            metric.samples = []
        yield metric
    for metric in (
        gauge_of("sync_synced", "1: the standby has every connection. 0: some may be missing.", state.synced),
        gauge_of("sync_lag_seconds", "Time from a change on the active router to the standby.", state.lag / 1000),
        gauge_of("sync_age_seconds", "Time since the last frame, -1: none came yet.", state.age),
    ):
        if state.role != STANDBY:
            metric.samples = []
        yield metric


def _both(state: SyncState) -> Iterator[Metric]:
    yield gauge_of("sync_connected", "1: the server answers. 0: it does not.", state.connected)
    yield gauge_of("sync_epoch", "Epoch of the active router, 0: none is known.", state.epoch)
    yield gauge_of("sync_pending", "Changes to publish, or frames to apply.", state.pending)
    yield counter_of("sync_frames", "Frames published or applied.", state.frames)
    yield counter_of("sync_records", "Records published or applied.", state.records)
    yield counter_of("sync_gaps", "Times that frames were missing; a snapshot follows.", state.gaps)
    yield counter_of("sync_changes_lost", "Changes that did not fit the buffer; a snapshot follows.", state.lost)
    yield counter_of("sync_snapshots", "Complete snapshots.", state.snapshots)
    yield counter_of("sync_older_frames", "Frames of an earlier epoch, ignored.", state.older)
    yield counter_of("sync_foreign_frames", "Frames of another version or mode, ignored.", state.foreign)
    yield counter_of("sync_stepped_down", "Times this daemon stepped down for another one.", state.stepped_down)
    yield counter_of("sync_takeovers", "Times this daemon took over.", state.takeovers)

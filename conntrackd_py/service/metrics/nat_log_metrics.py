"""The metrics of the NAT log; without samples while [nat_log] is off."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from conntrackd_py.service.metrics.families import counter_of, gauge_of
from conntrackd_py.service.nat_log.keeper import NatLogKeeper


def nat_log(keeper: NatLogKeeper | None) -> Iterator[Metric]:
    """Every family."""
    running = keeper is not None and keeper.writer is not None
    lines, lost, errors, waiting = (
        (keeper.lines, keeper.lost, keeper.errors, keeper.waiting) if keeper is not None else (0, 0, 0, 0)
    )
    for metric in (
        counter_of("nat_log_lines", "Lines written into the NAT log.", lines),
        counter_of("nat_log_lost", "Lines of the NAT log that were lost: its buffer was full.", lost),
        counter_of("nat_log_write_errors", "Failures to open or write the file of the NAT log.", errors),
        gauge_of("nat_log_waiting", "Lines of the NAT log that are not in the file yet.", waiting),
    ):
        if not running:
            metric.samples = []
        yield metric

"""The table under node_exporter's metric names, for its alerts and dashboards.

All are gauges, as there, also the counters. `ignore` is always 0.
"""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from conntrackd_py.conntrack.core import Conntrack


def table(core: Conntrack) -> Iterator[Metric]:
    stats = core.stats
    for name, text, value in (
        ("entries", "Number of currently allocated flow entries for connection tracking.", len(core.table)),
        ("entries_limit", "Maximum size of connection tracking table.", core.limit),
        ("stat_drop", "Number of packets dropped due to conntrack failure.", stats.drop),
        ("stat_early_drop", "Number of dropped conntrack entries to make room for new ones.", stats.early_drop),
        ("stat_found", "Number of searched entries which were successful.", stats.found),
        ("stat_ignore", "Number of packets seen which are already connected to a conntrack entry.", 0),
        ("stat_insert", "Number of entries inserted into the list.", stats.insert),
        ("stat_insert_failed", "Number of entries for which insertion failed.", stats.insert_failed),
        ("stat_invalid", "Number of packets seen which can not be tracked.", stats.invalid),
        ("stat_search_restart", "Number of table lookups that had to be restarted.", stats.search_restart),
    ):
        yield GaugeMetricFamily(f"node_nf_conntrack_{name}", text, value=value)

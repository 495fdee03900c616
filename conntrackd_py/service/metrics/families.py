"""Makes metric families of plain integers."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from conntrackd_py.kernel.histogram import BOUNDS, Histogram

PREFIX: Final = "conntrackd_py_"
SECOND: Final = 1_000_000_000  # nanoseconds
LE: Final = (*(f"{bound / SECOND:g}" for bound in BOUNDS), "+Inf")


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)


def gauge_of(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=labels)


def counter_of(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def counter_by(name: str, text: str, label: str, names: Sequence[str], values: Iterable[int]) -> CounterMetricFamily:
    family = counter(name, text, label)
    for by, value in zip(names, values, strict=True):
        family.add_metric([by], value)
    return family


def summed(samples: Iterable[tuple[tuple[str, ...], int]]) -> dict[tuple[str, ...], int]:
    """Labels -> sum of the values: Prometheus refuses two samples with the same labels."""
    totals: dict[tuple[str, ...], int] = {}
    for labels, value in samples:
        totals[labels] = totals.get(labels, 0) + value
    return totals


def histograms(name: str, text: str, label: str, by: Mapping[str, Histogram]) -> HistogramMetricFamily:
    """label: empty: one histogram without labels."""
    family = HistogramMetricFamily(PREFIX + name, text, labels=[label] if label else [])
    for value, histogram in by.items():
        buckets = list(zip(LE, accumulate(histogram.counts), strict=True))
        family.add_metric([value] if label else [], buckets, histogram.sum / SECOND)
    return family

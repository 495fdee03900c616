"""Plain counters, as `conntrack -S` and the exporter show them."""

from typing import final

from conntrackd_py.reasons import END_NAMES, REASON_NAMES


@final
class Stats:
    def __init__(self) -> None:
        self.found = 0
        self.invalid = 0
        self.insert = 0
        self.insert_failed = 0
        self.drop = 0
        self.early_drop = 0
        self.error = 0
        self.search_restart = 0
        self.clash_resolve = 0
        self.chaintoolong = 0
        self.table_full = 0
        self.unconfirmed_lost = 0  # evicted: their first packet never reached its last hook
        self.nat_allocations = 0
        self.nat_allocation_failures = 0
        self.ended = [0] * len(END_NAMES)  # connections, by END_*
        self.reasons = [0] * len(REASON_NAMES)  # packets, by reason
        self.verdicts = [0] * 10  # packets, by hook * 2 + verdict
        self.bytes = [0] * 5  # by hook

"""Logs a warning before a source rule runs out of ports, as long as there is time to add addresses.

The limit is that of the alert for Prometheus, on the same number: the ports in use at the fullest outer address.
"""

from typing import Final, final

import structlog

from conntrackd_py.const import PROTO_NAMES
from conntrackd_py.nat.core import Nat

WARN: Final = 0.8
CALM: Final = 0.7  # a new warning only after the share was below
EVERY: Final = 5000  # ms

log = structlog.get_logger()


@final
class PortWatch:
    def __init__(self, nat: Nat) -> None:
        self.nat = nat
        self.at = 0  # ms: of the last look
        self.warned: set[tuple[str, int]] = set()  # rule and protocol

    def look(self, now: int) -> None:
        """At most once in EVERY ms: a line for each rule and protocol whose share has risen above WARN."""
        if now - self.at < EVERY:
            return
        self.at = now
        for rule in self.nat.rules.source_rules:
            for protonum, usage in rule.pool.usage.items():
                ports = usage.high - usage.low + 1
                share, key = usage.fullest / ports, (rule.label, protonum)
                if share < CALM:
                    self.warned.discard(key)
                elif share >= WARN and key not in self.warned:
                    self.warned.add(key)
                    log.warning(
                        "nat_ports_running_out",
                        rule=rule.label,
                        comment=rule.comment,
                        proto=PROTO_NAMES.get(protonum, str(protonum)),
                        in_use=usage.fullest,
                        of=ports,
                        help="more addresses or ports in `to`",
                    )

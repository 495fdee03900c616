"""Logs a warning before a source rule runs out of ports, or a host of connections, as long as there is time to act.

The limit is that of the alert for Prometheus, on the same number: the ports in use at the fullest outer address.
"""

from typing import Final, final

import structlog

from conntrackd_py.const import PROTO_NAMES
from conntrackd_py.match.address import address_text
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.rules import NatRule

WARN: Final = 0.8
CALM: Final = 0.7  # a new warning only after the share was below
EVERY: Final = 5000  # ms
BLOCKS: Final = -1  # in place of a protocol number
HOSTS: Final = 10  # warned of at a time

log = structlog.get_logger()


@final
class PortWatch:
    def __init__(self, nat: Nat) -> None:
        self.nat = nat
        self.hosts = nat.core.table.hosts
        self.near: set[bytes] = set()  # hosts that were warned of
        self.at = 0  # ms: of the last look
        self.contested = 0  # blocks at the last look
        self.warned: set[tuple[str, int]] = set()  # rule and protocol, or BLOCKS

    def look(self, now: int) -> None:
        """At most once in EVERY ms: a line for each rule and protocol, or its blocks, whose share rose above WARN."""
        if now - self.at < EVERY:
            return
        self.at = now
        self._warn_of_hosts()
        contested, self.contested = self.nat.blocks.conflicts - self.contested, self.nat.blocks.conflicts
        if contested:
            log.warning("nat_blocks_contested", blocks=contested, help="two hosts have connections in each: wait")
        for rule in self.nat.rules.source_rules:
            for protonum, usage in rule.pool.usage.items():
                if self._risen(rule, protonum, usage.fullest, ports := usage.high - usage.low + 1):
                    log.warning(
                        "nat_ports_running_out",
                        rule=rule.label,
                        comment=rule.comment,
                        proto=PROTO_NAMES.get(protonum, str(protonum)),
                        in_use=usage.fullest,
                        of=ports,
                        help="more addresses or ports in `to`",
                    )
            self._warn_of_blocks(rule)

    def _risen(self, rule: NatRule, protonum: int, used: int, of: int) -> bool:
        """Whether so many of the ports or blocks are in use for the first time since the share was below CALM."""
        share, key = used / of, (rule.label, protonum)
        if share < CALM:
            self.warned.discard(key)
        elif share >= WARN and key not in self.warned:
            self.warned.add(key)
            return True
        return False

    def _warn_of_blocks(self, rule: NatRule) -> None:
        spaces = self.nat.blocks.spaces_of(rule) if rule.port_block else []
        used, total = sum(space.allocated for space in spaces), sum(space.total for space in spaces)
        if spaces and self._risen(rule, BLOCKS, used, total):
            more = "more addresses in `to`, or a smaller port_block"
            log.warning(
                "nat_blocks_running_out", rule=rule.label, comment=rule.comment, in_use=used, of=total, help=more
            )

    def _warn_of_hosts(self) -> None:
        """A line for each host that has come near its limit."""
        near = set(self.hosts.near)
        new = sorted(near - self.near)[:HOSTS]
        self.near = (self.near & near) | set(new)
        for host in new:
            log.warning(
                "host_near_limit",
                host=_text(host),
                connections=self.hosts.counts.get(host),
                of=self.hosts.limit,
                help="then its new connections are dropped: limits.connections_per_host",
            )


def _text(host: bytes) -> str:
    if len(host) in (4, 16):
        return address_text(host)
    return f"{address_text(host.ljust(16, bytes(1)))}/{len(host) * 8}"

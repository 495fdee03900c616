"""How many port blocks each rule has given to inside hosts, for the metrics and for `status`."""

from typing import TypedDict

from conntrackd_py.nat.core import Nat


class BlockUse(TypedDict):
    """Of a source rule with port_block, or with deterministic: it has slices instead of blocks, so `limit` is 0.

    in_use, limit: blocks on all outer addresses of the rule.
    no_block, host_limit: connections refused because no block was free, and by blocks_per_host or a full slice.
    """

    rule: str
    comment: str
    in_use: int
    limit: int
    no_block: int
    host_limit: int


def block_use(nat: Nat) -> list[BlockUse]:
    """In the order of the rules."""
    found: list[BlockUse] = []
    for rule in nat.rules.source_rules:
        if rule.port_block or rule.deterministic:
            spaces = nat.blocks.spaces_of(rule) if rule.port_block else []
            found.append(
                {
                    "rule": rule.label,
                    "comment": rule.comment,
                    "in_use": sum(space.allocated for space in spaces),
                    "limit": sum(space.total for space in spaces),
                    "no_block": rule.pool.failures - rule.pool.limited,
                    "host_limit": rule.pool.limited,
                }
            )
    return found

"""Port blocks as the operator sees them."""

from typing import Final, TypedDict

from conntrackd_py.const import PROTO_NAMES
from conntrackd_py.match.address import address_text
from conntrackd_py.nat.carrier.block_space import Block
from conntrackd_py.nat.carrier.blocks import Blocks

NO_RULE: Final = "none"  # connections hold it that no rule with blocks allocated


class Row(TypedDict):
    """ports: first and last. used: ports in use by protocol. age: seconds. rests: until an empty one is released, in s.

    contested: two hosts hold it, and nobody gets a port of it.
    """

    inside: str
    zone: int
    outer: str
    ports: tuple[int, int]
    used: dict[str, int]
    rule: str
    age: float
    rests: float
    contested: bool


def rows(blocks: Blocks, part: int, now: int) -> list[Row]:
    """The blocks of one part of the table."""
    return [_row(block, now) for block in blocks.by_place.parts[part].values()]


def _row(block: Block, now: int) -> Row:
    used = {
        PROTO_NAMES.get(number, str(number)): bits.bit_count() for number, bits in sorted(block.used.items()) if bits
    }
    return {
        "inside": address_text(block.inside),
        "zone": int.from_bytes(block.host[:2], "big"),
        "outer": address_text(block.outer),
        "ports": (block.low, block.high),
        "used": used,
        "rule": block.label or NO_RULE,
        "age": (now - block.since) / 1000,
        "rests": 0.0 if block.counts else max(block.until - now, 0) / 1000,
        "contested": block.contested,
    }

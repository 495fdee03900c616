"""Endpoint-independent mappings as the operator sees them."""

from typing import Final, TypedDict

from conntrackd_py.const import PROTO_NAMES
from conntrackd_py.match.address import address_text
from conntrackd_py.nat.mapping import Endpoints, Mapping, port_of
from conntrackd_py.nat.rules import FILTERINGS

NO_RULE: Final = "none"  # its rule is gone: it refuses everybody outside


class Row(TypedDict):
    """expires: seconds without a connection until it refuses first packets from outside, 0: it does. rests: until its
    port is free for other inside endpoints, after `expires`."""

    proto: str
    inside: str
    inside_port: int
    outer: str
    outer_port: int
    rule: str
    filtering: str
    connections: int
    expires: float
    rests: float


def rows(endpoints: Endpoints, part: int, now: int) -> list[Row]:
    """The mappings of one part of the table."""
    return [_row(endpoints, mapping, now) for mapping in endpoints.by_outer.parts[part].values()]


def _row(endpoints: Endpoints, mapping: Mapping, now: int) -> Row:
    rule = mapping.rule
    policy = rule.independent if rule is not None else None
    left = endpoints.lifetime if mapping.holding else max(mapping.until - now, 0)
    rests = endpoints.rest if left else max(mapping.until + endpoints.rest - now, 0)
    return {
        "proto": PROTO_NAMES[mapping.protonum],
        "inside": address_text(mapping.inside[: mapping.length]),
        "inside_port": port_of(mapping.inside, mapping.length),
        "outer": address_text(mapping.address),
        "outer_port": mapping.port,
        "rule": rule.label if rule is not None else NO_RULE,
        "filtering": FILTERINGS[policy.filtering] if policy is not None else NO_RULE,
        "connections": mapping.connections,
        "expires": left / 1000,
        "rests": rests / 1000,
    }

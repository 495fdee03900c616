"""Deterministic NAT (RFC 7422): the rule alone says which outer address and ports an inside address has.

The source network has H addresses, the outer range N. Each outer address serves H / N inside addresses, rounded up,
and divides its ports among them. What is left over at the end of the port range is not used.
"""

from conntrackd_py.nat.rules import NatRule


def shape_of(rule: NatRule) -> tuple[int, int]:
    """Ports of each inside address, and inside addresses of each outer address; (0, 0) without `deterministic`."""
    source = rule.match.source
    if not rule.deterministic or source is None:
        return 0, 0
    hosts = _number(source.bounds[1]) - _number(source.bounds[0]) + 1
    addresses = _number(rule.to.high) - _number(rule.to.low) + 1
    sharing = (hosts + addresses - 1) // addresses
    return (rule.to.port_high - rule.to.port_low + 1) // sharing, sharing


def slice_of(rule: NatRule, inside: bytes) -> tuple[bytes, int, int] | None:
    """The outer address, first and last port of an inside address; None if the rule does not cover it."""
    source = rule.match.source
    ports, sharing = shape_of(rule)
    if not ports or source is None or not source.bounds[0] <= inside <= source.bounds[1]:
        return None
    if len(inside) != len(source.bounds[0]):
        return None
    at, place = divmod(_number(inside) - _number(source.bounds[0]), sharing)
    low = rule.to.port_low + place * ports
    return (_number(rule.to.low) + at).to_bytes(len(rule.to.low), "big"), low, low + ports - 1


def inside_of(rule: NatRule, outer: bytes, port: int) -> bytes | None:
    """The inside address that has this outer port; None if none has it."""
    source = rule.match.source
    ports, sharing = shape_of(rule)
    if not ports or source is None or not rule.to.has_address(outer) or port < rule.to.port_low:
        return None
    place = (port - rule.to.port_low) // ports
    at = (_number(outer) - _number(rule.to.low)) * sharing + place
    inside = _number(source.bounds[0]) + at
    if place >= sharing or inside > _number(source.bounds[1]):
        return None
    return inside.to_bytes(len(source.bounds[0]), "big")


def _number(address: bytes) -> int:
    return int.from_bytes(address, "big")

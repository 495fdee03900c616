"""The targets of DNAT rules: listed, and marked down or up by an operator."""

from typing import TypedDict

from conntrackd_py.control.protocol.requests import RefusedError, RequestError
from conntrackd_py.match.address import AddressError, address_and_port
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.targets import Target


class Row(TypedDict):
    """connections: new ones since the rule is in force."""

    rule: str
    comment: str
    target: str
    weight: int
    down: bool
    connections: int


def rows(nat: Nat) -> list[Row]:
    """Every target, in the order of the rules."""
    found: list[Row] = []
    for rule in nat.rules.balancing():
        for target in rule.targets.targets if rule.targets is not None else ():
            found.append(
                {
                    "rule": rule.label,
                    "comment": rule.comment,
                    "target": target.name,
                    "weight": target.weight,
                    "down": target.down,
                    "connections": target.connections,
                }
            )
    return found


def set_down(nat: Nat, text: str, down: bool) -> int:
    """Mark the targets with this address, and port if it is given; returns how many. Raises the errors of requests."""
    try:
        address, port = address_and_port(text)
    except AddressError as error:
        raise RequestError(str(error)) from error
    found: list[Target] = []
    for rule in nat.rules.balancing():
        for target in rule.targets.targets if rule.targets is not None else ():
            if target.named(address, port or 0):
                found.append(target)
    if not found:
        raise RefusedError(f"no rule has a target {text}")
    for target in found:
        target.down = down
    return len(found)

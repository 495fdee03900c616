"""A NAT rule as the engine matches it: parsed once, asked once per new connection and kind.

Vocabulary of iptables. A rule of kind DST (DNAT, REDIRECT) is asked at PREROUTING and OUTPUT, a rule
of kind SRC (SNAT, MASQUERADE) at POSTROUTING and INPUT; ACCEPT ends the search in both, translating
nothing. The first match binds.
Addresses are 4 or 16 bytes; the length is the family and a rule never matches the other one.
"""

from typing import Final, final

from conntrackd_py.nat.pool import Pool

NAT_ACCEPT: Final = 0
NAT_SNAT: Final = 1
NAT_DNAT: Final = 2
NAT_MASQUERADE: Final = 3
NAT_REDIRECT: Final = 4
NAT_ACTIONS: Final = ("ACCEPT", "SNAT", "DNAT", "MASQUERADE", "REDIRECT")

ANY_PROTO: Final = -1


@final
class Net:
    """A network, `address/prefix`, possibly inverted (`!`)."""

    def __init__(self, address: bytes, prefix: int, invert: bool = False) -> None:
        self.length = len(address)
        self.shift = len(address) * 8 - prefix
        self.bits = int.from_bytes(address, "big") >> self.shift
        self.invert = invert

    def matches(self, address: bytes) -> bool:
        if len(address) != self.length:
            return False
        return (int.from_bytes(address, "big") >> self.shift == self.bits) != self.invert


@final
class Interface:
    """An interface name, `+` at the end matching any continuation, possibly inverted (`!`)."""

    def __init__(self, name: str, invert: bool = False) -> None:
        self.wild = name.endswith("+")
        self.name = name[:-1] if self.wild else name
        self.invert = invert

    def matches(self, name: str) -> bool:
        hit = name.startswith(self.name) if self.wild else name == self.name
        return hit != self.invert


@final
class Ports:
    """An inclusive port range, possibly inverted (`!`)."""

    def __init__(self, low: int, high: int, invert: bool = False) -> None:
        self.low = low
        self.high = high
        self.invert = invert

    def matches(self, port: int) -> bool:
        return (self.low <= port <= self.high) != self.invert


@final
class NatRule:
    """One rule. None (or ANY_PROTO) in a match field means anything.

    `to_low`..`to_high` is the inclusive address range of `to` (empty bytes: keep the address, or for
    MASQUERADE take the outgoing interface's); `port_low`..`port_high` its port range (0, 0: none given).
    `label` names the rule in messages and counters, for example `nat[2]`; `comment` is its author's.
    """

    def __init__(
        self,
        action: int,
        *,
        in_interface: Interface | None = None,
        out_interface: Interface | None = None,
        source: Net | None = None,
        destination: Net | None = None,
        protonum: int = ANY_PROTO,
        sport: Ports | None = None,
        dport: Ports | None = None,
        to_low: bytes = b"",
        to_high: bytes = b"",
        port_low: int = 0,
        port_high: int = 0,
        random: bool = False,
        persistent: bool = False,
        family: int = 0,
        label: str = "",
        comment: str = "",
    ) -> None:
        self.action = action
        self.in_interface = in_interface
        self.out_interface = out_interface
        self.source = source
        self.destination = destination
        self.protonum = protonum
        self.sport = sport
        self.dport = dport
        self.to_low = to_low
        self.to_high = to_high
        self.port_low = port_low
        self.port_high = port_high
        self.random = random
        self.persistent = persistent
        self.family = family
        self.label = label
        self.comment = comment
        self.pool = Pool()

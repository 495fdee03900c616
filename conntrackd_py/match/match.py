"""The match of a NAT, filter, raw or mark rule: interfaces, addresses, protocol, ports, family, mark, ct expression.

A field that the packet does not have never matches, inverted or not: no interface at this hook, no ports in ICMP.
"""

from typing import Final, final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import WITH_PORTS
from conntrackd_py.match.address import Addresses
from conntrackd_py.match.expr import Expr
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.numbers import Masked, Numbers
from conntrackd_py.wire.ip import addresses
from conntrackd_py.wire.packet import u16

ABSENT: Final = -1  # the packet has no such number
UNREAD: Final = -2  # the number cannot be read: broken or cut off


@final
class PacketInfo:
    """The fields of one packet that rules compare, read when the first rule needs them.

    names: interface names by index. Empty: no interface, or one without a name; no address.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.complete = False
        self.version = 0
        self.in_interface = ""
        self.out_interface = ""
        self.source = b""
        self.destination = b""
        self.protonum = ABSENT
        self.sport = ABSENT
        self.dport = ABSENT

    def read(self, skb: Skb) -> None:
        self.complete = True
        self.in_interface = self.names.get(skb.indev, "")
        self.out_interface = self.names.get(skb.outdev, "")
        if not skb.version:
            return  # no readable IP header
        pair = addresses(skb)
        half = len(pair) // 2
        self.fill(pair[:half], pair[half:], skb.protonum)
        if skb.protonum in WITH_PORTS and skb.dataoff + 4 <= skb.end:
            self.sport = u16(skb.data, skb.dataoff)
            self.dport = u16(skb.data, skb.dataoff + 2)

    def fill(self, source: bytes, destination: bytes, protonum: int) -> None:
        self.version = 4 if len(source) == 4 else 6
        self.source = source
        self.destination = destination
        self.protonum = protonum


@final
class Match:
    """None matches anything, family 0 both families. Call `settle` after a change of a field."""

    def __init__(
        self,
        *,
        in_interface: InterfaceNames | None = None,
        out_interface: InterfaceNames | None = None,
        source: Addresses | None = None,
        destination: Addresses | None = None,
        proto: Numbers | None = None,
        sport: Numbers | None = None,
        dport: Numbers | None = None,
        family: int = 0,
        mark: Masked | None = None,
        ct: Expr | None = None,
    ) -> None:
        self.in_interface = in_interface
        self.out_interface = out_interface
        self.source = source
        self.destination = destination
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.family = family
        self.mark = mark
        self.ct = ct
        self.needs_info = False
        self.settle()

    def settle(self) -> None:
        interfaces = self.in_interface is not None or self.out_interface is not None
        addresses = self.source is not None or self.destination is not None
        numbers = self.proto is not None or self.sport is not None or self.dport is not None
        self.needs_info = interfaces or addresses or numbers

    def matches(self, skb: Skb, info: PacketInfo, now: int) -> bool:
        if self.family and self.family != skb.version:
            return False
        if self.needs_info:
            if not info.complete:
                info.read(skb)
            if not self.fits(info, False):
                return False
        if self.mark is not None and not self.mark.has(skb.mark):
            return False
        return self.ct is None or self.ct.matches(skb, now)

    @property
    def conditional(self) -> bool:
        """Whether it depends on more than the packet's headers and interfaces."""
        return self.mark is not None or self.ct is not None

    def holds(self, skb: Skb | None, assume: bool) -> bool:
        """The mark and the ct expression, for the first packet of a connection. skb None: not known, so `assume`."""
        if self.mark is None and self.ct is None:
            return True
        if skb is None:
            return assume
        if self.mark is not None and not self.mark.has(skb.mark):
            return False
        return self.ct is None or self.ct.matches(skb, 0)  # no timeout runs before the connection is confirmed

    def fits(self, info: PacketInfo, assume: bool) -> bool:
        """All but the mark and the ct expression. assume: an UNREAD number is taken to match."""
        if self.family and self.family != info.version:
            return False
        if self.in_interface is not None and not self.in_interface.has(info.in_interface):
            return False
        if self.out_interface is not None and not self.out_interface.has(info.out_interface):
            return False
        if self.source is not None and not self.source.has(info.source):
            return False
        if self.destination is not None and not self.destination.has(info.destination):
            return False
        return (
            _fits(self.proto, info.protonum, assume)
            and _fits(self.sport, info.sport, assume)
            and _fits(self.dport, info.dport, assume)
        )

    def fits_protocol(self, protonum: int) -> bool:
        return self.proto is None or self.proto.has(protonum)

    def only_protocols(self, allowed: tuple[int, ...]) -> bool:
        """Whether only these protocols match."""
        return self.proto is not None and self.proto.within(allowed)

    def only_protocol(self) -> int:
        """The protocol, if exactly one matches; otherwise -1."""
        return -1 if self.proto is None else self.proto.only()


def _fits(wanted: Numbers | None, number: int, assume: bool) -> bool:
    if wanted is None:
        return True
    return wanted.has(number) if number >= 0 else assume and number == UNREAD

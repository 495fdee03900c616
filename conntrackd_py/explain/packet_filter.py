"""Which packets `explain` shows: by address or port of either end, protocol and reason."""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import WITH_PORTS
from conntrackd_py.explain.refusals import Refusal
from conntrackd_py.match.address import Addresses
from conntrackd_py.reasons import OK, OVERWRITTEN, UNHELPED
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import u16

ANY: Final = -1


@final
class PacketFilter:
    """All that is given must match. reasons: one of them must; empty: any. OK among them: expired in use."""

    def __init__(
        self,
        host: Addresses | None = None,
        port: int = ANY,
        protonum: int = ANY,
        reasons: frozenset[int] = frozenset(),
    ) -> None:
        self.host = host
        self.port = port
        self.protonum = protonum
        self.reasons = reasons
        self.by_packet = host is not None or port != ANY or protonum != ANY

    def matches(self, note: Refusal) -> bool:
        """Whether the packet or the original tuple of its connection matches, and the reason."""
        if self.reasons and not self.matches_reason(note):
            return False
        if not self.by_packet or self.matches_packet(note.header):
            return True
        t = note.original
        if not t:
            return False
        pair = tuples.src(t) + tuples.dst(t)
        protonum = tuples.protonum(t)
        if protonum not in WITH_PORTS:
            return self._fits(pair, protonum, ANY, ANY)
        return self._fits(pair, protonum, tuples.l4src(t), tuples.l4dst(t))

    def matches_reason(self, note: Refusal) -> bool:
        """Also by the cause; a refusal with a hint counts as expired in use too."""
        if note.overwritten and (OVERWRITTEN in self.reasons or note.reason == OK):
            return OVERWRITTEN in self.reasons
        if note.lacks:
            return UNHELPED in self.reasons
        if note.reason in self.reasons or (note.expired is not None and OK in self.reasons):
            return True
        return note.cause != OK and note.cause in self.reasons

    def matches_packet(self, header: bytes) -> bool:
        """header: the packet or its first bytes. Nothing unreadable matches, except if all packets do."""
        if not self.by_packet:
            return True
        packet = Skb(header)
        unread = ip.parse(packet, quoted=True)
        if not packet.version:
            return False
        at = packet.dataoff
        if unread or packet.protonum not in WITH_PORTS or at + 4 > len(header):
            return self._fits(ip.addresses(packet), packet.protonum, ANY, ANY)
        return self._fits(ip.addresses(packet), packet.protonum, u16(header, at), u16(header, at + 2))

    def _fits(self, pair: bytes, protonum: int, sport: int, dport: int) -> bool:
        half = len(pair) // 2
        if self.protonum != ANY and self.protonum != protonum:
            return False
        if self.port != ANY and self.port != sport and self.port != dport:
            return False
        return self.host is None or self.host.has(pair[:half]) or self.host.has(pair[half:])

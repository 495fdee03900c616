"""The maps of the kernel as Python: elements, and packets rewritten by them at the two places."""

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP, NF_ACCEPT, NF_QUEUE, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.engine.mark_codec import done_bit
from conntrackd_py.engine.mark_maps import LARGE, Element, Maps
from conntrackd_py.nat.manip import NOWHERE, rewrite
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import u16

COPIED = 256
PLACES = {PRE_ROUTING: ("daddr", "dport", 2), POST_ROUTING: ("saddr", "sport", 0)}


class TwinMaps(Maps):
    def __init__(self) -> None:
        self.elements: dict[tuple[int, str, int], bytes] = {}
        self.transactions = 0
        self.working = True
        self.closed = False

    def add(self, elements: list[Element]) -> bool:
        self.transactions += 1
        if not self.working:
            return False
        for family, name, mark, value in elements:
            assert (family, name, mark) not in self.elements, "the kernel refuses an element that exists"
            self.elements[family, name, mark] = value
        return True

    def delete(self, elements: list[Element]) -> bool:
        self.transactions += 1
        if not self.working:
            return False
        for family, name, mark, value in elements:
            assert self.elements.pop((family, name, mark)) == value
        return True

    def close(self) -> None:
        self.closed = True
        self.elements.clear()

    def rewrite(self, skb: Skb, hook: int) -> None:
        """What the kernel does after an accepted visit."""
        packet = Skb(skb.data)
        if hook not in PLACES or ip.parse(packet) or packet.dataoff + 8 > packet.end:
            return
        if packet.protonum == IPPROTO_UDP and not u16(packet.data, packet.dataoff + 6):
            return
        address, port, at = PLACES[hook]
        without_done = skb.mark & DEFAULT_MASK & ~done_bit(DEFAULT_MASK)
        field = without_done if hook == PRE_ROUTING else skb.mark & DEFAULT_MASK
        value = self.elements.get((packet.version, address, field))
        if value is None:
            return
        pair = ip.addresses(packet)
        half = len(pair) // 2
        pair = value + pair[half:] if hook == POST_ROUTING else pair[:half] + value
        number = self.elements.get((packet.version, port, without_done))
        has_ports = packet.protonum in (IPPROTO_TCP, IPPROTO_UDP)
        skb.data = rewrite(packet, pair, at if number is not None and has_ports else NOWHERE, number or b"")
        if hook == POST_ROUTING:
            skb.mark |= done_bit(DEFAULT_MASK)


def visit(engine: Engine, maps: TwinMaps, skb: Skb, hook: int, now: int, *, verified: bool = True) -> int:
    """A visit as the kernel lets it happen: large packets by their headers first, and rewritten afterwards.

    verified: the kernel knows the checksum to be right.
    """
    verdict = NF_QUEUE
    if len(skb.data) > LARGE and hook in PLACES:
        head = Skb(skb.data[:COPIED], skb.mark, skb.indev, skb.outdev)
        head.checksum_verified = verified
        verdict = engine.handle_headers(head, hook, now)
        if verdict != NF_QUEUE:
            assert head.data == skb.data[:COPIED]
            skb.mark, skb.ctinfo, skb.ct = head.mark, head.ctinfo, head.ct
            skb.reason, skb.by_mark = head.reason, head.by_mark
    if verdict == NF_QUEUE:
        verdict = engine.handle(skb, hook, now)
    if verdict == NF_ACCEPT:
        maps.rewrite(skb, hook)
    return verdict

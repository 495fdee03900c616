"""The maps of the kernel as Python: elements, packets rewritten by them at the two places, packets forwarded."""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP, NF_ACCEPT, NF_QUEUE, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.engine.mark_codec import done_bit, valid_bit
from conntrackd_py.engine.mark_maps import FLOWS, LARGE, LEAVES, SOURCES, Element, Maps, leaving
from conntrackd_py.nat.rewrite.manip import NOWHERE, rewrite
from conntrackd_py.reasons import OK
from conntrackd_py.wire import ip, tcp
from conntrackd_py.wire.packet import u16

COPIED = 256
SETS = (LEAVES, SOURCES)
PLACES = {PRE_ROUTING: ("daddr", "dport", 2), POST_ROUTING: ("saddr", "sport", 0)}


class TwinMaps(Maps):
    def __init__(self) -> None:
        self.elements: dict[tuple[int, str, int], bytes] = {}
        self.flows: dict[bytes, tuple[int, list[int]]] = {}
        self.sets: set[Element] = set()  # elements of leaves and sources
        self.recognising = True
        self.sparing = True
        self.transactions = 0
        self.working = True
        self.closed = False

    def add(self, elements: list[Element]) -> bool:
        self.transactions += 1
        if not self.working:
            return False
        for element in elements:
            family, name, mark, value = element
            if name == FLOWS:
                assert value not in self.flows, "the kernel refuses an element that exists"
                self.flows[value] = (mark, [0, 0])
            elif name in SETS:
                assert element not in self.sets, "the kernel refuses an element that exists"
                self.sets.add(element)
            else:
                assert (family, name, mark) not in self.elements, "the kernel refuses an element that exists"
                self.elements[family, name, mark] = value
        return True

    def delete(self, elements: list[Element]) -> bool:
        self.transactions += 1
        if not self.working:
            return False
        for element in elements:
            family, name, mark, value = element
            if name == FLOWS:
                assert self.flows.pop(value)[0] == mark
            elif name in SETS:
                self.sets.remove(element)
            else:
                assert self.elements.pop((family, name, mark)) == value
        return True

    def delete_counted(self, elements: list[Element]) -> list[int]:
        found = self.counters([element for element in elements if element.map == FLOWS])
        return found if self.delete(elements) else []

    def counters(self, elements: list[Element]) -> list[int]:
        return [number for element in elements for number in self.flows[element.value][1]] if self.working else []

    def recognise(self, on: bool) -> bool:
        self.recognising = on
        return self.working

    def forward(self, skb: Skb, outdev: int) -> bool:
        """Whether the kernel forwards this arriving packet past all queues; it is then as it leaves."""
        assert ip.parse(skb) == OK
        data, at = skb.data, skb.dataoff
        if skb.protonum == IPPROTO_TCP and data[at + 13] & (tcp.SYN | tcp.FIN | tcp.RST):
            return False
        if skb.protonum == IPPROTO_UDP and not u16(data, at + 6):
            return False
        found = self.flows.get(tuples.make(ip.addresses(skb), data[at : at + 4], skb.protonum))
        if found is None or not self.recognising or skb.mark & ~DEFAULT_MASK:
            return False
        skb.mark, counters = found
        counters[0] += 1
        counters[1] += len(data)
        self.rewrite(skb, PRE_ROUTING)
        return self.leave(skb, outdev)

    def leave(self, skb: Skb, outdev: int) -> bool:
        """Whether the kernel lets this packet leave without its second visit; it is then as it leaves."""
        packet = Skb(skb.data)
        assert ip.parse(packet) == OK
        at = packet.dataoff
        if (packet.protonum == IPPROTO_TCP and packet.data[at + 13] & tcp.SYN) or not self.sparing:
            return False
        if packet.protonum == IPPROTO_UDP and not u16(packet.data, at + 6):
            return False
        t = tuples.make(ip.addresses(packet), packet.data[at : at + 4], packet.protonum)
        mark = skb.mark & ~done_bit(DEFAULT_MASK)
        if Element(packet.version, LEAVES, mark, leaving(outdev, t)) not in self.sets:
            return False
        skb.mark = mark
        self.rewrite(skb, POST_ROUTING)
        gone = mark ^ valid_bit(DEFAULT_MASK) | done_bit(DEFAULT_MASK)
        packet = Skb(skb.data)
        assert ip.parse(packet) == OK
        assert Element(packet.version, SOURCES, gone, _source(packet)) in self.sets
        return True

    def spare(self, on: bool) -> bool:
        self.sparing = on
        return self.working

    def close(self) -> None:
        self.closed = True
        self.flows.clear()
        self.sets.clear()
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


def _source(skb: Skb) -> bytes:
    pair = ip.addresses(skb)
    return pair[: len(pair) // 2]


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

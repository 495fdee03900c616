"""The maps of the kernel, as a former process left them, become those of this engine; the kernel uses them meanwhile.

- An element is kept only if its connection was restored into the same slot and would get exactly these elements now.
- All other elements are deleted before a packet is handled. So none outlives its connection.
- The counters of `flows` are credited: the kernel has forwarded packets without a daemon.
"""

from typing import Final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import ORIGINAL, REPLY
from conntrackd_py.engine.mark_maps import FLOWS, Element, Maps
from conntrackd_py.engine.offload import NONE, Offload

AT_ONCE: Final = 1024  # elements that are deleted in one transaction


def take_over(offload: Offload, maps: Maps, held: list[Element], now: int) -> bool:
    """held: all elements in the kernel. False: the state of the maps is unknown."""
    by_slot: dict[int, list[Element]] = {}
    for element in held:
        by_slot.setdefault(offload.codec.slot(element.mark), []).append(element)
    gone: list[Element] = []
    for slot, found in by_slot.items():
        ct = None if offload.core.standby else offload.core.table.at(slot)
        gone += _not_kept(offload, ct, found, now)
    for at in range(0, len(gone), AT_ONCE):
        if not maps.delete(gone[at : at + AT_ONCE]):
            return False
    return maps.spare(offload.mark_maps.sparing) and (not offload.on or maps.recognise(True))


def _not_kept(offload: Offload, ct: NfConn | None, found: list[Element], now: int) -> list[Element]:
    """The elements of a slot that must be deleted."""
    mark_maps = offload.mark_maps
    flows = [element for element in found if element.map == FLOWS]
    marked = [element for element in found if element.map != FLOWS]
    if ct is None or not mark_maps.mappable(ct):
        return found
    wanted = mark_maps.elements(ct)
    if set(marked) != set(wanted):
        return found
    mark_maps.keep(ct, wanted)
    counters: dict[Element, list[int]] = {}
    for one in flows:
        counters[Element(one.family, FLOWS, one.mark, one.value)] = [one.packets, one.size]
    own = offload.own(ct, NONE)
    if len(flows) != len(own) or own[ORIGINAL] not in counters or own[REPLY] not in counters:
        return flows
    return [] if offload.adopt(ct, counters[own[ORIGINAL]] + counters[own[REPLY]], now) else flows

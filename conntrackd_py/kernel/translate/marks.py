"""States and directions of the kernel's ct matches -> ctinfo values -> matches of the packet mark.

An iptables rule stays one rule: several `-m mark` in a rule must all match, and each can be inverted. So a rule with a
limit or a LOG target acts once a packet, as before.
"""

from collections.abc import Collection, Iterable
from itertools import combinations
from typing import Final, final

from conntrackd_py.const import IP_CT_RELATED_REPLY
from conntrackd_py.engine.mark_codec import MARK_CTINFO, MARK_VALID
from conntrackd_py.kernel.doctor.findings import CTINFOS

CTINFO_OF: Final = {name: frozenset(values) for name, values in CTINFOS.items()}
EVERY: Final = frozenset().union(*CTINFO_OF.values())
TRACKED: Final = frozenset(range(IP_CT_RELATED_REPLY + 1))
DIRECTIONS: Final = {"original": frozenset((0, 1, 2)), "reply": frozenset((3, 4))}
# (value, mask) of every part of the ctinfo bits that one mark match can test, those of one value first.
CUBES: Final = tuple(
    sorted(
        ((value, mask) for mask in range(8) for value in range(8) if value & ~mask == 0),
        key=lambda cube: -cube[1].bit_count(),
    )
)


class UntranslatableError(Exception):
    """The text says why, for the operator."""


def ctinfos(names: Iterable[str], known: dict[str, frozenset[int]], inverted: bool) -> frozenset[int]:
    """The ctinfo values of these states or directions, or of all others. Raises UntranslatableError."""
    found: frozenset[int] = frozenset()
    for name in names:
        if name in ("snat", "dnat"):
            raise UntranslatableError(
                "the packet mark does not tell whether a packet is translated; match its addresses"
            )
        if name not in known:
            raise UntranslatableError(f"{name or 'an empty name'} is no state or direction that the packet mark has")
        found |= known[name]
    return frozenset().union(*known.values()) - found if inverted else found


@final
class Marks:
    """mask: steering.mark_mask, not 0."""

    def __init__(self, mask: int) -> None:
        self.shift = (mask & -mask).bit_length() - 1
        self.valid = MARK_VALID << self.shift
        self.bits = self.valid | MARK_CTINFO << self.shift

    def iptables(self, wanted: Collection[int]) -> str:
        """`-m mark --mark ...`, several times if all must match."""
        (value, mask), refused = _conjunction(wanted)
        found = [f"-m mark --mark {self._pair(value, mask)}"]
        found += [f"-m mark ! --mark {self._pair(*cube)}" for cube in refused]
        return " ".join(found)

    def _pair(self, value: int, mask: int) -> str:
        return f"{(MARK_VALID | value) << self.shift:#x}/{(MARK_VALID | mask) << self.shift:#x}"

    def unset_iptables(self) -> str:
        """Matches packets that the daemon did not mark."""
        return f"-m mark --mark 0x0/{self.valid:#x}"

    def nft(self, wanted: Collection[int]) -> str:
        values = [self.value(ctinfo) for ctinfo in sorted(wanted)]
        if len(values) == len(EVERY):
            return f"meta mark & {self.valid:#010x} == {self.valid:#010x}"
        listed = ", ".join(values)
        return f"{self.key} == {listed if len(values) == 1 else f'{{ {listed} }}'}"

    @property
    def key(self) -> str:
        return f"meta mark & {self.bits:#010x}"

    def value(self, ctinfo: int) -> str:
        return f"{(MARK_VALID | ctinfo) << self.shift:#010x}"

    def unset_nft(self) -> str:
        return f"meta mark & {self.valid:#010x} == 0x00000000"


def _conjunction(wanted: Collection[int]) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """A part of the ctinfo bits with all wanted values, and the fewest parts that exclude all other values of it."""
    first = min(wanted)
    differing = 0
    for ctinfo in wanted:
        differing |= ctinfo ^ first
    mask = MARK_CTINFO & ~differing
    others = {ctinfo for ctinfo in EVERY - set(wanted) if ctinfo & mask == first & mask}
    usable = [cube for cube in CUBES if not any(ctinfo & cube[1] == cube[0] for ctinfo in wanted)]
    for count in range(len(others) + 1):
        for refused in combinations(usable, count):
            if all(any(ctinfo & part == value for value, part in refused) for ctinfo in others):
                return (first & mask, mask), refused
    raise AssertionError("every value is a part of its own")

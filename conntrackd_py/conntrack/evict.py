"""Room in a full table: unassured connections end before their time.

early_drop makes room for one new connection; relieve works ahead of it once the table is 95 % full.
Sources: early_drop, gc_worker (nf_conntrack_max95).
"""

from typing import TYPE_CHECKING, Final

from conntrackd_py.const import IPS_ASSURED, IPS_CONFIRMED, IPS_DYING
from conntrackd_py.reasons import END_EARLY_DROP

if TYPE_CHECKING:
    from conntrackd_py.conntrack.core import Conntrack

EVICTION_RANGE: Final = 64  # connections early_drop looks at


def early_drop(core: "Conntrack", now: int) -> bool:
    """End the first unassured connection of some; True when there was one.

    They are drawn from all over the table, because connections made together stand together.
    """
    slots = core.table.slots
    for _ in range(EVICTION_RANGE):
        ct = slots[core.randomness.below(len(slots))]
        if ct is None or ct.status & (IPS_ASSURED | IPS_DYING) or not ct.status & IPS_CONFIRMED:
            continue
        core.kill(ct, END_EARLY_DROP, now)
        core.stats.early_drop += 1
        return True
    return False


def relieve(core: "Conntrack", now: int, budget: int) -> int:
    """End unassured and closing connections, slot by slot, while the table is more than 95 % full.

    Returns how many ended. budget: slots to look at.
    """
    pressure = core.limit * 95 // 100
    if not core.limit or core.table.confirmed <= pressure:
        return 0
    slots = core.table.slots
    relieved = 0
    for _ in range(min(budget, len(slots))):
        core.pressed = (core.pressed + 1) % len(slots)
        ct = slots[core.pressed]
        if ct is None or not ct.status & IPS_CONFIRMED or ct.status & IPS_DYING:
            continue
        if ct.status & IPS_ASSURED and not ct.l4proto.closing(ct.state):
            continue
        core.kill(ct, END_EARLY_DROP, now)
        core.stats.early_drop += 1
        relieved += 1
        if core.table.confirmed <= pressure:
            break
    return relieved

"""The end of connections: eviction from a full table, expiry, and release of the slots of dead connections.

early_drop makes room for one new connection; relieve evicts ahead of it once the table is 95 % full.
Sources: early_drop, gc_worker (nf_conntrack_max95).
"""

from typing import Final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.gc import NEVER
from conntrackd_py.const import IPS_ASSURED, IPS_CONFIRMED, IPS_DYING
from conntrackd_py.reasons import END_EARLY_DROP, END_TIMEOUT

EVICTION_RANGE: Final = 64  # connections that early_drop tries
UNCONFIRMED_LIFETIME: Final = 10_000  # ms a packet may take between its first and its last hook
DYING_GRACE: Final = 2_000  # ms a dead connection keeps its slot, for packets between two visits
TOGETHER: Final = 50  # ms: slots are released so much earlier with an older one: few changes of the kernel's maps


def early_drop(core: Conntrack, now: int) -> bool:
    """Evict the first unassured connection of a random sample; False when there is none.

    The sample comes from the whole table, because connections made together have neighbouring slots.
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


def relieve(core: Conntrack, now: int, budget: int) -> int:
    """Evict unassured and closing connections, slot by slot, while the table is more than 95 % full.

    budget: slots to try. Returns how many connections it evicted.
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


def drop_oldest_unconfirmed(core: Conntrack, now: int) -> None:
    """Evict the oldest unconfirmed connection: a filter probably dropped its packet."""
    for ct in core.table.unconfirmed.values():
        core.stats.unconfirmed_lost += 1
        core.kill(ct, END_TIMEOUT, now)
        break


def expire(core: Conntrack, now: int, budget: int) -> int:
    """End expired connections and release dead ones, at most budget of each; returns how many ended."""
    expired = 0
    for ct in core.gc.due(now, budget):
        if core.expired(ct, now):
            expired += core.kill(ct, END_TIMEOUT, now)
        else:
            core.gc.schedule(ct, now)
    core.expectations.expire(now)
    relieved = relieve(core, now, budget)
    lost = _unconfirmed_since(core, now - UNCONFIRMED_LIFETIME, budget)
    for ct in lost:
        core.stats.unconfirmed_lost += 1
        core.kill(ct, END_TIMEOUT, now)
    _release(core, now - DYING_GRACE, budget)
    return expired + len(lost) + relieved


def _unconfirmed_since(core: Conntrack, before: int, budget: int) -> list[NfConn]:
    found: list[NfConn] = []
    for ct in core.table.unconfirmed.values():
        if budget == 0 or ct.born > before:
            break
        budget -= 1
        found.append(ct)
    return found


def _release(core: Conntrack, before: int, budget: int) -> None:
    """If a connection ended at `before` or earlier, free its slot and those of the next ones, at most `budget`."""
    dying = core.table.dying
    if dying and dying[0].due <= before:
        before += TOGETHER
    while budget and dying and dying[0].due <= before:
        budget -= 1
        ct = dying[0]
        core.table.release(ct)
        for extension in core.extensions:
            extension.released(ct)


def next_expiry(core: Conntrack) -> int:
    """When expire() has work again, in ms; NEVER when there is none."""
    when = core.gc.next_due()
    for ct in core.table.unconfirmed.values():
        when = min(when, ct.born + UNCONFIRMED_LIFETIME)
        break
    if core.table.dying:
        when = min(when, core.table.dying[0].due + DYING_GRACE)
    return min(when, NEVER)

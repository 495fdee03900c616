"""Translations of the kernel's NAT, for mode observe.

The daemon sees packets before the kernel's NAT and is told the reply tuple of each connection that the kernel
translates. It may be told before or after it sees the first packet: what is told too early waits here.

- At most LIMIT translations wait; the oldest is dropped first.
- The kernel is right: another connection of ours that has the reply tuple is over, or never was one, and ends.
- Two connections may look as if they had one reply tuple: the kernel gives one of them another port and tells of it.
  Until then the reply tuple of that one is unknown; its original tuple stands for it.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPCT_SEQADJ, IPS_CONFIRMED, IPS_DYING, IPS_NAT_MASK
from conntrackd_py.reasons import END_REOPENED, END_TIMEOUT

LIMIT: Final = 65_536
YOUNG: Final = 5_000  # ms: a connection of this age is the one of which the kernel tells


@final
class Translation:
    """status: the IPS_*_NAT bits."""

    def __init__(self, reply: bytes, status: int) -> None:
        self.reply = reply
        self.status = status


@final
class Translations:
    def __init__(self, core: Conntrack) -> None:
        self.core = core
        self.learned = 0
        self.waiting: OrderedDict[bytes, Translation] = OrderedDict()

    def learn(self, original: bytes, reply: bytes, status: int, now: int, new: bool = True) -> None:
        """The kernel has a connection with these tuples and status bits. new: it has just confirmed it."""
        status &= IPS_NAT_MASK
        if not status:
            return
        self.learned += 1
        self.waiting.pop(original, None)
        ct = self.core.table.find(original)
        known = ct is not None and ct.original == original
        if ct is not None and known and ct.reply != reply:
            self._apply(ct, reply, status, now)
        if ct is not None and known and (not new or now - ct.born < YOUNG):
            return
        if len(self.waiting) >= LIMIT:
            self.waiting.popitem(last=False)
        self.waiting[original] = Translation(reply, status)  # also if an old connection with its tuple is known

    def meet(self, skb: Skb, now: int) -> None:
        """Translate the new connection of a first packet, if its translation waits. Make sure that it has a tuple."""
        ct = skb.ct
        if ct is None or ct.status & (IPS_CONFIRMED | IPS_DYING):
            return
        translation = self.waiting.pop(ct.original, None)
        if translation is not None:
            self._apply(ct, translation.reply, translation.status, now)
            return
        owner = self.core.table.find(ct.reply)
        if owner is None:
            return
        if owner.timeout <= now:
            self.core.kill(owner, END_TIMEOUT, now)
        else:
            self.core.table.translate(ct, ct.original, 0)

    def _apply(self, ct: NfConn, reply: bytes, status: int, now: int) -> None:
        owner = self.core.table.find(reply)
        if owner is not None and owner is not ct:
            if owner.original != reply and not owner.status & IPS_NAT_MASK:
                self.core.table.translate(owner, owner.original, 0)
                self.core.save(owner)
            else:
                self.core.kill(owner, END_REOPENED, now)
        self.core.table.translate(ct, reply, status)
        if ct.status & IPS_CONFIRMED:
            self.core.changed(ct, IPCT_SEQADJ, now)

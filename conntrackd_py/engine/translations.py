"""Translations of the kernel's NAT, for mode observe.

The daemon sees packets before the kernel's NAT. The kernel reports the reply tuple of each connection that it
translates, before or after the daemon sees the first packet. A report that comes before it waits here.

- At most LIMIT translations wait; the oldest is dropped first.
- The kernel reports a connection once. A second report of the same original tuple is about a new connection, whose
  first packet will replace the closed one.
- The kernel is right. If another connection of the daemon has the reported reply tuple, that connection ends.
- The kernel may change the port of a connection because another one has its reply tuple. Until its report comes, the
  daemon does not know the new reply tuple and uses the original tuple in its place.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPCT_SEQADJ, IPS_CONFIRMED, IPS_DYING, IPS_NAT_MASK
from conntrackd_py.reasons import END_REOPENED, END_TIMEOUT

LIMIT: Final = 65_536


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
        if ct is not None and ct.original == original:
            reported = ct.status & IPS_NAT_MASK
            if ct.reply != reply:
                self._apply(ct, reply, status, now)
            if not new or not reported:
                return
        if len(self.waiting) >= LIMIT:
            self.waiting.popitem(last=False)
        self.waiting[original] = Translation(reply, status)

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

"""The verdicts of a standby, which tracks nothing.

In mode nat nothing is forwarded: it would leave untranslated. A packet of a connection in the table is dropped at
PREROUTING: the outer address may be on this machine before the daemon takes over, and the kernel would answer with a
RST. Everything else to and from the machine itself passes, so that VRRP, SSH and the stream work.
"""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb, forwarded
from conntrackd_py.const import NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.reasons import STANDBY
from conntrackd_py.wire import ip


def wait(core: Conntrack, skb: Skb, hook: int, translates: bool) -> int:
    """The verdict on a packet. translates: mode nat."""
    skb.hook = hook
    if not translates or hook not in (PRE_ROUTING, POST_ROUTING):
        return NF_ACCEPT
    unread = ip.parse(skb)
    if hook == POST_ROUTING:
        leaves = skb.indev != 0 if unread else forwarded(skb)
        return core.drop(skb, STANDBY) if leaves else NF_ACCEPT
    return core.drop(skb, STANDBY) if not unread and _known(core, skb) else NF_ACCEPT


def _known(core: Conntrack, skb: Skb) -> bool:
    l4 = core.protos[skb.protonum].l4(skb)
    return bool(l4) and core.table.find(tuples.make(ip.addresses(skb), l4, skb.protonum)) is not None

"""The pipeline: the only list of who sits where.

    hook           -300   -200           -100   0        100    300      INT_MAX
    PRE_ROUTING           conntrack_in   DNAT
    LOCAL_IN                                             SNAT            confirm
    FORWARD
    LOCAL_OUT             conntrack_in   DNAT
    POST_ROUTING                                         SNAT            confirm

Untranslated modes (track, observe) leave the NAT columns empty.
"""

from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.hooks import Confirm, ConntrackIn, HookOp, NatDestination, NatSource
from conntrackd_py.nat.core import Nat

Pipeline = list[list[HookOp]]


def build(core: Conntrack, nat: Nat | None) -> Pipeline:
    """Operations by hook, in order of priority; nat None: nothing is translated."""
    pipeline: Pipeline = [[], [], [], [], []]
    track: HookOp = ConntrackIn(core)
    confirm: HookOp = Confirm(core)
    for hook in (PRE_ROUTING, LOCAL_OUT):
        pipeline[hook].append(track)
        if nat is not None:
            pipeline[hook].append(NatDestination(nat))
    for hook in (LOCAL_IN, POST_ROUTING):
        if nat is not None:
            pipeline[hook].append(NatSource(nat))
        pipeline[hook].append(confirm)
    for hook in (PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT, POST_ROUTING):
        pipeline[hook].sort(key=_priority)
    return pipeline


def _priority(op: HookOp) -> int:
    return op.priority

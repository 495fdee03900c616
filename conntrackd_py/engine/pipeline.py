"""The pipeline: the only list of who sits where.

    hook           -300   -200           -100   0        100    300      INT_MAX
    PRE_ROUTING           conntrack_in   DNAT
    LOCAL_IN                                    filter   SNAT            confirm
    FORWARD                                     filter
    LOCAL_OUT             conntrack_in   DNAT   filter
    POST_ROUTING                                         SNAT            confirm

Untranslated modes (track, observe) leave the NAT columns empty; without a policy, and at a hook it has no chain
for, there is no filter.
"""

from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.hooks import Confirm, ConntrackIn, Filter, HookOp, NatDestination, NatSource
from conntrackd_py.engine.rejects import Rejects
from conntrackd_py.filter.policy import Policy
from conntrackd_py.nat.core import Nat

Pipeline = list[list[HookOp]]


def build(core: Conntrack, nat: Nat | None, policy: Policy | None = None, rejects: Rejects | None = None) -> Pipeline:
    """Operations by hook, in order of priority; nat None: nothing is translated; no policy: nothing is filtered."""
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
    if policy is not None and rejects is not None:
        for hook in (LOCAL_IN, FORWARD, LOCAL_OUT):
            if policy.chains[hook]:
                pipeline[hook].append(Filter(core, policy, rejects, hook))
    for hook in (PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT, POST_ROUTING):
        pipeline[hook].sort(key=_priority)
    return pipeline


def _priority(op: HookOp) -> int:
    return op.priority

"""The pipeline: which operation runs at which hook and priority. This is the only list.

    hook           -300   -200           -150     -100   -99      0        100    300      INT_MAX
    PRE_ROUTING    raw    conntrack_in   mangle   DNAT   seqadj
    LOCAL_IN                             mangle                   filter   SNAT   helper   confirm
    FORWARD                              mangle, TCPMSS           filter
    LOCAL_OUT      raw    conntrack_in   mangle   DNAT            filter
    POST_ROUTING                         mangle                            SNAT   helper   confirm

The NAT columns are empty in modes track and observe, raw and mangle without rules, filter without a policy or
without a chain at the hook, TCPMSS without clamp_mss, helper and seqadj if no connection has or may get a helper.
"""

from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.const import (
    FORWARD,
    LOCAL_IN,
    LOCAL_OUT,
    POST_ROUTING,
    PRE_ROUTING,
    PRI_FILTER,
    PRI_MANGLE,
)
from conntrackd_py.engine.hooks import (
    ClampMss,
    Confirm,
    ConntrackIn,
    Filter,
    Help,
    HookOp,
    NatDestination,
    NatSource,
    SeqAdjust,
)
from conntrackd_py.engine.raw_mangle import Mangle, Raw
from conntrackd_py.engine.rejects import Rejects
from conntrackd_py.filter.policy import Policy
from conntrackd_py.helpers.core import Helpers
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.rewrite.mss import OFF, Mss

Pipeline = list[list[HookOp]]


def build(
    core: Conntrack,
    nat: Nat | None,
    policy: Policy | None = None,
    rejects: Rejects | None = None,
    raw: Raw | None = None,
    mangles: list[Mangle | None] | None = None,
    helpers: Helpers | None = None,
    mss: Mss | None = None,
) -> Pipeline:
    """Operations by hook, in order of priority. None: without NAT, filter and the like."""
    pipeline: Pipeline = [[], [], [], [], []]
    _raw_mangle(pipeline, raw, mangles, mss)
    track: HookOp = ConntrackIn(core)
    confirm: HookOp = Confirm(core)
    for hook in (PRE_ROUTING, LOCAL_OUT):
        pipeline[hook].append(track)
        if nat is not None:
            pipeline[hook].append(NatDestination(nat, rejects))
    for hook in (LOCAL_IN, POST_ROUTING):
        if nat is not None:
            pipeline[hook].append(NatSource(nat, rejects))
        pipeline[hook].append(confirm)
    if policy is not None and rejects is not None:
        _filter(pipeline, core, policy, rejects)
    if helpers is not None:
        add_helpers(pipeline, helpers)
    _sort(pipeline)
    return pipeline


def add_helpers(pipeline: Pipeline, helpers: Helpers) -> None:
    """The operations for connections with a helper, unless they are there."""
    for op in pipeline[PRE_ROUTING]:
        if isinstance(op, SeqAdjust):
            return
    pipeline[PRE_ROUTING].append(SeqAdjust(helpers))
    for hook in (LOCAL_IN, POST_ROUTING):
        pipeline[hook].append(Help(helpers))
    _sort(pipeline)


def _sort(pipeline: Pipeline) -> None:
    for operations in pipeline:
        operations.sort(key=_priority)


def _raw_mangle(pipeline: Pipeline, raw: Raw | None, mangles: list[Mangle | None] | None, mss: Mss | None) -> None:
    if raw is not None:
        pipeline[PRE_ROUTING].append(raw)
        pipeline[LOCAL_OUT].append(raw)
    for hook, mangle in enumerate(mangles or ()):
        if mangle is not None:
            pipeline[hook].append(mangle)
    if mss is not None and mss.limit != OFF:
        pipeline[FORWARD].append(ClampMss(mss))


def only_nat_after_routing(pipeline: Pipeline) -> bool:
    """Whether the hooks after routing have no filter and no mark rules. A SYN makes both visits in any case."""
    return _without_rules(pipeline, (LOCAL_IN, FORWARD, POST_ROUTING))


def only_nat_when_forwarded(pipeline: Pipeline) -> bool:
    """The same of the hooks after routing of a forwarded packet."""
    return _without_rules(pipeline, (FORWARD, POST_ROUTING))


def offloadable(pipeline: Pipeline) -> bool:
    """Whether no rule must see the later packets of a forwarded connection. Those with a helper are not offloaded."""
    return _without_rules(pipeline, (PRE_ROUTING, FORWARD, POST_ROUTING))


def _without_rules(pipeline: Pipeline, hooks: tuple[int, ...]) -> bool:
    for hook in hooks:
        for op in pipeline[hook]:
            if op.priority in (PRI_MANGLE, PRI_FILTER):
                return False
    return True


def _filter(pipeline: Pipeline, core: Conntrack, policy: Policy, rejects: Rejects) -> None:
    for hook in (LOCAL_IN, FORWARD, LOCAL_OUT):
        if policy.chains[hook]:
            pipeline[hook].append(Filter(core, policy, rejects, hook))


def _priority(op: HookOp) -> int:
    return op.priority

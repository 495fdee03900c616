"""Who sits where, as the table at the head of the module draws it."""

import pytest

from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import HOOK_NAMES
from conntrackd_py.engine import pipeline
from conntrackd_py.helpers.core import Helpers
from conntrackd_py.nat.core import Nat
from conntrackd_py.proto.standard import standard_protos


def seats(translating: bool) -> dict[str, list[str]]:
    tunables = Tunables()
    core = Conntrack(standard_protos(tunables), tunables, Repeatable(1))
    built = pipeline.build(core, Nat(core, [], True) if translating else None)
    return {HOOK_NAMES[hook]: [op.name for op in ops] for hook, ops in enumerate(built)}


def test_with_nat() -> None:
    assert seats(True) == {
        "PRE_ROUTING": ["conntrack_in", "DNAT"],
        "LOCAL_IN": ["SNAT", "confirm"],
        "FORWARD": [],
        "LOCAL_OUT": ["conntrack_in", "DNAT"],
        "POST_ROUTING": ["SNAT", "confirm"],
    }


def test_without() -> None:
    assert seats(False) == {
        "PRE_ROUTING": ["conntrack_in"],
        "LOCAL_IN": ["confirm"],
        "FORWARD": [],
        "LOCAL_OUT": ["conntrack_in"],
        "POST_ROUTING": ["confirm"],
    }


@pytest.mark.parametrize("translating", [False, True])
def test_in_order_of_priority(translating: bool) -> None:
    tunables = Tunables()
    core = Conntrack(standard_protos(tunables), tunables, Repeatable(1))
    for ops in pipeline.build(core, Nat(core, [], True) if translating else None):
        priorities = [op.priority for op in ops]
        assert priorities == sorted(priorities)


def test_with_helpers() -> None:
    tunables = Tunables()
    core = Conntrack(standard_protos(tunables), tunables, Repeatable(1))
    nat = Nat(core, [], True)
    built = pipeline.build(core, nat, helpers=Helpers(nat, []))
    assert {HOOK_NAMES[hook]: [op.name for op in ops] for hook, ops in enumerate(built)} == {
        "PRE_ROUTING": ["conntrack_in", "DNAT", "seqadj"],
        "LOCAL_IN": ["SNAT", "helper", "confirm"],
        "FORWARD": [],
        "LOCAL_OUT": ["conntrack_in", "DNAT"],
        "POST_ROUTING": ["SNAT", "helper", "confirm"],
    }
    assert pipeline.only_nat_after_routing(built)

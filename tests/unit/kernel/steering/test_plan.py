"""Where packets stop at the queue, for each mode."""

import pytest

from conntrackd_py.const import HOOK_NAMES, POST_ROUTING
from conntrackd_py.kernel.steering.plan import Plan, closed, plan
from conntrackd_py.settings.load import parse


def plan_of(*, keep: bool = False, **data: object) -> Plan:
    return plan(parse(data, "FILE"), keep=keep)


def stops(made: Plan) -> list[str]:
    return [f"{HOOK_NAMES[visit.hook]} in {visit.table} {visit.base}" for visit in made.visits]


@pytest.mark.parametrize("mode", ["nat", "track"])
def test_tracking_sees_packets_before_the_kernel_tracks_and_after_the_filter(mode: str) -> None:
    assert stops(plan_of(mode=mode)) == [
        "PRE_ROUTING in raw PREROUTING",
        "LOCAL_IN in security INPUT",
        "LOCAL_OUT in raw OUTPUT",
        "POST_ROUTING in mangle POSTROUTING",
    ]


def test_without_the_routers_own_traffic() -> None:
    made = plan_of(steering={"local": False})
    assert stops(made) == ["PRE_ROUTING in raw PREROUTING", "POST_ROUTING in mangle POSTROUTING"]
    assert [visit.forwarded_only for visit in made.visits] == [False, True]


def test_observing_only_looks_where_packets_come_in() -> None:
    made = plan_of(mode="observe")
    assert stops(made) == ["PRE_ROUTING in raw PREROUTING", "LOCAL_OUT in raw OUTPUT"]
    assert not any(visit.notrack or visit.defrag for visit in made.visits)


def test_observing_without_the_routers_own_traffic() -> None:
    assert stops(plan_of(mode="observe", steering={"local": False})) == ["PRE_ROUTING in raw PREROUTING"]


def test_the_kernel_keeps_off_and_defragments_where_tracking_begins() -> None:
    made = plan_of()
    assert [HOOK_NAMES[visit.hook] for visit in made.visits if visit.notrack] == ["PRE_ROUTING", "LOCAL_OUT"]
    assert [HOOK_NAMES[visit.hook] for visit in made.visits if visit.defrag] == ["PRE_ROUTING"]


def test_who_leaves_does_not_queue_behind_who_comes() -> None:
    made = plan_of()
    assert {HOOK_NAMES[visit.hook]: visit.queue_index for visit in made.visits} == {
        "PRE_ROUTING": 0,
        "LOCAL_OUT": 0,
        "LOCAL_IN": 1,
        "POST_ROUTING": 1,
    }
    assert (made.queues, plan_of(mode="observe", observe={"via": "nfqueue"}).queues) == (2, 1)


@pytest.mark.parametrize(("mode", "bypass"), [("track", True), ("observe", True)])
def test_failing_open(mode: str, bypass: bool) -> None:
    assert plan_of(mode=mode, queue={"fail_open": True}).bypass is bypass


@pytest.mark.parametrize("mode", ["nat", "track"])
def test_failing_closed_is_the_default(mode: str) -> None:
    assert plan_of(mode=mode).bypass is False


def test_observing_takes_copies_and_stops_no_packet() -> None:
    made = plan_of(mode="observe", observe={"group": 17})
    assert (made.group, made.queues, made.bypass) == (17, 0, True)
    queued = plan_of(mode="observe", observe={"via": "nfqueue", "group": 17})
    assert (queued.group, queued.queues, queued.bypass) == (0, 1, False)
    assert plan_of(mode="track", observe={"group": 17}).group == 0


def test_each_hook_matches_the_interface_it_knows() -> None:
    assert [visit.outward for visit in plan_of().visits] == [False, False, True, True]


def test_closed_it_stops_forwarded_packets_and_no_others() -> None:
    (visit,) = closed().visits
    assert (visit.hook, visit.forwarded_only, closed().bypass) == (POST_ROUTING, True, False)
    assert set(closed().families) == {"ipv4", "ipv6"}


@pytest.mark.parametrize(
    ("wish", "decision", "keep"),
    [("auto", True, True), ("auto", False, False), ("keep", False, True), ("off", True, False)],
)
def test_the_kernel_tracks_too_if_it_is_wished_or_decided(wish: str, decision: bool, keep: bool) -> None:
    made = plan_of(steering={"kernel_conntrack": wish}, keep=decision)
    assert made.keep is keep
    assert any(visit.notrack or visit.defrag for visit in made.visits) is not keep
    assert [HOOK_NAMES[visit.hook] for visit in made.visits if visit.errors_pass] == (
        ["LOCAL_OUT", "POST_ROUTING"] if keep else []
    )
    assert plan_of(mode="observe", keep=decision).keep is True


DNAT = {"action": "DNAT", "proto": "tcp", "dport": 80, "to": "10.0.0.1"}
SNAT = {"action": "MASQUERADE", "out_interface": "wan0"}


@pytest.mark.parametrize(
    ("rules", "outer"),
    [
        ([SNAT], ()),
        ([{**DNAT, "in_interface": "wan1"}, {**DNAT, "in_interface": "ppp+"}], ("wan1", "ppp+")),
        ([DNAT, SNAT, {**DNAT, "in_interface": "wan1"}], ("wan1", "wan0")),
        ([DNAT], ("+",)),
        ([DNAT, {"action": "MASQUERADE"}, SNAT], ("+",)),
        ([{**DNAT, "in_interface": "!lan0"}, SNAT], ("wan0",)),
        ([{"action": "REDIRECT", "proto": "tcp", "dport": 80, "to": ":81", "in_interface": "lan0"}], ("lan0",)),
    ],
)
def test_where_errors_about_a_first_packet_do_not_leave(rules: list[dict[str, object]], outer: tuple[str, ...]) -> None:
    """They would show the address that a destination rule translates to."""
    assert plan_of(nat=rules, keep=True).outer_interfaces == outer
    assert plan_of(nat=rules).outer_interfaces == ()
    assert plan_of(nat=rules, mode="track", keep=True).outer_interfaces == ()

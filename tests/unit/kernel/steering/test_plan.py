"""Where packets stop at the queue, for each mode."""

import pytest

from conntrackd_py.const import HOOK_NAMES, POST_ROUTING
from conntrackd_py.kernel.steering.plan import FIRST_ERROR_HIDDEN, Plan, Step, closed, plan
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
    assert (made.queues, plan_of(mode="observe", observe={"via": "nfqueue"}).queues) == (4, 1)


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


MAPPED = {"action": "MASQUERADE", "mapping": "endpoint-independent"}


def dnat(to: str) -> dict[str, object]:
    return {"action": "DNAT", "proto": "tcp", "dport": 80, "to": to}


@pytest.mark.parametrize(
    ("rules", "hidden"),
    [
        ([{"action": "MASQUERADE", "out_interface": "wan0"}], ()),
        ([dnat("10.0.0.1"), dnat("10.0.0.1:8080"), dnat("[fd00::1]:80")], ("10.0.0.1", "fd00::1")),
        ([dnat("10.0.0.2-10.0.0.6")], ("10.0.0.2/31", "10.0.0.4/31", "10.0.0.6")),
        ([{**dnat(":81"), "action": "REDIRECT"}], ()),
        ([{**MAPPED, "filtering": "address", "source": ["10.0.0.0/8", "11.0.0.1"]}], ("10.0.0.0/8", "11.0.0.1")),
        ([{**MAPPED, "source": "10.0.0.0/8"}], ()),
    ],
)
def test_errors_about_a_first_packet_do_not_show_the_hosts_behind_dnat_rules(
    rules: list[dict[str, object]], hidden: tuple[str, ...]
) -> None:
    assert plan_of(nat=rules, keep=True).hidden == hidden
    assert plan_of(nat=rules).hidden == ()
    assert plan_of(nat=rules, mode="track", keep=True).hidden == ()


def test_a_rule_for_a_hidden_network_stands_only_in_its_family() -> None:
    made = plan_of(nat=[dnat("10.0.0.1"), dnat("fd00::1")], keep=True)
    (post,) = [visit for visit in made.visits if visit.hook == POST_ROUTING]
    found = {family: made.steps(post, family) for family in ("ipv4", "ipv6")}
    assert Step(FIRST_ERROR_HIDDEN, "10.0.0.1") in found["ipv4"]
    assert Step(FIRST_ERROR_HIDDEN, "fd00::1") in found["ipv6"]
    assert [len(steps) for steps in found.values()] == [9, 9]


def test_large_packets_go_the_way_of_all_packets_of_their_connection() -> None:
    made = plan_of(queue={"large_packets": "headers", "first": 10})
    assert (made.headers, made.queues) == (True, 4)
    queues = {
        HOOK_NAMES[visit.hook]: [(step.value, step.mark) for step in made.steps(visit, "ipv4") if step.what == "queue"]
        for visit in made.visits
    }
    assert queues == {
        "PRE_ROUTING": [("12", "0x1000/0x1800"), ("10", "")],
        "LOCAL_IN": [("11", "")],
        "LOCAL_OUT": [("10", "")],
        "POST_ROUTING": [("13", "0x800/0xf00"), ("13", "0xb00/0xf00"), ("11", "")],
    }


def test_known_connections_have_a_queue_of_their_own_and_keep_their_mark_until_then() -> None:
    made = plan_of(queue={"first": 10, "large_packets": "whole"})
    pre, _, out, post = made.visits
    assert made.steps(pre, "ipv4") == [
        Step("clear", "0x1000/0x1800", interface="lo"),
        Step("exclude", interface="lo"),
        Step("notrack"),
        Step("queue", "12", mark="0x1000/0x1800"),
        Step("queue", "10"),
        Step("defrag"),
    ]
    assert made.steps(out, "ipv4")[0] == Step("clear", "0x1000/0x1800")
    assert not any(step.mark for visit in (out, post) for step in made.steps(visit, "ipv4"))
    assert made.queues == 3


@pytest.mark.parametrize(
    "data", [{"queue": {"known_first": False}}, {"steering": {"mark_mask": 0}}, {"mode": "observe"}]
)
def test_without_recognition_there_is_none_and_all_marks_are_cleared(data: dict[str, object]) -> None:
    made = plan(parse(data, "FILE"))
    assert not made.known
    steps = made.steps(made.visits[0], "ipv4")
    assert not any(step.mark for step in steps)
    assert [step.interface for step in steps if step.what == "clear"] == ["+"] * (made.mark_mask != 0)


def test_without_recognition_large_packets_are_whole() -> None:
    assert not plan_of(queue={"known_first": False, "large_packets": "headers"}).headers
    assert not plan_of(queue={"large_packets": "headers"}, mode="observe").headers
    assert not plan_of(queue={"large_packets": "headers"}, steering={"mark_mask": 0}).headers

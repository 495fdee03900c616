"""The sampled log of refused packets."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.control.view import refused_packet
from conntrackd_py.engine.engine import Engine
from conntrackd_py.explain.refusals import RecentRefusals
from conntrackd_py.filter.policy import DROP, Chain, FilterRule, Policy
from conntrackd_py.service.refusal_log import RefusalLog
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router

STRAY_ACK = packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=102)
BAD_CHECKSUM = packets.broken(packets.udp(CLIENT, SERVER, 7, 8, b"x"))


def refuse(router: Router, data: bytes, times: int = 1) -> None:
    for _ in range(times):
        router.engine.handle(Skb(data, indev=1), PRE_ROUTING, router.now)


class Logged:
    """A router and its sampled log, and the lines it wrote."""

    def __init__(self, rate: int = 2) -> None:
        self.router = Router()
        self.router.established()
        self.log = RefusalLog(self.router.engine.diagnostics.recent, self.router.clock, rate)

    def lines(self) -> list[Any]:
        with capture_logs() as lines:
            self.log.publish()
        return lines


def test_a_line_says_tuple_numbers_and_bounds() -> None:
    stage = Logged()
    refuse(stage.router, STRAY_ACK)
    (line,) = stage.lines()
    assert line == {
        "event": "packet",
        "log_level": "info",
        "outcome": "INVALID",
        "reason": "tcp_ack_over_window",
        "why": "INVALID: ACK 102 is over the upper bound 2 by 100: it acknowledges data that was not sent",
        "hook": "PRE_ROUTING",
        "packet": f"tcp {CLIENT}:40000 > {SERVER}:80 [.] seq 2 ack 102 win 65535 len 0",
        "numbers": [102, 2, 65535],
        "state": "ESTABLISHED",
        "not_logged": 0,
    }
    assert stage.lines() == []


def test_so_many_lines_a_second_of_each_reason() -> None:
    """What is left out is counted, and the next line of that reason says how many."""
    stage = Logged(rate=2)
    refuse(stage.router, STRAY_ACK, 5)
    refuse(stage.router, BAD_CHECKSUM, 1)
    assert [line["reason"] for line in stage.lines()] == ["tcp_ack_over_window"] * 2 + ["l4_checksum"]
    refuse(stage.router, STRAY_ACK, 1)
    assert stage.lines() == []
    assert stage.log.not_logged == 4
    stage.router.now += 1000
    refuse(stage.router, STRAY_ACK, 1)
    assert [line["not_logged"] for line in stage.lines()] == [4]
    assert stage.log.not_logged == 4


def test_what_the_ring_has_overwritten_is_counted() -> None:
    stage = Logged(rate=100)
    stage.router.engine.diagnostics.recent = RecentRefusals(limit=3)
    stage.log = RefusalLog(stage.router.engine.diagnostics.recent, stage.router.clock, 100)
    refuse(stage.router, STRAY_ACK, 10)
    assert len(stage.lines()) == 3
    assert stage.log.not_logged == 7


def test_a_filter_drop_names_its_rule() -> None:
    rule = FilterRule(DROP, label="filter.rule[0]", comment="no mail")
    engine = Engine(Tunables(), Repeatable(), mode="track", policy=Policy([Chain(FORWARD, [rule], NF_ACCEPT)]))
    sampled = RefusalLog(engine.diagnostics.recent, Router().clock)
    for hook, outdev in ((PRE_ROUTING, 0), (POST_ROUTING, 2)):
        engine.handle(Skb(packets.udp(CLIENT, SERVER, 7, 8), 0, 1, outdev), hook, 0)
    with capture_logs() as lines:
        sampled.publish()
    assert [line["why"] for line in lines] == ["DROPPED: the filter drops it: filter.rule[0] (no mail)"]
    assert refused_packet(engine.diagnostics.recent.last(1)[0], 0.0)["rule"] == "filter.rule[0] (no mail)"

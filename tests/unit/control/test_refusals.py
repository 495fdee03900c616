"""Notes as dicts, the sampled log, and the control socket's `recent`."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import PRE_ROUTING
from conntrackd_py.control.refusals import RefusalLog, note_fields, seconds
from conntrackd_py.explain.refusals import RecentRefusals
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router

STRAY_ACK = packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=102)
BAD_CHECKSUM = packets.broken(packets.udp(CLIENT, SERVER, 7, 8, b"x"))


def refuse(router: Router, data: bytes, times: int = 1) -> None:
    for _ in range(times):
        router.engine.handle(Skb(data, indev=1), PRE_ROUTING, router.now)


def test_a_note_as_a_dict() -> None:
    router = Router()
    ct = router.established()
    refuse(router, STRAY_ACK)
    (note,) = router.engine.diagnostics.recent.last(1)
    assert note_fields(note, 1700000000.5) == {
        "sequence": 1,
        "time": 1700000000.5,
        "hook": "PRE_ROUTING",
        "outcome": "INVALID",
        "reason": "tcp_ack_over_window",
        "numbers": [102, 2, 65535],
        "why": "INVALID: ACK 102 is over the upper bound 2 by 100: it acknowledges data that was not sent",
        "ctinfo": "INVALID",
        "packet": {
            "proto": "tcp",
            "src": CLIENT,
            "dst": SERVER,
            "sport": 40000,
            "dport": 80,
            "flags": ".",
            "seq": 2,
            "ack": 102,
            "window": 65535,
            "len": 0,
        },
        "text": f"tcp {CLIENT}:40000 > {SERVER}:80 [.] seq 2 ack 102 win 65535 len 0",
        "connection": {
            "id": ct.id,
            "state": "ESTABLISHED",
            "status": ["SEEN_REPLY", "ASSURED", "CONFIRMED"],
            "timeout": 432000,
            "orig": {"src": CLIENT, "dst": SERVER, "sport": 40000, "dport": 80},
        },
    }


def test_a_connection_that_expired_in_use_is_noted_without_a_refusal() -> None:
    router = Router()
    router.established()
    router.now += 432_014_000
    router.forward(packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=2))
    (note,) = router.engine.diagnostics.recent.last(1)
    fields = note_fields(note, 0.0)
    assert (fields["outcome"], fields["reason"]) == ("ACCEPTED", "expired_in_use")
    assert fields["expired_in_use"] == {"proto": "tcp", "after": 432000.0, "ago": 14.0, "keepalive": 216000.0}


@pytest.mark.parametrize(
    ("ms", "text"), [(30_000, "30 s"), (500, "0.5 s"), (0, "0 s"), (1, "0.001 s"), (100_000, "100 s")]
)
def test_seconds(ms: int, text: str) -> None:
    assert seconds(ms) == text


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

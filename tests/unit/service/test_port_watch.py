"""A warning when a rule runs out of ports: once, and again only after it has recovered."""

import pytest
from structlog.testing import capture_logs

from conntrackd_py.const import IPPROTO_UDP
from conntrackd_py.nat.port_usage import usage_of
from conntrackd_py.service.port_watch import EVERY, PortWatch
from tests.support.play import Play
from tests.support.rules import rules_of

RULE = """
    [[nat]]
    action = "SNAT"
    comment = "all"
    out_interface = "wan"
    proto = "udp"
    to = "203.0.113.1:1001-1100"
"""


@pytest.mark.parametrize(
    ("shares", "warnings"),
    [
        ([79], []),
        ([80], [80]),
        ([80, 100, 75, 90], [80]),
        ([80, 69, 79, 81], [80, 81]),
    ],
)
def test_it_warns_once_until_it_has_recovered(shares: list[int], warnings: list[int]) -> None:
    play = Play(4, rules_of(RULE))
    (rule,) = play.engine.nat.rules.source_rules
    usage = usage_of(rule, IPPROTO_UDP)
    watch = PortWatch(play.engine.nat)
    with capture_logs() as lines:
        for number, share in enumerate(shares, 1):
            usage.fullest = share
            for _ in range(3):
                watch.look(number * EVERY)
    assert [line["in_use"] for line in lines] == warnings
    assert all((line["rule"], line["proto"], line["of"]) == ("nat[0]", "udp", 100) for line in lines)


def test_it_looks_seldom() -> None:
    play = Play(4, rules_of(RULE))
    (rule,) = play.engine.nat.rules.source_rules
    watch = PortWatch(play.engine.nat)
    watch.look(EVERY)
    usage_of(rule, IPPROTO_UDP).fullest = 100
    with capture_logs() as lines:
        watch.look(2 * EVERY - 1)
    assert lines == []

"""A warning when a rule runs out of ports: once, and again only after it has recovered."""

import pytest
from structlog.testing import capture_logs

from conntrackd_py.const import IPPROTO_UDP
from conntrackd_py.nat.usage.port_usage import usage_of
from conntrackd_py.service.port_watch import EVERY, PortWatch
from tests.conversations.test_blocks import carrier, carrier_text, port_of
from tests.support.play import CLIENT, NEIGHBOUR, SERVER, Play, udp
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


def test_it_warns_of_hosts_near_their_limit() -> None:
    play = Play(4)
    hosts = play.engine.core.table.hosts
    hosts.configure(5, 8, [], [])
    watch = PortWatch(play.engine.nat)
    with capture_logs() as lines:
        for number, count in enumerate((3, 4, 5, 3, 4), 1):
            hosts.counts[b"\x0a\0\0\x01"] = count
            hosts.near = dict.fromkeys([b"\x0a\0\0\x01", b"\xfd" + bytes(7)][: 2 if count > 3 else 0])
            watch.look(number * EVERY)
    told = [(line["event"], line["host"], line["connections"], line["of"]) for line in lines]
    both = [("host_near_limit", "10.0.0.1", 4, 5), ("host_near_limit", "fd00::/64", None, 5)]
    assert told == both * 2


def test_it_warns_of_blocks() -> None:
    play = carrier(4, "port_block = 16\nblocks_per_host = 4")
    watch = PortWatch(play.engine.nat)
    with capture_logs() as lines:
        for number in range(1, 65):
            port_of(play, udp(CLIENT, SERVER, sport=number))
            watch.look(number * EVERY)
    (line,) = [line for line in lines if line["event"] == "nat_blocks_running_out"]
    assert (line["rule"], line["in_use"], line["of"]) == ("nat[0]", 4, 4)


def test_it_warns_of_contested_blocks() -> None:
    play = carrier(4, "port_block = 16")
    for host in (CLIENT, NEIGHBOUR):
        port_of(play, udp(host, SERVER))
    play.engine.configure(play.tunables, nat_rules=rules_of(carrier_text(4, "port_block = 64")))
    watch = PortWatch(play.engine.nat)
    with capture_logs() as lines:
        for number in (1, 2):
            watch.look(number * EVERY)
    assert [line["blocks"] for line in lines if line["event"] == "nat_blocks_contested"] == [1]

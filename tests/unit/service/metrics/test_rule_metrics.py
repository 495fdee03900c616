"""The counters of rules, by the rule's name and comment."""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.reasons import BLOCK_LIMIT, NAT_EXHAUSTED
from conntrackd_py.service.metrics import rule_metrics
from conntrackd_py.settings.load import parse
from tests.conversations.test_blocks import carrier_text
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, NEIGHBOUR, SERVER, Play, accept, dropped, udp
from tests.support.rules import rules_of

CONFIG = {
    "nat": [
        {"action": "ACCEPT", "out_interface": "wan", "destination": "198.51.100.7", "comment": "no NAT for the VPN"},
        {"action": "SNAT", "out_interface": "wan", "proto": "udp", "to": "203.0.113.1:2000-2001", "comment": "office"},
        {"action": "DNAT", "in_interface": "wan", "proto": "tcp", "dport": 80, "to": "192.168.1.10"},
        {"action": "MASQUERADE", "out_interface": "ppp0"},
        {"action": "SNAT", "out_interface": "wan", "proto": "gre", "to": "203.0.113.1"},
    ],
    "filter": {
        "rule": [
            {"hooks": ["in", "forward"], "proto": "udp", "dport": 23, "action": "drop", "comment": "telnet"},
            {"hook": "forward", "proto": "udp", "dport": 24, "action": "reject"},
        ],
        "nft": """
            table ip one { chain forward { type filter hook forward priority 0; policy accept;
                udp dport 25 accept comment "mail"; udp dport 26 accept comment "mail"; } }
        """,
    },
}


def engine() -> Engine:
    settings = parse(CONFIG, "FILE")  # type: ignore[arg-type]  # a document
    made = Engine(Tunables(), Repeatable(1), nat_rules=list(settings.nat), policy=settings.filter.policy())
    made.set_interface(2, "wan", [address("203.0.113.1")], 0)
    for number, dport in enumerate((53, 53, 53, 53, 23, 24, 25, 26)):
        first = Skb(packets.udp("192.168.1.2", "198.51.100.7" if number == 3 else "198.51.100.1", 3000 + number, dport))
        first.indev = 1
        made.handle(first, PRE_ROUTING, 0)
        made.handle(Skb(first.data, first.mark, 1, 2), POST_ROUTING, 0)
    return made


def values(metrics: Iterable[Metric]) -> dict[str, float]:
    return {
        " ".join([sample.name.removeprefix("conntrackd_py_"), *sample.labels.values()]): sample.value
        for metric in metrics
        for sample in metric.samples
    }


def test_nat_rules() -> None:
    found = values(rule_metrics.nat(engine().nat))
    assert found["nat_rule_connections_total nat[0] no NAT for the VPN ACCEPT"] == 1
    assert found["nat_rule_connections_total nat[1] office SNAT"] == 5
    assert found["nat_allocations_total nat[1] office"] == 4
    assert found["nat_allocation_failures_total nat[1] office"] == 1
    assert found["nat_allocations_total nat[2] "] == 0
    assert found["nat_allocations_total null_binding "] == 0
    assert not any("nat_allocations_total nat[0]" in name for name in found)


def test_ports() -> None:
    found = values(rule_metrics.nat(engine().nat))
    assert found["nat_ports_in_use nat[1] udp office"] == 2
    assert found["nat_ports_limit nat[1] udp office"] == 2
    assert found["nat_ports_fullest_ratio nat[1] udp office"] == 1
    assert not any("nat_ports_in_use nat[3]" in name or "nat_ports_in_use nat[4]" in name for name in found)
    assert found["nat_ports_uncounted_total"] == 0


def test_filter_rules() -> None:
    found = values(rule_metrics.filtered(engine().policy))
    assert found["filter_rule_packets_total filter.rule[0] drop telnet"] == 1
    assert found["filter_rule_packets_total filter.rule[1] reject "] == 1
    assert found["filter_rule_bytes_total filter.rule[1] reject "] == 28
    assert found["filter_default_packets_total forward filter accept"] == 6
    assert found["filter_default_packets_total forward one forward accept"] == 4


def test_rules_of_one_name_are_one_sample() -> None:
    """Prometheus takes no second sample of the same labels; a line of nft may hold two rules."""
    found = values(rule_metrics.filtered(engine().policy))
    assert found["filter_rule_packets_total one forward line 3 accept mail"] == 2


def test_without_a_filter_the_families_are_there_and_empty() -> None:
    families = list(rule_metrics.filtered(None))
    assert len(families) == 4
    assert not any(family.samples for family in families)


def test_port_blocks() -> None:
    """A host has used its block; for another one no block is free. A slice has no blocks."""
    keys = "port_block = 16\nblocks_per_host = 1\ncomment = 'homes'"
    play = Play(4, rules_of(carrier_text(4, keys, "1024-1039") + SLICES))
    for sport in range(17):
        assert play >> udp(CLIENT, SERVER, sport=sport + 1) << (dropped(BLOCK_LIMIT) if sport == 16 else accept())
    for _ in range(3):
        assert play >> udp(NEIGHBOUR, SERVER) << dropped(NAT_EXHAUSTED)
    seen = values(rule_metrics.nat(play.engine.nat))
    assert {name: value for name, value in seen.items() if "_blocks_" in name} == {
        "nat_blocks_in_use nat[0] homes": 1,
        "nat_blocks_free nat[0] homes": 0,
        "nat_blocks_limit nat[0] homes": 1,
        "nat_blocks_refused_total nat[0] homes no_block": 3,
        "nat_blocks_refused_total nat[0] homes host_limit": 1,
        "nat_blocks_refused_total nat[1]  no_block": 0,
        "nat_blocks_refused_total nat[1]  host_limit": 0,
        "nat_blocks_contested_total": 0,
    }
    assert seen["nat_ports_in_use nat[0] udp homes"] == 16


SLICES = """
    [[nat]]
    action = "SNAT"
    out_interface = "wan"
    source = "10.9.0.0/24"
    to = "203.0.113.9"
    deterministic = true
"""

"""What `status` says of the filter."""

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import POST_ROUTING, PRE_ROUTING
from conntrackd_py.control.report.filter_counters import SHOWN, refusing
from conntrackd_py.engine.engine import Engine
from conntrackd_py.settings.load import parse
from conntrackd_py.settings.schema import Settings
from tests.support import packets


def sent(settings: Settings, *ports: int) -> Engine:
    engine = Engine(Tunables(), Repeatable(1), mode="track", policy=settings.filter.policy())
    for sport, dport in enumerate(ports):
        first = Skb(packets.udp("10.0.0.1", "10.0.0.2", 1000 + sport, dport), indev=1)
        engine.handle(first, PRE_ROUTING, 0)
        engine.handle(Skb(first.data, first.mark, 1, 2), POST_ROUTING, 0)
    return engine


def test_rules_and_defaults_that_refuse_come_first_who_refuses_most() -> None:
    rules = [
        {"hook": "forward", "proto": "udp", "dport": 1, "action": "drop", "comment": "one"},
        {"hook": "forward", "proto": "udp", "dport": 2, "action": "reject"},
        {"hook": "forward", "proto": "udp", "dport": 3, "action": "accept"},
        {"hook": "forward", "proto": "udp", "dport": 4, "action": "drop"},
    ]
    settings = parse({"filter": {"default_forward": "drop", "rule": rules}}, "FILE")
    assert refusing(sent(settings, 1, 2, 2, 3, 9, 9, 9).policy) == [
        {"rule": "default of filter forward", "comment": "", "action": "drop", "packets": 3, "bytes": 84},
        {"rule": "filter.rule[1]", "comment": "", "action": "reject", "packets": 2, "bytes": 56},
        {"rule": "filter.rule[0]", "comment": "one", "action": "drop", "packets": 1, "bytes": 28},
    ]


def test_they_are_bounded() -> None:
    rules = [{"hook": "forward", "proto": "udp", "dport": port, "action": "drop"} for port in range(1, 40)]
    settings = parse({"filter": {"rule": rules}}, "FILE")
    assert len(refusing(sent(settings, *range(1, 40)).policy)) == SHOWN
    assert refusing(None) == []

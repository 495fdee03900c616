"""`conntrackd-py diff`: which differences of two tables are reported. Both real tables: tests/e2e/test_observe.py."""

from typing import Any

from conntrackd_py.cli.conntrackd.diff import differences

UDP: dict[str, Any] = {
    "family": "ipv4",
    "proto": "udp",
    "protonum": 17,
    "timeout": 30,
    "status": ["SEEN_REPLY", "CONFIRMED"],
    "orig": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1, "dport": 53},
    "reply": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 53, "dport": 1},
    "mark": 0,
}


def reported(kernel: dict[str, Any], daemon: dict[str, Any]) -> list[str]:
    return [line.partition("  ")[0] for line in differences({"a": kernel}, {"a": daemon}).values()]


def test_a_connection_that_only_one_table_has() -> None:
    assert next(iter(differences({"a": UDP}, {}).values())).startswith("only the kernel has  udp      17 30")
    assert next(iter(differences({}, {"a": UDP}).values())).startswith("only the daemon has  udp")


def test_state_status_and_reply_tuple_are_compared() -> None:
    changed = {**UDP, "status": ["CONFIRMED"], "reply": {**UDP["reply"], "dport": 2}, "state": "ESTABLISHED"}
    assert reported(UDP, changed) == [
        "state differs: kernel , daemon ESTABLISHED",
        "status differs: kernel SEEN_REPLY,CONFIRMED, daemon CONFIRMED",
        "reply differs: kernel src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1, "
        "daemon src=10.0.0.2 dst=10.0.0.1 sport=53 dport=2",
    ]


def test_timeouts_counters_and_the_bits_of_nat_are_not_compared() -> None:
    counted = {**UDP["reply"], "packets": 1, "bytes": 100}
    assert reported(UDP, {**UDP, "timeout": 5, "reply": counted, "status": [*UDP["status"], "SRC_NAT_DONE"]}) == []

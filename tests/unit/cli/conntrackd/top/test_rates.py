"""Frames: the rates between two answers of the daemon."""

from __future__ import annotations

from typing import Any

from conntrackd_py.cli.conntrackd.top.rates import frame

BEFORE: dict[str, Any] = {
    "clock": 1000,
    "accounting": True,
    "entries": 100,
    "limit": 1000,
    "unconfirmed": 1,
    "dying": 2,
    "offload": {"connections": 0},
    "created": 500,
    "ended": {"timeout": 10},
    "hooks": {"pre_routing": {"accepted": 100, "dropped": 10, "bytes": 1000}},
    "invalid": {},
    "ignored": {"tcp_ignored": 3},
    "dropped": {"table_full": 1},
    "states": {"udp": {"": 100}},
    "queues": [
        {"queue": 0, "name": "new", "dropped": 5, "user_dropped": 0},
        {"queue": 1, "name": "last", "dropped": 0, "user_dropped": 1},
    ],
    "copies": {"lost": 1},
    "counted": {"at": 900, "took": 0, "hosts": 1, "others": 0},
    "hosts": [{"address": "10.0.0.1", "connections": 100}],
    "pools": [],
    "unpooled": 0,
}


def after(**changes: Any) -> dict[str, Any]:
    return {**BEFORE, "clock": 3000, **changes}


def test_counters_become_rates_a_second() -> None:
    made = frame(
        BEFORE,
        after(
            created=520,
            ended={"timeout": 12, "rst": 6},
            hooks={"pre_routing": {"accepted": 300, "dropped": 20, "bytes": 5000}},
            invalid={"tcp_state": 4},
            dropped={"table_full": 9},
            copies={"lost": 7},
            queues=[
                {"queue": 0, "name": "new", "dropped": 7, "user_dropped": 0},
                {"queue": 1, "name": "last", "dropped": 4, "user_dropped": 2},
            ],
        ),
    )
    assert made["interval"] == 2
    assert made["created_per_second"] == 10
    assert list(made["ended_per_second"].items()) == [("rst", 3), ("timeout", 1)]
    assert made["hooks"] == {
        "pre_routing": {"packets_per_second": 105, "bytes_per_second": 2000, "dropped_per_second": 5}
    }
    assert made["invalid_per_second"] == {"tcp_state": 2}
    assert made["ignored_per_second"] == {}
    assert made["dropped_per_second"] == {
        "table_full": 4,
        "new_refused": 1,
        "kernel_queue_full": 2,
        "kernel_socket_full": 0.5,
        "copies_lost": 3,
    }


def test_time_to_full_only_while_it_grows_towards_a_limit() -> None:
    growing = frame(BEFORE, after(entries=120))
    assert (growing["growth_per_second"], growing["seconds_to_full"]) == (10, 88)
    assert "seconds_to_full" not in frame(BEFORE, after())
    assert frame(BEFORE, after(entries=90))["growth_per_second"] == -5
    assert "seconds_to_full" not in frame(BEFORE, after(entries=120, limit=0))
    assert frame(BEFORE, after(entries=1001))["seconds_to_full"] == 0


def test_growth_is_averaged_over_a_longer_time() -> None:
    earliest = {**BEFORE, "clock": -7000, "entries": 20}
    assert frame(BEFORE, after(entries=120), earliest)["growth_per_second"] == 10
    assert frame(BEFORE, after(entries=220), earliest)["growth_per_second"] == 20


def test_a_daemon_started_anew_has_no_negative_rates() -> None:
    made = frame(BEFORE, after(created=1, ended={"timeout": 1}))
    assert (made["created_per_second"], made["ended_per_second"]) == (0, {})


def test_hosts_have_the_rates_of_the_walks_period() -> None:
    host = {"address": "10.0.0.1", "connections": 7, "packets": 90, "sent": 900, "received": 90}
    moved = {"connections": 2, "packets": 20, "sent": 200, "received": 10}
    counted = {"at": 3000, "took": 1, "period": 4000, "hosts": 5, "others": 6}
    made = frame(BEFORE, after(hosts=[{**host, "moved": moved}], counted=counted))
    assert made["hosts"] == [
        {
            "address": "10.0.0.1",
            "connections": 7,
            "created_per_second": 0.5,
            "packets": 90,
            "packets_per_second": 5,
            "sent_bytes": 900,
            "sent_bytes_per_second": 50,
            "received_bytes": 90,
            "received_bytes_per_second": 2.5,
        }
    ]
    assert (made["hosts_known"], made["other_connections"]) == (5, 6)


def test_what_is_not_known_is_absent() -> None:
    assert frame(BEFORE, after())["hosts"] == [{"address": "10.0.0.1", "connections": 100}]

"""What a reload changes, and what it leaves to a restart."""

from dataclasses import fields, replace

import pytest
from structlog.testing import capture_logs

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.service.reload import after_restart, log_warnings
from conntrackd_py.settings.errors import ABSENT, Finding
from conntrackd_py.settings.schema import TRACK, Filter, Log, Metrics, Queue, Settings, Steering

OLD = Settings()


@pytest.mark.parametrize(
    "new",
    [
        replace(OLD, leak_guard=False),
        replace(OLD, tcp_tracker="rfc7857"),
        replace(OLD, tunables=Tunables(nf_conntrack_max=5)),
        replace(OLD, filter=Filter(default_in="drop")),
        replace(OLD, metrics=Metrics(listen="")),
        replace(OLD, log=Log(level="debug")),
        replace(OLD, steering=Steering(exclude_interfaces=("lo", "eth9"), families=("ipv4",), local=False)),
    ],
)
def test_what_changes_live(new: Settings) -> None:
    assert after_restart(OLD, new) == (new, ())


def test_what_waits_for_a_restart_keeps_its_value() -> None:
    new = replace(OLD, mode=TRACK, queue=Queue(first=7, gso=False), steering=Steering(mark_mask=0), leak_guard=False)
    kept, waiting = after_restart(OLD, new)
    assert kept == replace(OLD, leak_guard=False)
    assert waiting == ("mode", "queue.first", "queue.gso", "steering.mark_mask")


def test_a_warning_is_logged_with_its_place() -> None:
    known, unknown = Finding("nat[1]", ABSENT, "why", "FILE", 7), Finding("nat[2]", ABSENT, "why", "FILE")
    with capture_logs() as logged:
        log_warnings(replace(OLD, warnings=(known, unknown)))
    common = {"event": "configuration", "log_level": "warning", "file": "FILE", "reason": "why"}
    assert logged == [common | {"key": "nat[1]", "line": 7}, common | {"key": "nat[2]"}]


@pytest.mark.parametrize(
    ("name", "key"), [(name, field.name) for name in ("queue", "observe") for field in fields(getattr(OLD, name))]
)
def test_every_key_of_the_source_of_packets_waits(name: str, key: str) -> None:
    table = replace(getattr(OLD, name))
    object.__setattr__(table, key, "something else")
    changed = replace(OLD, **{name: table})
    assert after_restart(OLD, changed) == (OLD, (f"{name}.{key}",))

"""Lines of conntrack(8) 1.4.7, copied from what it printed (see tests/e2e/test_conntrack_format.py)."""

import re
import time
from typing import Any

import pytest

from conntrackd_py.cli.conntrack.format import connection_line, event_line, expectation_line, stats_line

TCP: dict[str, Any] = {
    "family": "ipv4",
    "proto": "tcp",
    "protonum": 6,
    "timeout": 99,
    "state": "SYN_SENT",
    "status": ["CONFIRMED"],
    "orig": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1001, "dport": 80},
    "reply": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 80, "dport": 1001},
    "mark": 0,
    "id": 77,
}
COUNTED = TCP | {
    "orig": TCP["orig"] | {"packets": 3, "bytes": 180},
    "reply": TCP["reply"] | {"packets": 2, "bytes": 120},
}
TUPLES = "src=10.0.0.1 dst=10.0.0.2 sport=1001 dport=80 {}src=10.0.0.2 dst=10.0.0.1 sport=80 dport=1001"
UNREPLIED = TUPLES.format("[UNREPLIED] ")


@pytest.mark.parametrize(
    ("ct", "output", "line"),
    [
        (TCP, "", f"tcp      6 99 SYN_SENT {UNREPLIED} mark=0 use=1"),
        (TCP, "extended", f"ipv4     2 tcp      6 99 SYN_SENT {UNREPLIED} mark=0 use=1"),
        (TCP, "id", f"tcp      6 99 SYN_SENT {UNREPLIED} mark=0 use=1 id=77"),
        (
            TCP | {"timeout": 431999, "state": "ESTABLISHED", "status": ["SEEN_REPLY", "ASSURED"], "mark": 5},
            "",
            f"tcp      6 431999 ESTABLISHED {TUPLES.format('')} [ASSURED] mark=5 use=1",
        ),
        (
            COUNTED,
            "",
            "tcp      6 99 SYN_SENT src=10.0.0.1 dst=10.0.0.2 sport=1001 dport=80 packets=3 bytes=180 [UNREPLIED] "
            "src=10.0.0.2 dst=10.0.0.1 sport=80 dport=1001 packets=2 bytes=120 mark=0 use=1",
        ),
        (
            {
                "family": "ipv6",
                "proto": "icmpv6",
                "protonum": 58,
                "timeout": 29,
                "status": [],
                "mark": 0,
                "id": 1,
                "orig": {"src": "fd00::1", "dst": "fd00::2", "type": 128, "code": 0, "id": 7},
                "reply": {"src": "fd00::2", "dst": "fd00::1", "type": 129, "code": 0, "id": 7},
            },
            "extended",
            "ipv6     10 icmpv6   58 29 src=fd00::1 dst=fd00::2 type=128 code=0 id=7 [UNREPLIED] "
            "src=fd00::2 dst=fd00::1 type=129 code=0 id=7 mark=0 use=1",
        ),
        (
            {
                "family": "ipv4",
                "proto": "gre",
                "protonum": 47,
                "timeout": 29,
                "status": [],
                "mark": 0,
                "id": 1,
                "orig": {"src": "10.0.0.1", "dst": "10.0.0.2", "srckey": 17, "dstkey": 34},
                "reply": {"src": "10.0.0.2", "dst": "10.0.0.1", "srckey": 34, "dstkey": 17},
            },
            "",
            "gre      47 29 src=10.0.0.1 dst=10.0.0.2 srckey=0x11 dstkey=0x22 [UNREPLIED] "
            "src=10.0.0.2 dst=10.0.0.1 srckey=0x22 dstkey=0x11 mark=0 use=1",
        ),
    ],
)
def test_a_listed_connection(ct: dict[str, Any], output: str, line: str) -> None:
    assert connection_line(ct, frozenset(output.split(","))) == line


def event(kind: str, *changed: str, **differing: Any) -> dict[str, Any]:
    return {"event": kind, "seq": 1, "time": 1795222421.277369, "changed": list(changed), **TCP, **differing}


@pytest.mark.parametrize(
    ("what", "output", "line"),
    [
        (event("NEW", "new", "protoinfo", timeout=120), "", f"    [NEW] tcp      6 120 SYN_SENT {UNREPLIED}"),
        (event("UPDATE", "protoinfo"), "", f" [UPDATE] tcp      6 99 SYN_SENT {UNREPLIED}"),
        (event("UPDATE", "reply"), "", f" [UPDATE] tcp      6 99 {UNREPLIED}"),
        (event("UPDATE", "mark"), "", f" [UPDATE] tcp      6 99 {UNREPLIED} mark=0"),
        (event("DESTROY", "destroy"), "", f"[DESTROY] tcp      6 99 SYN_SENT {UNREPLIED}"),
        (event("DESTROY", timeout=0, mark=5), "", f"[DESTROY] tcp      6 SYN_SENT {UNREPLIED} mark=5"),
        (
            event("NEW", "protoinfo"),
            "timestamp,id,extended",
            f"[1795222421.277369]\t    [NEW] ipv4     2 tcp      6 99 SYN_SENT {UNREPLIED} id=77",
        ),
    ],
)
def test_an_event(what: dict[str, Any], output: str, line: str) -> None:
    assert event_line(what, frozenset(output.split(","))) == line


def test_a_helper() -> None:
    """As the kernel and conntrack(8) print it beside their own FTP helper."""
    listed = connection_line({**TCP, "mark": 0, "helper": "ftp"}, frozenset())
    assert listed == f"tcp      6 99 SYN_SENT {UNREPLIED} mark=0 helper=ftp use=1"
    assert event_line(event("UPDATE", "reply", helper="ftp"), frozenset({"id"})).endswith(
        f"{UNREPLIED} helper=ftp id=77"
    )


def test_counters_are_shown_in_the_last_event_only() -> None:
    assert "packets=" not in event_line(event("UPDATE", "protoinfo") | COUNTED, frozenset())
    assert "packets=3 bytes=180 [UNREPLIED]" in event_line(event("DESTROY") | COUNTED, frozenset())


def test_statistics() -> None:
    assert stats_line({"cpu": 0, "found": 3, "invalid": 1}) == "cpu=0   \tfound=3 invalid=1 "


def test_how_long_it_has_been_there_comes_before_use() -> None:
    ct = TCP | {"zone": 7, "labels": [1, 3]}
    start = time.time() - 60
    line = connection_line(ct | {"start": start}, frozenset())
    found = re.search(r" mark=0 zone=7 delta-time=(\d+) use=1$", line)
    assert found is not None
    assert 60 <= int(found[1]) <= time.time() - start
    assert connection_line(ct | {"start": time.time() + 60}, frozenset()).endswith(" delta-time=0 use=1")
    over = ct | {"start": 1000.9, "stop": 1003.1}
    assert connection_line(over, frozenset()).endswith(" delta-time=3 use=1")
    line = connection_line(over, frozenset({"ktimestamp", "id"}))
    day = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}"
    assert re.search(rf" mark=0 zone=7 delta-time=3 \[start={day}\] \[stop={day}\] use=1 id=77$", line)


def test_times_are_shown_in_the_last_event_only() -> None:
    times = {"start": 1000.0, "stop": 1001.25}
    assert "delta-time" not in event_line(event("NEW", "new") | {"start": 1000.0}, frozenset())
    assert event_line(event("DESTROY") | times, frozenset({"id"})).endswith(" delta-time=1 id=77")


def test_labels_come_last_by_name_or_else_by_number() -> None:
    labelled = TCP | {"labels": [1, 3]}
    assert "labels" not in connection_line(labelled, frozenset())
    line = connection_line(labelled, frozenset({"labels", "id"}), {1: "ssh in"})
    assert line.endswith(" use=1 id=77 labels=ssh in,3")
    assert connection_line(TCP, frozenset({"labels"})).endswith(" use=1")
    assert event_line(event("NEW", "new") | labelled, frozenset({"labels"})).endswith(" labels=1,3")
    assert "labels" not in event_line(event("DESTROY") | labelled, frozenset({"labels"}))


def test_an_expectation() -> None:
    known = {
        "timeout": 299,
        "protonum": 6,
        "tuple": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 0, "dport": 3000},
        "mask": {"src": "255.255.255.255", "dst": "255.255.255.255", "sport": 0, "dport": 65535},
        "master": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 21},
        "flags": [],
        "class": 0,
    }
    line = (
        "299 proto=6 src=10.0.0.2 dst=10.0.0.1 sport=0 dport=3000 mask-src=255.255.255.255 mask-dst=255.255.255.255 "
        "sport=0 dport=65535 master-src=10.0.0.1 master-dst=10.0.0.2 sport=1000 dport=21"
    )
    assert expectation_line(known, frozenset({"extended", "id"})) == f"{line} class=0"
    flagged = known | {"flags": ["PERMANENT", "INACTIVE"], "helper": "ftp", "class": 1, "zone": 7}
    assert expectation_line(flagged, frozenset()) == f"{line} PERMANENT,INACTIVE class=1 helper=ftp"
    assert re.match(r"\[\d+\.\d{6}\]\t299 proto=6 ", expectation_line(known, frozenset({"timestamp"})))

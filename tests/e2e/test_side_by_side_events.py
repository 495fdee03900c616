"""`-E` of conntrack(8) and of conntrack-py, while the same commands are given to both."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support import listeners
from tests.support.sidebyside import Pair, pair, printed

V4 = "-s 10.1.1.1 -d 10.2.2.2"
LIFE = f"""
-I {V4} -p udp --sport 1 --dport 53 -t 100 -n 192.0.2.1 -m 7
-I {V4} -p udp --sport 2 --dport 53 -t 100 -u SEEN_REPLY,ASSURED --label-add foo
-I {V4} -p tcp --sport 1 --dport 80 -t 100 --state ESTABLISHED
-I -s fd00::1 -d fd00::2 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 3 -t 100
-I {V4} -p udp --sport 3 --dport 53 -t 100 -w 3
-I {V4} -p udp --sport 4 --dport 53 -t 100 --orig-zone 4
-I {V4} -p gre --srckey 1 --dstkey 2 -t 100
-I {V4} -p 2 -t 100
-U -s 10.1.1.1 -p udp --sport 2 -m 5
-U -s 10.1.1.1 -p udp --sport 2 -t 50
-U -s 10.1.1.1 -p tcp --state CLOSE
-U -s 10.1.1.1 -p udp --sport 2 --label-add bar
-D -p udp --sport 1
-D -p tcp
-D -f ipv6
-D -p gre
-D -w 3
""".strip().splitlines()

LISTENERS = (
    "-E",
    "-E -o extended,id,timestamp",
    "-E -o ktimestamp,labels",
    "-E -o xml",
    "-E -o xml,timestamp,ktimestamp",
    "-E -e NEW",
    "-E -e UPDATES,DESTROY -o id",
    "-E -p udp",
    "-E -p udp --sport 2",
    "-E -f ipv6",
    "-E -s 10.1.0.0/16 -p tcp",
    "-E -m 5",
    "-E -w 3",
    "-E -n",
)


@pytest.fixture(scope="module")
def two() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.mark.parametrize("listener", LISTENERS)
def test_events(two: Pair, listener: str) -> None:
    two.forget()
    commands = (
        ["stdbuf", "-oL", "timeout", "-s", "INT", "20", "conntrack", *listener.split()],
        [sys.executable, "-P", "-m", "conntrackd_py.cli.conntrack.main", *listener.split()],
    )
    before = listeners.of_kernel(two.inside)
    programs = [two.events(words) for words in commands]
    listeners.wait_for_kernel(two.inside, before + 1)
    listeners.wait_for_daemon(two.socket)
    two.order(LIFE)
    time.sleep(0.4)  # conntrack(8) reads what waits before it takes the signal, if it was already woken
    for process in programs:
        process.send_signal(signal.SIGINT)
    real, ours = [said(process) for process in programs]
    assert real == ours
    assert len(ours) >= 2


def said(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=10)
    return [printed(line) for line in out.splitlines()]

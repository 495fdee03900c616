"""Our lines beside those of the real conntrack(8), for the same connections.

The real tool makes entries in the kernel's table of a namespace of our own; the same packets go through our
engine. Compared is the text without timeouts and ids, which are each table's own affair.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from conntrackd_py.cli.format import connection_line, event_line
from conntrackd_py.reasons import END_DELETED
from conntrackd_py.service import view
from tests.support import packets
from tests.support.router import CLIENT, CLIENT6, SERVER, SERVER6, Router

pytestmark = pytest.mark.skipif(not shutil.which("conntrack"), reason="conntrack(8) is not installed")

ENTRIES = (
    "-p tcp --sport 40000 --dport 80 --state SYN_SENT -t 120",
    "-p tcp --sport 40001 --dport 80 --state ESTABLISHED -t 432000 -u SEEN_REPLY,ASSURED",
    "-p udp --sport 1000 --dport 53 -t 30 -m 5",
    "-p icmp --icmp-type 8 --icmp-code 0 --icmp-id 1226 -t 30",
    "-p 2 -t 600",
)
ENTRIES6 = ("-p udp --sport 1000 --dport 53 -t 30", "-p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 7 -t 30")


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"ctpy-format-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def conntrack(namespace: str, line: str) -> str:
    command = ["ip", "netns", "exec", namespace, "conntrack", *line.split()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout


def fill(namespace: str) -> None:
    for entry in ENTRIES:
        conntrack(namespace, f"-I -s {CLIENT} -d {SERVER} {entry}")
    for entry in ENTRIES6:
        conntrack(namespace, f"-I -s {CLIENT6} -d {SERVER6} {entry}")


def routed() -> Router:
    router = Router()
    router.engine.core.events.enabled = True
    router.syn(40000)
    router.established(40001)
    router.udp(1000, mark=5)
    router.forward(packets.icmp(CLIENT, SERVER, 8, ident=1226))
    router.other(2)
    router.udp(1000, src=CLIENT6, dst=SERVER6)
    router.forward(packets.icmp(CLIENT6, SERVER6, 128, ident=7))
    return router


def ours(router: Router, output: str = "") -> set[str]:
    chosen = frozenset(output.split(","))
    found = [ct for ct in router.engine.core.table.slots if ct is not None]
    return {anytime(connection_line(view.connection(ct, router.now, False), chosen)) for ct in found}


def anytime(line: str) -> str:
    """The line without timeout and id."""
    line = re.sub(r"^((?:ipv[46] +\d+ )?\S+ +\d+) \d+", r"\1 T", line)
    return re.sub(r"(?<=use=1) id=\d+", " id=N", line)


@pytest.mark.parametrize("output", ["", "extended", "id", "extended,id"])
def test_listing(namespace: str, output: str) -> None:
    fill(namespace)
    real = conntrack(namespace, f"-L -o {output}" if output else "-L")
    assert {anytime(line) for line in real.splitlines()} == ours(routed(), output)


def test_events(namespace: str) -> None:
    """conntrack -I itself causes these, so its [USERSPACE] note and its explicit mark=0 are taken off."""
    command = ["ip", "netns", "exec", namespace, "stdbuf", "-oL", "timeout", "-s", "INT", "5", "conntrack", "-E"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as listener:
        time.sleep(1)
        fill(namespace)
        conntrack(namespace, f"-D -p tcp --orig-port-src 40001 -s {CLIENT}")
        assert listener.stdout is not None
        lines = listener.stdout.read().splitlines()
    real = {re.sub(r"( mark=0)? \[USERSPACE\].*", "", event_anytime(line)) for line in lines}
    router = routed()
    (doomed,) = [
        ct for ct in router.engine.core.table.slots if ct and view.tuple_fields(ct.original).get("sport") == 40001
    ]
    router.engine.core.kill(doomed, END_DELETED, router.now)
    events = [view.event(event, 0.0, False) for event in router.engine.drain_events()]
    mine = {event_anytime(event_line(event, frozenset())) for event in events}
    assert len(real) == len(ENTRIES) + len(ENTRIES6) + 1
    assert real - mine == {line for line in real if "[NEW]" in line and "sport=40001" in line}  # made in one step
    assert {line for line in real if "[DESTROY]" in line} <= mine


def event_anytime(line: str) -> str:
    prefix, rest = line[:10], line[10:]
    return prefix + anytime(rest)

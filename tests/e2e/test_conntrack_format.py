"""Our lines beside those of the real conntrack(8), for the same connections.

The real tool makes entries in the kernel's table of a namespace of our own; the same packets go through our
engine. Compared is the text without timeouts and ids, which are each table's own affair.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import convert

from conntrackd_py.cli.conntrack.format import connection_line, event_line, expectation_line
from conntrackd_py.cli.conntrack.values import label_names
from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.control import view
from conntrackd_py.control.matcher import Matcher
from conntrackd_py.control.protocol.requests import Filter
from conntrackd_py.reasons import END_DELETED
from tests.support import listeners, packets
from tests.support.router import CLIENT, CLIENT6, SERVER, SERVER6, Router

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


@contextmanager
def events_of(namespace: str) -> Iterator[list[str]]:
    """The lines of `conntrack -E` from the beginning of the block on; complete after its end."""
    lines: list[str] = []
    command = ["ip", "netns", "exec", namespace, "stdbuf", "-oL", "timeout", "-s", "INT", "20", "conntrack", "-E"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as listener:
        listeners.wait_for_kernel(lambda *words: run(namespace, *words))
        yield lines
        conntrack(namespace, f"-I -s {CLIENT} -d {SERVER} {LAST} -t 30")
        assert listener.stdout is not None
        for line in listener.stdout:
            if "sport=65000" in line:
                break
            lines.append(line.rstrip("\n"))
        listener.send_signal(signal.SIGINT)


LAST = "-p udp --sport 65000 --dport 53"


def test_events(namespace: str) -> None:
    """conntrack -I itself causes these, so its [USERSPACE] note and its explicit mark=0 are taken off."""
    with events_of(namespace) as lines:
        fill(namespace)
        conntrack(namespace, f"-D -p tcp --orig-port-src 40001 -s {CLIENT}")
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


TIMES = r"(?<=delta-time=)\d+|(?<=\[start=)[^]]+"


def test_times(namespace: str) -> None:
    """The place and form of the times, in a listing and at the end."""
    run(namespace, "sysctl", "-qw", "net.netfilter.nf_conntrack_timestamp=1")
    before = int(time.time())
    conntrack(namespace, f"-I -s {CLIENT} -d {SERVER} -p udp --sport 1000 --dport 53 -t 30")
    made = time.time()
    time.sleep(1.1)
    real = conntrack(namespace, "-L -o ktimestamp,id").strip()
    elapsed = time.time() - before
    router = Router()
    router.now = 0
    ct = router.udp(1000)
    router.now = 1100
    epoch = made
    mine = connection_line(view.connection(ct, router.now, False, epoch), frozenset({"ktimestamp", "id"}))
    assert 1 <= int(re.findall(r"delta-time=(\d+)", real)[0]) <= elapsed + 1
    assert re.sub(TIMES, "T", anytime(mine)) == re.sub(TIMES, "T", anytime(real))
    assert started(mine) == int(made)
    assert before <= started(real) <= made


def test_times_of_an_end(namespace: str) -> None:
    run(namespace, "sysctl", "-qw", "net.netfilter.nf_conntrack_timestamp=1")
    with events_of(namespace) as lines:
        before = time.monotonic()
        conntrack(namespace, f"-I -s {CLIENT} -d {SERVER} -p udp --sport 1000 --dport 53 -t 30")
        time.sleep(1.2)
        conntrack(namespace, "-D -p udp")
        elapsed = time.monotonic() - before
    (real,) = [line for line in lines if "[DESTROY]" in line]
    router = Router()
    ct = router.udp(1000)
    router.engine.core.events.enabled = True
    router.now += 1200
    router.engine.core.kill(ct, END_DELETED, router.now)
    (event,) = router.engine.drain_events()
    mine = event_line(view.event(event, 0.0, False, timestamps=True), frozenset())
    real = re.sub(r" \[USERSPACE\].*", "", real)
    assert re.sub(TIMES, "T", event_anytime(mine)) == re.sub(TIMES, "T", event_anytime(real))
    assert 1 <= int(re.findall(r"delta-time=(\d+)", real)[0]) <= elapsed + 1


def started(line: str) -> float:
    return time.mktime(time.strptime(re.findall(r"\[start=([^]]+)\]", line)[0]))


def run(namespace: str, *command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command], check=True, capture_output=True, text=True, timeout=20
    )
    return done.stdout


ZONED = {1: (0, 0), 2: (7, 7), 3: (8, 0), 4: (0, 9)}  # by source port: of the original direction, of the reply
ZONE_OPTIONS = {(7, 7): "-w 7", (8, 0): "--orig-zone 8", (0, 9): "--reply-zone 9", (0, 0): ""}


@pytest.mark.parametrize("zone", [0, 7, 8, 9])
@pytest.mark.parametrize("key", ["zone", "orig_zone", "reply_zone"])
def test_zones(namespace: str, key: str, zone: int) -> None:
    router = Router()
    for port, zones in ZONED.items():
        conntrack(namespace, f"-I -s {CLIENT} -d {SERVER} -p udp --sport {port} --dport 53 -t 30 {ZONE_OPTIONS[zones]}")
        ct = router.udp(port)
        ct.original, ct.reply = tuples.with_zone(ct.original, zones[0]), tuples.with_zone(ct.reply, zones[1])
    real = conntrack(namespace, f"-L --{key.replace('_', '-')} {zone}")
    matcher = Matcher(convert({key: zone}, Filter))
    found = [ct for ct in router.engine.core.table.slots if ct is not None and matcher.matches(ct, ct)]
    mine = {anytime(connection_line(view.connection(ct, router.now, False), frozenset())) for ct in found}
    assert {anytime(line) for line in real.splitlines()} == mine


TALK = """
import socket, subprocess, sys, time
server = socket.create_server(("127.0.0.1", 21))
client = socket.create_connection(("127.0.0.1", 21), timeout=5)
accepted = server.accept()[0]
for line in (b"USER nobody\\r\\n", b"PORT 127,0,0,1,11,184\\r\\n"):
    client.sendall(line)
    accepted.recv(100)
    time.sleep(0.1)
print(client.getsockname()[1], flush=True)
subprocess.run(sys.argv[1:], check=True)
"""


def talk(namespace: str, *command: str) -> tuple[int, str]:
    """What command prints while an FTP client has announced its port 3000; and the client's port."""
    run(namespace, "ip", "link", "set", "lo", "up")
    port, _, shown = run(namespace, sys.executable, "-c", TALK, *command).partition("\n")
    return int(port), shown


@pytest.mark.parametrize("zone", [0, 7])
def test_expectations(namespace: str, zone: int) -> None:
    helper = ("CT", "--helper", "ftp", *(("--zone", str(zone)) if zone else ()))
    for chain, match in (("OUTPUT", "--dport"), ("OUTPUT", "--sport"), ("PREROUTING", "--sport")):
        rule = helper if match == "--dport" else ("CT", "--zone", str(zone))
        run(namespace, "iptables", "-t", "raw", "-A", chain, "-p", "tcp", match, "21", "-j", *rule)
    port, real = talk(namespace, "conntrack", "-L", "expect")
    router = Router()
    master = router.established(port, 21)
    master.original, master.reply = tuples.with_zone(master.original, zone), tuples.with_zone(master.reply, zone)
    mine = expectation_line(view.expectation(router.expect(master, 3000), router.now + 1000), frozenset())
    loopback = mine.replace(f"={CLIENT} ", "=127.0.0.1 ").replace(f"={SERVER} ", "=127.0.0.1 ")
    assert [line.split(" ", 1)[1] for line in real.splitlines()] == [loopback.split(" ", 1)[1]]


def test_labels(namespace: str, tmp_path: Path) -> None:
    """With names for all of them: a bit without one is where the two differ on purpose."""
    names = tmp_path / "etc" / "xtables" / "connlabel.conf"
    names.parent.mkdir(parents=True)
    names.write_text("# ours\n1 one-label\n3\tthree \n0x7f last one\n")
    run(namespace, "nft", "add table ip l")
    run(namespace, "nft", "add chain ip l o { type filter hook output priority 0; }")
    for bit in (1, 3, 127):
        run(namespace, "nft", f"add rule ip l o ct label set {bit}")
    show = f"mount -t overlay overlay -o lowerdir={tmp_path}/etc:/etc /etc && conntrack -L -o labels,id"
    _, real = talk(namespace, "unshare", "-m", "sh", "-c", show)
    router = Router()
    ct = router.udp()
    ct.labels = 1 << 1 | 1 << 3 | 1 << 127
    mine = connection_line(view.connection(ct, 0, False), frozenset({"labels", "id"}), label_names((str(names),)))
    (line,) = real.splitlines()
    assert re.findall(r" use=1 id=\d+( labels=.*)", line) == re.findall(r" use=1 id=\d+( labels=.*)", mine) != []

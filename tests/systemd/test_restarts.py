"""Restarts, crashes and upgrades in a row under live connections; scripts/restarts runs more of them.

No connection breaks or changes its translation, every byte arrives, and nothing leaves untranslated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, WEB_INSIDE, WEB_OUTSIDE
from tests.support.machine import UNIT
from tests.support.processes import capture, start_script
from tests.support.talk import ECHO, TALK, finished
from tests.systemd.conftest import VERSIONS, Router, logged, packaged

RESTARTS: Final = int(os.environ.get("CONNTRACKD_PY_RESTARTS", "5"))
CONNECTIONS: Final = int(os.environ.get("CONNTRACKD_PY_CONNECTIONS", "60"))
STREAMS: Final = max(CONNECTIONS // 10, 1)  # UDP
FORWARDED: Final = max(CONNECTIONS // 10, 1)  # connections from outside, through DNAT
EVERY: Final = f"{max(CONNECTIONS / 1000, 0.1)}"  # seconds between two exchanges of a connection
SETTLE: Final = 3.0  # seconds between two restarts: systemd gives up after 20 starts in a minute
PORT: Final = 7100
UDP_PORT: Final = 7200
WAYS: Final = ("hand-over", "restart", "SIGKILL", "package")


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with packaged(CONFIG.replace(f'action = "SNAT"\nto = "{ROUTER}"', 'action = "MASQUERADE"')) as machine:
        yield machine


def mapped(router: Router) -> set[str]:
    """The tuples of all TCP connections."""
    lines = router.run("conntrack-py", "-L", "-p", "tcp").splitlines()
    return {" ".join(word for word in line.split() if word.partition("=")[0] in FIELDS) for line in lines}


FIELDS: Final = ("src", "dst", "sport", "dport")


def restart(router: Router, number: int) -> str:
    """One of four ways, in turn; returns its name."""
    way = WAYS[number % len(WAYS)]
    before, ready = router.pid(), len(logged(router, "ready"))
    if way == "restart":
        router.run("systemctl", "restart", UNIT)
    elif way == "SIGKILL":
        router.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT)
    elif way == "hand-over":
        router.run("conntrackd-py", "upgrade")
    else:
        router.upgrade(VERSIONS[number // len(WAYS) % 2])
    router.wait("ready", lambda: router.pid() not in (0, before) and len(logged(router, "ready")) > ready)
    return way


def test_no_connection_notices_a_restart(router: Router) -> None:
    net = router.net
    outside, end = net.folder / "outside.pcap", net.folder / "stop"
    capture(net.server, outside, f"(net {INSIDE}) or arp")
    start_script(net.server, ECHO, SERVER, str(PORT), str(UDP_PORT))
    start_script(net.client, ECHO, CLIENT, str(WEB_INSIDE), "0")
    words = (str(PORT), str(CONNECTIONS), str(UDP_PORT), str(STREAMS), EVERY)
    out = start_script(net.client, TALK, SERVER, str(end), *words)
    words = (str(WEB_OUTSIDE), str(FORWARDED), "0", "0", EVERY)
    back = start_script(net.server, TALK, ROUTER, str(end), *words)
    pauses: dict[str, list[float]] = {}
    for number in range(RESTARTS):
        time.sleep(SETTLE)
        before = mapped(router)
        assert len(before) == CONNECTIONS + FORWARDED
        way = restart(router, number)
        assert mapped(router) >= before
        pauses.setdefault(way, []).append(logged(router, "pause")[-1]["seconds"])
        print(f"{way}: packets waited {pauses[way][-1]:.3f} s")
    for way, seconds in pauses.items():
        print(f"{way}: packets waited {median(seconds):.3f} s (median), {max(seconds):.3f} s (at most)")
    end.touch()
    assert finished(out) == f"{CONNECTIONS + STREAMS} good set()"
    assert finished(back) == f"{FORWARDED} good set()"
    assert len(logged(router, "queues_taken_over")) == RESTARTS, "the queues outlived each"
    assert logged(router, "descriptor_closed") == []
    net.server.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
    router.wait("captured", lambda: packets(net, outside, "arp") != [])
    assert packets(net, outside, f"net {INSIDE}") == []


def packets(net: Topology, file: Path, expression: str) -> list[str]:
    return net.server.run("tcpdump", "-nr", str(file), expression).splitlines()


UP: Final = """
[Unit]
Wants=network-pre.target
After=network-pre.target
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for name in lan0 wan0; do echo 0x1003 > /sys/class/net/$name/flags; done'
[Install]
WantedBy=multi-user.target
"""


def test_at_a_boot_nothing_leaves_before_the_daemon_is_ready(router: Router) -> None:
    """After a power failure: no rules; the interfaces come up after network-pre.target, while the client sends."""
    router.write("/etc/systemd/system/up.service", UP)
    router.run("systemctl", "daemon-reload")
    router.run("systemctl", "enable", "up.service")

    def power_failure_and_boot() -> None:
        router.net.router.run("sysctl", "-qw", "net.ipv6.conf.all.keep_addr_on_down=1")
        for name in ("lan0", "wan0"):
            router.net.router.run("ip", "link", "set", name, "down")
        router.end()
        router.net.router.run("nft", "flush", "ruleset")
        router.boot()
        router.wait("running", lambda: router.show("SubState") == "running")

    assert router.leaks(power_failure_and_boot) == ""
    ready, up = (int(router.show("ActiveEnterTimestampMonotonic", unit)) for unit in (UNIT, "network-pre.target"))
    assert 0 < ready <= up
    assert "2 received" in router.net.client.run("ping", "-c", "2", "-W", "2", SERVER)


def test_a_stop_leaves_no_queue(router: Router) -> None:
    router.run("systemctl", "stop", UNIT)
    assert router.run("cat", "/proc/net/netfilter/nfnetlink_queue") == ""
    assert router.show("NFileDescriptorStore") == "0"


def test_when_systemd_gives_up_no_queue_is_left(router: Router) -> None:
    """Each start fails; meanwhile packets wait, afterwards the kernel drops them."""
    router.run("systemctl", "start", UNIT)
    router.write(f"/etc/systemd/system/{UNIT}.d/test.conf", "[Unit]\nStartLimitBurst=2\n")
    router.run("systemctl", "daemon-reload")
    router.configure('mode = "net"\n')
    router.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT)
    router.wait("given up", lambda: router.show("ActiveState") == "failed")
    assert router.run("cat", "/proc/net/netfilter/nfnetlink_queue") == ""
    assert not router.forwards()

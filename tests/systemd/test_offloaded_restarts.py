"""Offloaded streams while the service is restarted: they go on in the kernel, also while no daemon runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from conntrackd_py.lab.namespaces import INSIDE, ROUTER, SERVER
from conntrackd_py.lab.router import CONFIG
from tests.support.machine import UNIT
from tests.support.offloading import MAPS
from tests.support.processes import capture, start_script
from tests.support.talk import ECHO
from tests.support.waiting import wait_until
from tests.systemd.conftest import VERSIONS, Router, logged, packaged

PORT: Final = 7100
UDP_PORT: Final = 7200
FEW: Final = 50  # exchanges, in about a second
DROP_IN: Final = f"/etc/systemd/system/{UNIT}.d/test.conf"
OFFLOADING: Final = (
    CONFIG.replace(f'action = "SNAT"\nto = "{ROUTER}"', 'action = "MASQUERADE"')
    + '[offload]\nmode = "established"\npackets = 4\n[steering]\non_stop = "keep"\n'
).replace("nf_conntrack_acct = true", "nf_conntrack_acct = true\nudp_stream_after = 0")
# Sends a number by UDP, or 100 bytes by TCP, waits for the echo, and writes how many came back into a file.
STEADY: Final = """
import socket, sys, time
kind, host, port, file = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
sock.settimeout(120 if kind == "tcp" else 0.5)
sock.connect((host, port))
print("ready", flush=True)
count = 0
while True:
    data = b"same" if kind == "udp" else count.to_bytes(100, "big")
    sock.sendall(data)
    try:
        answer = b""
        while len(answer) < len(data):
            answer += sock.recv(len(data) - len(answer))
        assert answer == data
        count += 1
    except TimeoutError:
        assert kind == "udp"
    with open(file, "w") as counted:
        print(count, file=counted)
    time.sleep(0.02)
"""


class Streams:
    """One of UDP and one of TCP, offloaded."""

    def __init__(self, router: Router) -> None:
        self.router, net = router, router.net
        self.outside = net.folder / "outside.pcap"
        capture(net.server, self.outside, f"(net {INSIDE}) or arp")
        start_script(net.server, ECHO, SERVER, str(PORT), str(UDP_PORT))
        self.files = {"udp": net.folder / "udp", "tcp": net.folder / "tcp"}
        for kind, file in self.files.items():
            port = UDP_PORT if kind == "udp" else PORT
            start_script(net.client, STEADY, kind, SERVER, str(port), str(file))
        router.wait("offloaded", self.offloaded)

    def offloaded(self) -> bool:
        return self.router.run("conntrack-py", "-L").count("[OFFLOAD]") == 2

    def counts(self) -> dict[str, int]:
        texts = {kind: file.read_text() if file.exists() else "" for kind, file in self.files.items()}
        return {kind: int(text or 0) for kind, text in texts.items()}

    def go_on(self) -> None:
        before = self.counts()

        def passed() -> bool:
            now = self.counts()
            return all(now[kind] >= before[kind] + FEW for kind in before)

        wait_until(passed, lambda: f"{before} {self.counts()}\n{self.router.journal()[-3000:]}")

    def untranslated(self) -> list[str]:
        net = self.router.net
        net.server.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
        self.router.wait("captured", lambda: _packets(self.router, self.outside, "arp") != [])
        return _packets(self.router, self.outside, f"net {INSIDE}")


def _packets(router: Router, file: Path, expression: str) -> list[str]:
    return router.net.server.run("tcpdump", "-nr", str(file), expression).splitlines()


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with packaged(OFFLOADING) as machine:
        yield machine


@pytest.fixture(scope="module")
def streams(router: Router) -> Streams:
    return Streams(router)


def tables(router: Router) -> str:
    return router.net.router.run("nft", "list", "tables")


def test_while_no_process_runs(router: Router, streams: Streams) -> None:
    router.write(DROP_IN, "[Service]\nRestartSec=6s\n")
    router.run("systemctl", "daemon-reload")
    router.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT)
    router.wait("waiting", lambda: router.show("SubState") == "auto-restart")
    streams.go_on()
    assert router.show("SubState") == "auto-restart", "no daemon has been there"
    router.wait("running", lambda: router.show("SubState") == "running")
    assert logged(router, "maps_taken_over")[-1]["offloaded"] == 2
    streams.go_on()
    assert streams.offloaded()
    echoed = streams.counts()["udp"]

    def counted() -> bool:
        listed = router.run("conntrack-py", "-L", "-p", "udp")
        return all(int(count) >= echoed for count in re.findall(r"packets=(\d+)", listed))

    router.wait("counted", counted)


@pytest.mark.parametrize("way", ["restart", "upgrade", "package"])
def test_through_a_restart(router: Router, streams: Streams, way: str) -> None:
    before, ready = router.pid(), len(logged(router, "ready"))
    if way == "restart":
        router.run("systemctl", "restart", UNIT)
    elif way == "upgrade":
        router.run("conntrackd-py", "upgrade")
    else:
        router.upgrade(VERSIONS[0])
    router.wait("ready", lambda: router.pid() not in (0, before) and len(logged(router, "ready")) > ready)
    assert logged(router, "maps_taken_over")[-1]["offloaded"] == 2
    streams.go_on()
    assert streams.offloaded()
    assert logged(router, "descriptor_closed") == logged(router, "maps_failed") == []


def test_a_stop_ends_the_tables(router: Router, streams: Streams) -> None:
    assert MAPS in tables(router)
    router.run("systemctl", "stop", UNIT)
    assert MAPS not in tables(router)
    assert router.show("NFileDescriptorStore") == "0"
    assert streams.untranslated() == []


def test_when_systemd_gives_up_the_tables_end(router: Router, streams: Streams) -> None:
    router.run("systemctl", "start", UNIT)
    streams.go_on()
    router.wait("offloaded", streams.offloaded)
    router.write(DROP_IN, "[Unit]\nStartLimitBurst=2\n[Service]\nRestartSec=2s\n")
    router.run("systemctl", "daemon-reload")
    router.configure('mode = "net"\n')
    router.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT)
    router.wait("given up", lambda: router.show("ActiveState") == "failed")
    assert MAPS not in tables(router)
    assert streams.untranslated() == []

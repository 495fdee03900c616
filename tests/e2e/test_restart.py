"""The daemon is killed or restarted under live connections: none breaks or changes its mapping, every byte is right."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrackd_py.conntrack.journal import HEADER_SIZE, RECORD
from conntrackd_py.conntrack.records.record import CONNECTION
from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, WEB_INSIDE, WEB_OUTSIDE, Router
from tests.support.processes import capture, start_script
from tests.support.talk import ECHO, TALK, finished
from tests.support.waiting import wait_until

PORT = 7100
UDP_PORT = 7200
CONNECTIONS = 100
FORWARDED = 20
STREAMS = 20
TIMES = 3


@pytest.fixture
def net() -> Iterator[Topology]:
    with Topology() as made:
        yield made


def killed(router: Router) -> None:
    assert router.stop(signal.SIGKILL) == -signal.SIGKILL


def stopped(router: Router) -> None:
    assert router.stop() == 0


def restored(router: Router) -> list[str]:
    return [line for line in router.said().splitlines() if '"event": "restored"' in line]


def listed(router: Router) -> set[tuple[str, ...]]:
    """The tuples and marks of all connections."""
    lines = router.conntrack("-L").splitlines()
    return {tuple(re.findall(r"(?:src|dst|sport|dport|mark)=\S+", line)) for line in lines}


@pytest.mark.parametrize("end", [killed, stopped])
def test_live_connections_do_not_notice(net: Topology, end: object) -> None:
    assert callable(end)
    router = Router(net, CONFIG.replace(f'action = "SNAT"\nto = "{ROUTER}"', 'action = "MASQUERADE"'))
    outside = net.folder / "outside.pcap"
    capture(net.server, outside, f"(net {INSIDE}) or arp")
    router.install_rules()
    router.start()
    start_script(net.server, ECHO, SERVER, str(PORT), str(UDP_PORT))
    start_script(net.client, ECHO, CLIENT, str(WEB_INSIDE), "0")
    end_of_talk = net.folder / "stop"
    words = (str(PORT), str(CONNECTIONS), str(UDP_PORT), str(STREAMS))
    out = start_script(net.client, TALK, SERVER, str(end_of_talk), *words)
    back = start_script(net.server, TALK, ROUTER, str(end_of_talk), str(WEB_OUTSIDE), str(FORWARDED), "0", "0")
    time.sleep(1)
    for _ in range(TIMES):
        before = listed(router)
        end(router)
        router.start()
        assert listed(router) >= before
        time.sleep(1)
    end_of_talk.touch()
    assert finished(out) == f"{CONNECTIONS + STREAMS} good set()"
    assert finished(back) == f"{FORWARDED} good set()"
    assert len(restored(router)) == TIMES
    assert "address_gone" not in router.said()
    net.server.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
    wait_until(lambda: packets(net, outside, "arp"), "the capture is not running")
    assert packets(net, outside, f"net {INSIDE}") == []


def packets(net: Topology, file: Path, expression: str) -> list[str]:
    return net.server.run("tcpdump", "-nr", str(file), expression).splitlines()


def test_a_damaged_journal(net: Topology) -> None:
    """The connection of the damaged record is lost; the others go on; the operator learns of it."""
    router = Router(net)
    router.install_rules()
    router.start()
    for port in range(1, 6):
        router.conntrack(
            *("-I", "-s", CLIENT, "-d", SERVER, "-p", "udp", "--sport", str(port), "--dport", "9", "-t", "600")
        )
    killed(router)
    journal = net.folder / "control.journal"
    whole = bytearray(journal.read_bytes())
    first = next(at for at in range(HEADER_SIZE, len(whole), RECORD) if whole[at + 5] == CONNECTION)
    whole[first + 80] ^= 4
    journal.write_bytes(whole)
    router.start()
    assert len(router.conntrack("-L", "-p", "udp", "--dport", "9").splitlines()) == 4
    assert '"damaged": 1' in router.said()
    assert (net.folder / "control.journal.damaged").exists()
    metrics = router.metrics()
    assert "conntrackd_py_journal_damaged 1.0" in metrics
    assert "conntrackd_py_journal_restored 4.0" in metrics
    assert "conntrackd_py_journal_active 1.0" in metrics


def another_address(net: Topology) -> None:
    net.router.run("ip", "address", "delete", f"{ROUTER}/24", "dev", "wan0")
    net.router.run("ip", "address", "add", "203.0.113.77/24", "dev", "wan0")


def not_up_yet(net: Topology) -> None:
    net.router.run("ip", "link", "set", "wan0", "down")


@pytest.mark.parametrize("change", [another_address, not_up_yet])
def test_a_lost_address(net: Topology, change: Callable[[Topology], None]) -> None:
    """While the daemon was away the interface lost its address: masqueraded connections end, others stay."""
    router = Router(net, CONFIG.replace(f'action = "SNAT"\nto = "{ROUTER}"', 'action = "MASQUERADE"'))
    router.install_rules()
    router.start()
    start_script(net.server, ECHO, SERVER, str(PORT), str(UDP_PORT))
    (net.folder / "stop").touch()
    talk = start_script(net.client, TALK, SERVER, str(net.folder / "stop"), str(PORT), "3", "0", "0")
    assert finished(talk) == "3 good set()"
    router.conntrack("-I", "-s", CLIENT, "-d", "192.0.2.9", "-p", "udp", "--sport", "1", "--dport", "9", "-t", "600")
    killed(router)
    change(net)
    router.start()
    assert router.conntrack("-L", "-p", "tcp", "--dport", str(PORT)) == ""
    assert len(router.conntrack("-L", "-p", "udp", "--dport", "9").splitlines()) == 1
    assert '"address_gone": 3' in router.said()
    net.router.run("ip", "link", "set", "wan0", "up")
    talk = start_script(net.client, TALK, SERVER, str(net.folder / "stop"), str(PORT), "3", "0", "0")
    assert finished(talk) == "3 good set()"
    assert len(router.conntrack("-L", "-p", "udp", "--dport", "9").splitlines()) == 1

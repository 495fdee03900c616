"""`conntrackd-py upgrade`: a second process takes over the queues, the connections and the control socket."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, WEB_INSIDE, WEB_OUTSIDE, Router
from conntrackd_py.service.handover import VARIABLE
from tests.support.processes import capture, start_script
from tests.support.talk import ECHO, TALK, finished
from tests.support.waiting import wait_until

PORT = 7100
UDP_PORT = 7200
CONNECTIONS = 30
TIMES = 3
MASQUERADE = CONFIG.replace(f'action = "SNAT"\nto = "{ROUTER}"', 'action = "MASQUERADE"')


@pytest.fixture
def router() -> Iterator[Router]:
    with Topology() as net:
        made = Router(net, MASQUERADE)
        made.install_rules()
        made.start()
        yield made


def upgrade(router: Router) -> subprocess.CompletedProcess[str]:
    return router.net.router.complete(*DAEMON, "upgrade", "--socket", str(router.socket))


def pid(router: Router) -> int:
    done = router.net.router.run(*DAEMON, "status", "--json", "--socket", str(router.socket))
    return int(json.loads(done)["pid"])


def packets(net: Topology, file: Path, expression: str) -> list[str]:
    return net.server.run("tcpdump", "-nr", str(file), expression).splitlines()


def test_live_connections_do_not_notice(router: Router) -> None:
    net = router.net
    outside, end = net.folder / "outside.pcap", net.folder / "stop"
    capture(net.server, outside, f"(net {INSIDE}) or arp")
    start_script(net.server, ECHO, SERVER, str(PORT), str(UDP_PORT))
    start_script(net.client, ECHO, CLIENT, str(WEB_INSIDE), "0")
    out = start_script(net.client, TALK, SERVER, str(end), str(PORT), str(CONNECTIONS), str(UDP_PORT), "5")
    back = start_script(net.server, TALK, ROUTER, str(end), str(WEB_OUTSIDE), "5", "0", "0")
    for _ in range(TIMES):
        time.sleep(1)
        before, known = pid(router), router.conntrack("-L", "-p", "tcp").count("\n")
        done = upgrade(router)
        assert done.returncode == 0, (done.stderr, router.said()[-3000:])
        said = re.fullmatch(r"version \S+, process (\d+); packets waited (\d+\.\d{3}) s\n", done.stdout)
        assert said is not None, done.stdout
        print(said[2])
        assert int(said[1]) == pid(router) != before
        assert router.conntrack("-L", "-p", "tcp").count("\n") >= known
    end.touch()
    assert finished(out) == f"{CONNECTIONS + 5} good set()"
    assert finished(back) == "5 good set()"
    assert router.said().count('"event": "queues_taken_over"') == TIMES
    assert router.said().count('"damaged"') == 0
    net.server.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
    wait_until(lambda: packets(net, outside, "arp"), "the capture is not running")
    assert packets(net, outside, f"net {INSIDE}") == []


def test_a_new_process_that_cannot_start_changes_nothing(router: Router) -> None:
    before = pid(router)
    router.config.write_text('mode = "net"\n')
    done = upgrade(router)
    assert done.returncode == 1
    assert "the new process did not start (it ended); its messages are in the log" in done.stderr
    assert pid(router) == before
    router.config.write_text(MASQUERADE % router.socket)
    assert upgrade(router).returncode == 0
    assert pid(router) != before


def test_where_packets_pass_without_a_daemon_there_is_no_hand_over(router: Router) -> None:
    assert router.stop() == 0
    router.config.write_text(f'mode = "observe"\n[control]\nsocket = "{router.socket}"\n')
    router.install_rules()
    router.start()
    done = upgrade(router)
    assert done.returncode == 1
    assert "restart it" in done.stderr
    assert router.running


def test_other_queues_need_a_restart(router: Router) -> None:
    before = pid(router)
    router.config.write_text(f"{MASQUERADE % router.socket}\n[queue]\nfirst = 4\n")
    done = upgrade(router)
    assert done.returncode == 1
    assert "restart the service" in done.stderr
    assert pid(router) == before


def test_a_stop_ends_a_successor_that_is_not_ready(router: Router) -> None:
    """It is no child of the daemon: systemd waits for the end of its own children only."""
    with subprocess.Popen(
        router.net.router.command(*DAEMON, "upgrade", "--socket", str(router.socket)), stderr=subprocess.PIPE
    ) as command:
        wait_until(lambda: successors(router), "no successor was started")
        started = successors(router)
        assert router.stop() == 0
        command.communicate()
    wait_until(lambda: not any(Path(f"/proc/{one}").exists() for one in started), "the successor goes on")


def successors(router: Router) -> list[str]:
    """Processes that the daemon has started to succeed it."""
    return [
        one for one in router.net.router.run("ip", "netns", "pids", router.net.router.name).split() if succeeds(one)
    ]


def succeeds(pid: str) -> bool:
    with contextlib.suppress(OSError):  # it has ended
        return VARIABLE.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    return False

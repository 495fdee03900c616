"""Two routers, one a hot standby of the other, with a real server for the stream and real keepalived."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.pair import OUTSIDE, SERVER, Pair, Router, pair_of
from tests.support.processes import capture, start_script
from tests.support.talk import ECHO, TALK
from tests.support.waiting import wait_until

PORT = 7100
UDP_PORT = 7200
TRANSFERS = int(os.environ.get("CONNTRACKD_PY_TRANSFERS", "20"))
AWAY = int(os.environ.get("CONNTRACKD_PY_AWAY", "2"))  # seconds without the server
FLOOD = 20_000  # connections


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of() as made:
        yield made


class Talk:
    """Transfers from the client to the server and back, until `end`."""

    def __init__(self, pair: Pair, count: int = TRANSFERS) -> None:
        self.count = count
        self.stop = pair.folder / "stop"
        self.outside = pair.folder / "outside.pcap"
        self.server = pair.spaces["server"]
        capture(self.server, self.outside, "(net 192.168.77.0/24)", interface="wan0")
        start_script(self.server, ECHO, SERVER, str(PORT), str(UDP_PORT))
        words = (str(PORT), str(count), str(UDP_PORT), str(count))
        self.process = start_script(pair.spaces["client"], TALK, SERVER, str(self.stop), *words)

    def end(self) -> str:
        self.stop.touch()
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @property
    def good(self) -> str:
        return f"{2 * self.count} good set()\n"

    def leaks(self) -> str:
        """Untranslated packets on the outer side."""
        done = subprocess.run(["tcpdump", "-nr", self.outside], capture_output=True, text=True, check=True)
        return done.stdout


def holds(router: Router, address: str) -> bool:
    return address in router.namespace.run("ip", "-4", "address")


def test_the_active_router_loses_its_power_in_the_middle_of_transfers(pair: Pair) -> None:
    pair.start()
    a, b = pair.routers["a"], pair.routers["b"]
    assert holds(a, OUTSIDE)
    talk = Talk(pair)
    time.sleep(1)
    assert b.sync()["lag"] < 1
    a.lose_power()
    wait_until(b.is_active, b.said)
    wait_until(lambda: holds(b, OUTSIDE), b.said)
    time.sleep(1)
    assert talk.end() == talk.good
    assert '"stale": ""' in b.said(), "it took over with everything"
    assert talk.leaks() == ""


def test_the_server_is_away_for_some_seconds(pair: Pair) -> None:
    pair.start(keepalived=False)
    a, b = pair.routers["a"], pair.routers["b"]
    for network, address in (("lan", "192.168.77.1/24"), ("wan", f"{OUTSIDE}/24")):
        a.namespace.run("ip", "address", "add", address, "dev", f"{network}0")
    talk = Talk(pair, 5)
    pair.stop_store()
    wait_until(lambda: not a.sync()["connected"] and not b.sync()["connected"], b.said)
    time.sleep(2)
    assert a.ask("sync", "status").returncode == 3
    pair.start_store()
    wait_until(lambda: a.sync()["connected"] and b.is_synced(), b.said)
    assert talk.end() == talk.good
    assert a.is_active()
    wait_until(lambda: tuples(a) == tuples(b), lambda: f"{tuples(a) ^ tuples(b)}")


def test_the_server_is_away_and_then_the_active_router_fails(pair: Pair) -> None:
    pair.start()
    a, b = pair.routers["a"], pair.routers["b"]
    talk = Talk(pair)
    time.sleep(1)
    pair.stop_store()
    wait_until(lambda: not a.sync()["connected"] and not b.sync()["connected"], b.said)
    time.sleep(AWAY)
    assert (a.is_active(), b.is_active()) == (True, False)
    began = time.monotonic()
    pair.start_store()
    wait_until(lambda: a.sync()["connected"] and b.is_synced(), lambda: f"{a.sync()} {b.sync()}", 60)
    print(f"the standby is complete {time.monotonic() - began:.1f} s after the server is back; {b.sync()}")
    began = time.monotonic()
    a.lose_power()
    wait_until(b.is_active, b.said)
    wait_until(lambda: holds(b, OUTSIDE), b.said)
    print(f"the other router is active after {time.monotonic() - began:.1f} s")
    time.sleep(1)
    assert talk.end() == talk.good
    print(f"{2 * talk.count} transfers are complete")
    assert talk.leaks() == ""


def tuples(router: Router) -> set[str]:
    """The tuples of its connections."""
    exported = router.ask("export", "-p", "tcp").stdout.splitlines()
    return {line.partition(',"timeout"')[0] for line in exported[1:-1]}


def test_a_flood_of_new_connections_while_following(pair: Pair) -> None:
    pair.start(keepalived=False)
    a, b = pair.routers["a"], pair.routers["b"]
    for network, address in (("lan", "192.168.77.1/24"), ("wan", f"{OUTSIDE}/24")):
        a.namespace.run("ip", "address", "add", address, "dev", f"{network}0")
    flood = f"""
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range({FLOOD}):
    sock.sendto(b"x", ("{SERVER}", 10000 + number % 50000))
print("ready", flush=True)
"""
    start_script(pair.spaces["client"], flood)
    most = 0.0
    deadline = time.monotonic() + 60
    while (made := count(a)) != count(b) or a.sync()["pending"]:
        most = max(most, b.sync()["lag"])
        assert time.monotonic() < deadline, (a.sync(), b.sync())
    assert made > FLOOD // 4
    assert most < 20
    assert b.sync()["lag"] < 20
    assert b.is_synced()


def count(router: Router) -> int:
    status: int = int(router.ask("export").stdout.splitlines()[-1].partition(":")[2].strip("}"))
    return status


def test_the_older_of_two_active_routers_steps_down(pair: Pair) -> None:
    pair.start(keepalived=False)
    a, b = pair.routers["a"], pair.routers["b"]
    assert b.ask("sync", "takeover").returncode == 0
    wait_until(lambda: a.sync()["role"] == "standby", a.said)
    assert (a.sync()["stepped_down"], b.is_active()) == (1, True)
    wait_until(a.is_synced, a.said)


def test_stale_state_takes_over_only_when_told_to(pair: Pair) -> None:
    pair.start_store()
    b = pair.routers["b"]
    pair.stop_store()
    b.start()
    refused = b.ask("sync", "takeover")
    assert refused.returncode == 1
    assert "stale: the active router was never heard; --stale takes over all the same" in refused.stderr
    assert b.ask("sync", "takeover", "--stale").returncode == 0
    assert b.is_active()


def test_a_restart_keeps_the_role(pair: Pair) -> None:
    pair.start(keepalived=False)
    a, b = pair.routers["a"], pair.routers["b"]
    epoch = a.sync()["epoch"]
    assert a.process is not None
    a.process.kill()
    a.process.wait()
    a.start()
    assert a.is_active()
    wait_until(lambda: a.sync()["epoch"] == epoch + 1, a.said)
    wait_until(lambda: b.sync()["epoch"] == epoch + 1 and b.is_synced(), b.said)

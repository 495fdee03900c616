"""The queues outlive the daemon: packets wait, no translation changes, and nothing foreign stays in the store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, Router
from tests.support.manager import Manager
from tests.support.processes import capture, start_script
from tests.support.waiting import wait_until

PORT = 7300
STORED = ["maps", "queue-0", "queue-1", "queue-2", "queue-3"]
MASQUERADE = CONFIG.replace(f'action = "SNAT"\nto = "{ROUTER}"', 'action = "MASQUERADE"')

# Answers each datagram with its sender's port and its number.
ANSWER = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    data, peer = sock.recvfrom(100)
    sock.sendto(b"%s from %s:%d" % (data, peer[0].encode(), peer[1]), peer)
"""
# Sends a datagram for each line read, and prints the answers.
ASK = """
import select, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    for ready in select.select([sock, sys.stdin], [], [])[0]:
        if ready is sock:
            print(sock.recv(100).decode(), flush=True)
        elif line := sys.stdin.readline():
            sock.send(line.strip().encode())
        else:
            sys.exit()
"""


NOISE = 5  # packets of the router itself, such as neighbour discovery


class Scene:
    """A router whose daemon is started by a service manager, and a client that asks through it."""

    def __init__(self, net: Topology, config: str = MASQUERADE) -> None:
        self.net = net
        self.router = Router(net, config)
        self.router.install_rules()
        self.manager = Manager(net.folder)
        net.cleanup.callback(self.manager.close)

    def start(self) -> str:
        return self.manager.start(self.router)

    def kill(self) -> None:
        assert self.router.stop(signal.SIGKILL) == -signal.SIGKILL

    def stop(self) -> None:
        assert self.router.stop() == 0
        self.manager.read()

    def names(self) -> list[str]:
        return sorted(name for name, _ in self.manager.stored)

    def waiting(self) -> dict[int, int]:
        """Packets in each queue."""
        rows = [line.split() for line in self.net.router.run("cat", "/proc/net/netfilter/nfnetlink_queue").splitlines()]
        return {int(row[0]): int(row[2]) for row in rows}


@pytest.fixture
def net() -> Iterator[Topology]:
    with Topology() as made:
        yield made


def events(said: str, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


@pytest.mark.parametrize("end", [Scene.kill, Scene.stop])
def test_packets_wait_for_the_next_daemon(net: Topology, end: object) -> None:
    assert callable(end)
    scene = Scene(net)
    outside = net.folder / "outside.pcap"
    capture(net.server, outside, f"(net {INSIDE}) or arp")
    scene.start()
    assert scene.names() == STORED
    stores = [said for said in scene.manager.said if "FDSTORE=1" in said]
    assert all("FDPOLL=0" in said for said in stores), "a full socket counts as broken, and systemd would close it"
    start_script(net.server, ANSWER, SERVER, str(PORT))
    words = (sys.executable, "-P", "-c", ASK, SERVER, str(PORT))
    ask = net.client.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert ask.stdin is not None
    assert ask.stdout is not None
    assert ask.stdout.readline() == "ready\n"
    ask.stdin.write("before\n")
    ask.stdin.flush()
    answer = ask.stdout.readline().split()
    assert answer[:2] == ["before", "from"]
    end(scene)
    for number in range(3):
        ask.stdin.write(f"waits{number}\n")
        ask.stdin.flush()
        time.sleep(0.05)
    wait_until(lambda: sum(scene.waiting().values()) >= 3, lambda: str(scene.waiting()))
    said = scene.start()
    assert [ask.stdout.readline().split() for _ in range(3)] == [[f"waits{n}", *answer[1:]] for n in range(3)]
    ask.stdin.close()
    assert ask.wait(10) == 0
    assert events(said, "queues_taken_over")[0]["packets"] in range(3, 3 + NOISE)
    assert len(events(said, "pause")) == 1
    assert scene.names() == STORED
    assert not events(said, "descriptor_closed")
    net.server.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
    wait_until(lambda: packets(net, outside, "arp"), "the capture is not running")
    assert packets(net, outside, f"net {INSIDE}") == []


def packets(net: Topology, file: Path, expression: str) -> list[str]:
    return net.server.run("tcpdump", "-nr", str(file), expression).splitlines()


def test_after_a_stop_no_queue_is_left(net: Topology) -> None:
    """The manager closes what it stored; a daemon that starts then binds new queues."""
    scene = Scene(net)
    scene.start()
    scene.stop()
    assert sorted(scene.waiting()) == [0, 1, 2, 3]
    scene.manager.forget()
    assert scene.waiting() == {}
    assert not events(scene.start(), "queues_taken_over")
    assert scene.names() == STORED


def test_other_numbers_of_queues(net: Topology) -> None:
    scene = Scene(net)
    scene.start()
    scene.kill()
    scene.router.config.write_text(f"{MASQUERADE % scene.router.socket}\n[queue]\nfirst = 2\n")
    scene.router.install_rules()
    said = scene.start()
    assert sorted(str(line["name"]) for line in events(said, "descriptor_closed")) == ["queue-0", "queue-1"]
    assert events(said, "queues_taken_over")[0]["queues"] == 2
    assert scene.names() == ["maps", "queue-2", "queue-3", "queue-4", "queue-5"]
    assert sorted(scene.waiting()) == [2, 3, 4, 5]


def test_foreign_descriptors_are_closed_and_named(net: Topology) -> None:
    """A pipe, a TCP socket, and netlink sockets that do not own the queue of their name."""
    scene = Scene(net)
    scene.start()
    scene.kill()
    mine = dict(scene.manager.stored)
    reader, writer = os.pipe()
    plain = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    plain.bind((0, 0))
    scene.manager.stored = []
    scene.manager.store("queue-0", plain.detach())
    scene.manager.store("queue-1", socket.socket().detach())
    scene.manager.store("queue-1", os.dup(mine["queue-1"]))
    scene.manager.store("pipe", reader)
    scene.manager.store("queue-99999", socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).detach())
    for descriptor in (writer, *mine.values()):
        os.close(descriptor)
    said = scene.start()
    closed = {(str(line["name"]), str(line["reason"])) for line in events(said, "descriptor_closed")}
    assert closed == {
        ("queue-0", "cannot configure packet queue 0: [Errno 19] No such device"),
        ("queue-1", "not a packet queue"),
        ("pipe", "not a socket"),
        ("queue-99999", "not wanted"),
    }
    assert scene.names() == STORED
    assert sorted(scene.waiting()) == [0, 1, 2, 3]


@pytest.mark.parametrize("setting", ['mode = "observe"', 'mode = "track"\n[queue]\nfail_open = true'])
def test_where_packets_may_pass_without_a_daemon_nothing_is_stored(net: Topology, setting: str) -> None:
    scene = Scene(net)
    scene.start()
    scene.kill()
    scene.router.config.write_text(f'{setting}\n[control]\nsocket = "{scene.router.socket}"\n')
    scene.router.install_rules()
    assert len(events(scene.start(), "descriptor_closed")) == 4
    assert scene.names() == []

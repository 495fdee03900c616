"""PPTP: control connections and GRE packets of real sockets, through conntrackd-py and through the kernel's helper.

This needs no PPP in the kernel: the ends speak the control messages, and send GRE packets by raw sockets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from subprocess import PIPE

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER
from conntrackd_py.lab.router import CONNTRACK
from tests.support import helped
from tests.support.helped import Net
from tests.support.processes import start_script
from tests.support.waiting import wait_until

SECOND = "192.168.77.3/24"
MESSAGES = """
import socket, struct, sys
LENGTHS = (0, 144, 144, 4, 4, 4, 8, 156, 20, 208, 12, 16, 4, 136, 28, 12)
def message(kind, *numbers):
    body = b"".join(struct.pack(">H", number) for number in numbers).ljust(LENGTHS[kind], bytes(1))
    return struct.pack(">HHIHH", 12 + len(body), 1, 0x1A2B3C4D, kind, 0) + body
def read(control):
    data = control.recv(16, socket.MSG_WAITALL)
    rest = control.recv(struct.unpack(">H", data[:2])[0] - 16, socket.MSG_WAITALL)
    return struct.unpack(">HHH", data[8:10] + data[12:16])
def gre(call):
    return struct.pack(">HHHHI", 0x3001, 0x880B, 4, call, 1) + b"data"
def raw():
    one = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
    one.settimeout(10)
    return one
def received(one, source):
    while True:
        data, sender = one.recvfrom(100)
        if sender[0] == source:
            return struct.unpack(">H", data[26:28])[0], sender[0], data[32:]
"""
# Accepts calls from as many connections as given, prints what it reads. Its own call ids count from the first argument.
SERVER_END = (
    MESSAGES
    + """
listener = socket.create_server(("", 1723))
packets = raw()
print("ready", flush=True)
first, count = [int(one) for one in sys.argv[1:]]
for own in range(first, first + count):
    control, sender = listener.accept()
    read(control)
    control.sendall(message(2, 0x100, 0x100))
    _, call, _ = read(control)
    control.sendall(message(8, own, call, 0x100))
    print("asked", call == sender[1], flush=True)
    number, source, data = received(packets, sender[0])
    print(number, source, data, flush=True)
    packets.sendto(gre(call), (source, 0))
    _, number, _ = read(control)
    print("link", number, flush=True)
    control.sendall(message(14, call))
    kept = [*kept, control] if own > first else [control]
    read(control)
"""
)
CLIENT_END = (
    MESSAGES
    + """
source, host, port, *wait = sys.argv[1:]
control = socket.create_connection((host, 1723), 30, (source, int(port)))
packets = raw()
packets.bind((source, 0))
control.sendall(message(1, 0x100))
print(read(control))
control.sendall(message(7, 7, 1))
_, theirs, mine = read(control)
print(theirs, mine)
packets.sendto(gre(theirs), (host, 0))
print(received(packets, host))
control.sendall(message(15, theirs))
print(read(control))
print("ready", flush=True)
control.sendall(message(12, 7))
if wait:
    control.recv(100)
"""
)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Net, Net]]:
    with helped.both() as nets:
        yield nets


def table(net: Net) -> str:
    words = ("conntrack",) if net.daemon is None else (*CONNTRACK, "--socket", str(net.daemon.socket))
    return net.topology.router.run(*words, "-L", "-p", "gre")


def shown(net: Net) -> list[str]:
    """The GRE entries without their timeouts and use counts, which differ by a second."""
    lines = [line.split() for line in table(net).splitlines() if line.startswith("gre")]
    return sorted(" ".join(word for word in line[3:] if not word.startswith("use=")) for line in lines)


@pytest.mark.parametrize("role", ["source", "destination"])
def test_a_call(both: tuple[Net, Net], role: str) -> None:
    """What each end reads, what is expected, and the connection of the call."""
    host, inside, outside = (SERVER, CLIENT, ROUTER) if role == "source" else (ROUTER, SERVER, SERVER)
    found = []
    for net in both:
        ends = (net.topology.client, net.topology.server)
        caller, called = ends if role == "source" else ends[::-1]
        before = len(net.expected())
        server = start_script(called, SERVER_END, "9", "1")
        said = caller.run(sys.executable, "-c", CLIENT_END, inside, host, "5070", timeout=30)
        assert server.stdout is not None
        wait_until(partial(_more, net, before), "nothing expected")
        found.append((said, server.stdout.read(), net.expected()[before:], shown(net)))
    assert found[0] == found[1]
    assert f"9 {outside} b'data'" in found[0][1]
    assert len(found[0][3]) == 1 + (role == "destination")


def test_two_clients_with_the_same_call_id_and_port(both: tuple[Net, Net]) -> None:
    """Behind one address, to one server, at the same time: each gets the packets of its own call."""
    for net in both:
        client = net.topology.client
        client.run("ip", "address", "add", SECOND, "dev", "eth0")
        server = start_script(net.topology.server, SERVER_END, "20", "2")
        for source, theirs in ((CLIENT, 20), (SECOND.partition("/")[0], 21)):
            one = client.start(sys.executable, "-c", CLIENT_END, source, SERVER, "5071", "wait", stdout=PIPE)
            assert one.stdout is not None
            said = [one.stdout.readline() for _ in range(5)]
            assert said[1:] == [f"{theirs} 7\n", f"(7, '{SERVER}', b'data')\n", "(14, 7, 0)\n", "ready\n"]
        assert server.stdout is not None
        assert [server.stdout.readline() for _ in range(6)] == [
            line for theirs in (20, 21) for line in ("asked True\n", f"{theirs} {ROUTER} b'data'\n", f"link {theirs}\n")
        ]


def _more(net: Net, before: int) -> bool:
    return len(net.expected()) >= before + 2

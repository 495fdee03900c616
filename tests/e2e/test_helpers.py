"""TFTP with a real server and client, and IRC: through conntrackd-py and through the kernel's own helpers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import pytest

from conntrackd_py.lab.namespaces import ROUTER, ROUTER6, SERVER, SERVER6
from tests.support import helped
from tests.support.helped import Net, listening
from tests.support.processes import start_script
from tests.support.waiting import wait_until

ROLES = {"source": (SERVER, SERVER6), "destination": (ROUTER, ROUTER6)}

# Echoes what it reads; prints it too.
LINES = """
import socket
server = socket.create_server(("", 6667))
print("ready", flush=True)
while True:
    one, _ = server.accept()
    for line in one.makefile("rb"):
        one.sendall(line)
"""
# Offers its port by DCC, prints what the server read, then who connects to the port, and what the server reads later.
OFFER = """
import socket, sys
offered = socket.create_server(("", 5001))
control = socket.create_connection((sys.argv[1], 6667))
lines = control.makefile("rb")
number = int.from_bytes(socket.inet_aton(control.getsockname()[0]), "big")
control.sendall(b"NICK bob\\r\\nPRIVMSG alice :\\1DCC SEND f %d 5001 9\\1\\r\\n"[:10])
print(lines.readline(), flush=True)
control.sendall(b"PRIVMSG alice :\\1DCC SEND f %d 5001 9\\1\\r\\n" % number)
print(lines.readline(), flush=True)
offered.settimeout(10)
data, sender = offered.accept()
print(data.recv(100), sender[0], flush=True)
for text in (b"PRIVMSG alice :x\\r\\n", b"QUIT\\r\\n"):
    control.sendall(text)
    print(lines.readline(), flush=True)
"""

PEER = """
import socket, sys
socket.create_connection((sys.argv[1], 5001)).sendall(b"data")
print("ready")
"""


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Net, Net]]:
    with helped.both() as nets:
        for net in nets:
            files = net.topology.folder / "files"
            files.mkdir()
            files.chmod(0o755)
            (files / "data").write_bytes(bytes(5000))
            for where in (net.topology.client, net.topology.server):
                where.start("in.tftpd", "-L", "-s", str(files))
                wait_until(partial(listening, where, 69, "-Hlun"), "no TFTP server")
            start_script(net.topology.server, LINES)
        yield nets


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("role", ROLES)
def test_tftp(both: tuple[Net, Net], role: str, family: int) -> None:
    for net in both:
        who = net.topology.client if role == "source" else net.topology.server
        got = net.topology.folder / f"got-{role}-{family}"
        who.run("tftp", "-m", "octet", ROLES[role][family == 6], "-c", "get", "data", str(got), timeout=20)
        assert got.read_bytes() == bytes(5000)
    wait_until(lambda: all(net.expected() for net in both), "nothing expected")
    assert both[0].expected()[-1:] == both[1].expected()[-1:]


def offered(net: Net) -> bool:
    return "dport=5001" in net.log.read_text()


def test_irc(both: tuple[Net, Net]) -> None:
    """What the server reads, and from which address the inner client sees its peer."""
    said = []
    for net in both:
        client = start_script(net.topology.client, OFFER, SERVER, says="b'NICK bob\\r\\n'")
        assert client.stdout is not None
        said.append([client.stdout.readline()])
        wait_until(partial(offered, net), "no DCC expected")
        start_script(net.topology.server, PEER, ROUTER)
        said[-1] += client.stdout.read().splitlines()
    assert said[0] == said[1]
    assert len(said[0]) == 4
    assert both[0].expected()[-1:] == both[1].expected()[-1:]


# A server of one turn: `words` are what it reads and what it answers, then the ports of TCP that it accepts once each.
ANSWER = """
import socket, sys
kind, port, read, answer, *ports = sys.argv[1:]
accepting = [socket.create_server(("", int(one))) for one in ports]
if kind == "tcp":
    listener = socket.create_server(("", int(port)))
else:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("", int(port)))
print("ready", flush=True)
if kind == "tcp":
    control, _ = listener.accept()
    control.recv(100)
    control.sendall(eval(answer))
else:
    _, sender = listener.recvfrom(1000)
    listener.sendto(eval(answer), sender)
for one in accepting:
    data, sender = one.accept()
    print(data.recv(10), sender[0], flush=True)
"""
ASK = """
import socket, sys
kind, host, port, ask, *ports = sys.argv[1:]
control = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
control.settimeout(10)
control.connect((host, int(port)))
control.sendall(eval(ask))
print(control.recv(1000), flush=True)
for one in ports:
    socket.create_connection((host, int(one)), 10).sendall(b"data")
"""
TALKS = {
    "sane": ("tcp", "6566", r"b'\0\0\0\7\0\0\0\1'", r"b'\0\0\0\0\0\0\x30\x39'", "12345"),
    "amanda": ("udp", "10080", "b'REQ'", r"b'REP\nCONNECT DATA 50001 MESG 50002\n'", "50001", "50002"),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", TALKS)
def test_ports_that_a_server_names(both: tuple[Net, Net], name: str, role: str) -> None:
    """Only its expectation is compared where the kernel's SANE does not follow a DNAT rule."""
    kind, port, ask, answer, *ports = TALKS[name]
    found = []
    for net in both:
        inside, outside = net.topology.client, net.topology.server
        client, server = (inside, outside) if role == "source" else (outside, inside)
        reach = ports if (name, role) != ("sane", "destination") else []
        listener = start_script(server, ANSWER, kind, port, ask, answer, *ports)
        said = client.run(sys.executable, "-c", ASK, kind, ROLES[role][0], port, ask, *reach, timeout=30)
        assert listener.stdout is not None
        found.append([said, *(listener.stdout.readline() for _ in reach)])
        listener.kill()
    assert found[0] == found[1]
    wait_until(partial(_same, both), f"{both[0].expected()} {both[1].expected()}")


def _same(both: tuple[Net, Net]) -> bool:
    return both[0].expected() == both[1].expected()


# Asks the network by broadcast; prints the first answer.
QUESTION = """
import socket
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
asking.bind(("", 1500))
asking.settimeout(10)
asking.sendto(b"name?", ("192.168.77.255", 137))
print(asking.recvfrom(100))
"""
HOST = """
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("", 137))
print("ready", flush=True)
_, sender = listener.recvfrom(100)
listener.sendto(b"me", sender)
"""


def test_a_question_by_broadcast(both: tuple[Net, Net]) -> None:
    """The router asks its network, the answer comes from an address of a host."""
    for net in both:
        router = net.topology.router
        start_script(net.topology.client, HOST)
        assert router.run(sys.executable, "-c", QUESTION) == "(b'me', ('192.168.77.2', 137))\n"
        wait_until(partial(_announced, net, "netbios-ns"), net.log.read_text())
    assert both[0].expected()[-1:] == both[1].expected()[-1:]
    assert "PERMANENT" in both[1].expected()[-1]


def _announced(net: Net, helper: str) -> bool:
    return helper in net.log.read_text()

"""Every port of one outer address, to one port of one server: 64,512 connections, and then the next one.

The kernel chooses new ports from 1024 to 65535 for source ports in that range.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from conntrackd_py.lab.namespaces import CLIENT, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, Router
from tests.support.waiting import wait_until

SECOND: Final = "192.168.77.3"
PORT: Final = 9000
FIRST_PORT, LAST_PORT = 1024, 65535
TUNABLES: Final = "[tunables]\nnf_conntrack_udp_timeout = 900\nnf_conntrack_udp_timeout_stream = 900\n"

ECHO: Final = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((sys.argv[1], int(sys.argv[2])))
    print("ready", flush=True)
    while True:
        data, peer = sock.recvfrom(100)
        sock.sendto(str(peer[1]).encode(), peer)
"""
# Asks from every port, and prints how many outer ports the server saw.
EVERY_PORT: Final = """
import select, socket, sys
server, seen = (sys.argv[1], int(sys.argv[2])), set()
ports = range(int(sys.argv[3]), int(sys.argv[4]) + 1)
for at in range(0, len(ports), 400):
    waiting = {}
    for port in ports[at : at + 400]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", port))
        sock.connect(server)
        waiting[sock.fileno()] = sock
    for _ in range(100):
        if not waiting:
            break
        for sock in waiting.values():
            sock.send(b"?")
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLIN)
        while waiting and (ready := poll.poll(500)):
            for number, _ in ready:
                seen.add(int(waiting[number].recv(100)))
                poll.unregister(number)
                waiting.pop(number).close()
print(len(seen))
"""
# One question, from the given address; prints the outer port, or the error.
ONE: Final = """
import errno, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(5)
    sock.bind((sys.argv[1], 5000))
    sock.connect((sys.argv[2], int(sys.argv[3])))
    sock.send(b"?")
    try:
        print(sock.recv(100).decode())
    except OSError as error:
        print(errno.errorcode[error.errno] if error.errno else "timeout")
"""


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as topology:
        topology.client.run("ip", "address", "add", f"{SECOND}/24", "dev", "eth0")
        made = Router(topology, 'nat_exhausted = "reject"\n' + CONFIG.replace("[tunables]\n", TUNABLES))
        made.install_rules()
        made.start()
        echo = topology.server.start(sys.executable, "-P", "-c", ECHO, SERVER, str(PORT), stdout=subprocess.PIPE)
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        yield made


def ask(router: Router, address: str) -> str:
    return router.net.client.run(sys.executable, "-P", "-c", ONE, address, SERVER, str(PORT)).strip()


def test_every_port_of_an_outer_address_serves_one_server(router: Router) -> None:
    every = [SERVER, str(PORT), str(FIRST_PORT), str(LAST_PORT)]
    assert router.net.client.run(sys.executable, "-P", "-c", EVERY_PORT, *every) == "64512\n"


def test_the_next_host_is_told(router: Router) -> None:
    assert ask(router, SECOND) == "EHOSTUNREACH"  # ICMP 3/13
    assert 'reason="nat_exhausted"' in router.metrics()
    wait_until(lambda: "nat_ports_running_out" in router.said(), "no warning in the log")


def test_after_the_end_of_a_connection_its_port_serves_others(router: Router) -> None:
    router.conntrack("-D", "-p", "udp", "-s", CLIENT)
    assert ask(router, SECOND) == "5000"

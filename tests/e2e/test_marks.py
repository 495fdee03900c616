"""Your own firewall rules match the packet mark, as docs/raw-and-marks.md describes it."""

import re
import sys
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import SERVER, SERVER6, Topology
from conntrackd_py.lab.router import Router
from conntrackd_py.lab.steps import start_servers

MARKS = {
    "NEW": "0xa00/0xf00",
    "ESTABLISHED": "0x800/0xf00",
    "ESTABLISHED_REPLY": "0xb00/0xf00",
    "RELATED": "0x900/0xf00",
    "RELATED_REPLY": "0xc00/0xf00",
    "INVALID": "0xd00/0xf00",
}


@pytest.fixture(scope="module")
def net() -> Iterator[Topology]:
    with Topology() as topology:
        router = Router(topology)
        for program in ("iptables", "ip6tables"):
            for name, mark in MARKS.items():
                rule = ("-A", "FORWARD", "-m", "mark", "--mark", mark, "-m", "comment", "--comment", name)
                topology.router.run(program, *rule)
        router.start()
        router.install_rules()
        start_servers(topology)
        yield topology


def counted(net: Topology, program: str) -> dict[str, int]:
    """Packets by ctstate since the previous call."""
    text = net.router.run(program, "-L", "FORWARD", "-v", "-x", "-n", "-Z")
    found = re.findall(r"^ *(\d+) .*/\* (\w+) \*/", text, re.MULTILINE)
    return {name: int(number) for number, name in found if int(number)}


@pytest.mark.parametrize(("program", "server"), [("iptables", SERVER), ("ip6tables", SERVER6)])
def test_a_ping_is_new_and_answered(net: Topology, program: str, server: str) -> None:
    counted(net, program)
    net.client.run("ping", "-c", "3", "-i", "0.2", "-W", "2", server)
    assert counted(net, program) == {"NEW": 1, "ESTABLISHED": 2, "ESTABLISHED_REPLY": 3}


@pytest.mark.parametrize(("program", "server"), [("iptables", SERVER), ("ip6tables", SERVER6)])
def test_a_closed_port_is_related(net: Topology, program: str, server: str) -> None:
    counted(net, program)
    send = f"""
import socket
with socket.socket(socket.AF_INET6 if ":" in "{server}" else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(2)
    s.connect(("{server}", 4444))
    s.send(b"?")
    try:
        s.recv(1)
    except ConnectionRefusedError:
        pass
"""
    net.client.run("/usr/bin/python3", "-c", send)
    assert counted(net, program) == {"NEW": 1, "RELATED_REPLY": 1}


def test_a_stray_answer_is_invalid(net: Topology) -> None:
    """A SYN+ACK without a SYN, routed to the inside, and the RST with which the client answers."""
    counted(net, "ip6tables")
    send = """
from scapy.all import IPv6, TCP, send
send(IPv6(src="2001:db8:2::80", dst="2001:db8:1::2") / TCP(sport=80, dport=9, flags="SA"), verbose=False)
"""
    net.server.run(sys.executable, "-c", send)
    assert counted(net, "ip6tables") == {"INVALID": 2}

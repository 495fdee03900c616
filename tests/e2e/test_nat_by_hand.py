"""A translation made by hand with conntrack-py works on real packets, both ways, as one that a rule made."""

import subprocess
import sys

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, Namespace
from conntrackd_py.lab.namespaces import ROUTER_INSIDE as INNER
from tests.e2e.conftest import Net
from tests.support.processes import start_script

LISTEN = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    datagrams.bind((sys.argv[1], int(sys.argv[2])))
    datagrams.settimeout(10)
    print("ready", flush=True)
    said, peer = datagrams.recvfrom(100)
    datagrams.sendto(said.upper(), peer)
    print(said.decode(), *peer, flush=True)
"""
CALL = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    datagrams.bind((sys.argv[1], int(sys.argv[2])))
    datagrams.settimeout(5)
    datagrams.sendto(b"hello", (sys.argv[3], int(sys.argv[4])))
    print(*datagrams.recvfrom(100), flush=True)
"""


def listening(where: Namespace, address: str, port: int) -> subprocess.Popen[str]:
    return start_script(where, LISTEN, address, str(port))


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def call(where: Namespace, source: str, sport: int, destination: str, dport: int) -> str:
    return where.run(sys.executable, "-P", "-c", CALL, source, str(sport), destination, str(dport)).strip()


def make(net: Net, options: str) -> None:
    net.router.conntrack("-I", "-p", "udp", "-t", "60", *options.split())


def test_a_source_translation_to_a_port_of_ones_choice(net: Net) -> None:
    """Without it the rule would keep the client's own port."""
    make(net, f"-s {CLIENT} -d {SERVER} --sport 5001 --dport 5101 -n {ROUTER}:7777")
    server = listening(net.outside, SERVER, 5101)
    answer = call(net.client, CLIENT, 5001, SERVER, 5101)
    assert heard(server) == f"hello {ROUTER} 7777"
    assert answer == f"b'HELLO' ('{SERVER}', 5101)"


@pytest.mark.parametrize(("port", "source", "seen"), [(5002, "", (SERVER, 5002)), (5003, INNER, (INNER, 7778))])
def test_a_destination_translation_without_any_rule(net: Net, port: int, source: str, seen: tuple[str, int]) -> None:
    """Alone, or together with one of the source."""
    both = f"-n {source}:7778" if source else ""
    make(net, f"-s {SERVER} -d {ROUTER} --sport {port} --dport {port + 100} -g {CLIENT}:{port + 200} {both}")
    client = listening(net.client, CLIENT, port + 200)
    answer = call(net.outside, SERVER, port, ROUTER, port + 100)
    assert heard(client) == f"hello {seen[0]} {seen[1]}"
    assert answer == f"b'HELLO' ('{ROUTER}', {port + 100})"


def test_saved_deleted_and_read_back_it_still_translates(net: Net) -> None:
    make(net, f"-s {CLIENT} -d {SERVER} --sport 5004 --dport 5104 -n {ROUTER}:7779")
    saved = net.router.conntrack("-L", "-o", "save", "-p", "udp", "--dport", "5104")
    file = net.router.net.folder / "saved"
    file.write_text(saved)
    net.router.conntrack("-D", "-p", "udp", "--dport", "5104")
    net.router.conntrack("-R", str(file))
    server = listening(net.outside, SERVER, 5104)
    call(net.client, CLIENT, 5004, SERVER, 5104)
    assert heard(server) == f"hello {ROUTER} 7779"


def test_a_mapping_that_is_taken_is_not_given_twice(net: Net) -> None:
    """A rule's own choice evades the port that a hand has given away, for the same destination."""
    make(net, f"-s {CLIENT} -d {SERVER} --sport 5005 --dport 5105 -n {ROUTER}:5006")
    server = listening(net.outside, SERVER, 5105)
    call(net.client, CLIENT, 5006, SERVER, 5105)
    address, port = heard(server).split()[1:]
    assert address == ROUTER
    assert port != "5006"


def test_a_marked_connection_keeps_its_mark_and_is_found_by_it(net: Net) -> None:
    make(net, f"-s {CLIENT} -d {SERVER} --sport 5007 --dport 5107 -n {ROUTER}:7780 -m 0x77")
    server = listening(net.outside, SERVER, 5107)
    call(net.client, CLIENT, 5007, SERVER, 5107)
    assert heard(server)
    (line,) = net.router.conntrack("-L", "-m", "0x77", "-o", "json").splitlines()
    assert '"SEEN_REPLY"' in line


def test_what_an_interface_carries_is_flushed_alone(net: Net) -> None:
    net.outside.run("ping", "-c", "1", ROUTER)
    net.client.run("ping", "-c", "1", SERVER)
    forwarded = ("-L", "-p", "icmp", "-o", "json", "--interface", "lan0")
    (line,) = net.router.conntrack(*forwarded).splitlines()
    assert ('"in":"lan0"' in line, '"out":"wan0"' in line) == (True, True)
    net.router.conntrack("-D", "--interface", "lan0", "-p", "icmp")
    assert net.router.conntrack(*forwarded) == ""
    assert len(net.router.conntrack("-L", "-p", "icmp").splitlines()) == 1

"""MSS clamping with the running daemon: real TCP ends learn the MTU of the router's links, also after it changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, Router
from tests.support.processes import start_script
from tests.support.waiting import wait_until

PORT = 5201
TIMESTAMPS = 12  # bytes of options in each segment
LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as s:
    print("ready", flush=True)
    connection, peer = s.accept()
    print(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), flush=True)
"""
CALL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s:
    print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
"""


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as topology:
        config = CONFIG.replace('mode = "nat"', 'mode = "nat"\nclamp_mss = "pmtu"')
        six = f'[[nat]]\nout_interface = "wan0"\nfamily = "ipv6"\naction = "SNAT"\nto = "{ROUTER6}"\n'
        made = Router(topology, config + six)
        made.install_rules()
        made.start()
        yield made


def segments(router: Router, server: str, port: int) -> tuple[int, int]:
    """The sizes that the server and the client use, without the options of each segment."""
    listener = start_script(router.net.server, LISTEN, server, str(port))
    client = int(router.net.client.run(sys.executable, "-P", "-c", CALL, server, str(port)))
    assert listener.stdout is not None
    return int(listener.stdout.readline()), client


@pytest.mark.parametrize("mtu", [1500, 1400])
@pytest.mark.parametrize(("server", "header"), [(SERVER, 40), (SERVER6, 60)])
def test_both_ends_learn_the_mtu(router: Router, server: str, header: int, mtu: int) -> None:
    router.net.router.run("ip", "link", "set", "wan0", "mtu", str(mtu))
    wanted = mtu - header - TIMESTAMPS
    ports = iter(range(PORT + 10 * mtu + header, 65536))
    wait_until(lambda: segments(router, server, next(ports)) == (wanted, wanted), "the MTU is not known")
    assert "conntrackd_py_mss_clamped_total" in router.metrics()


def test_the_server_sees_the_router(router: Router) -> None:
    segments(router, SERVER, PORT)
    assert f"dst={ROUTER}" in router.conntrack("-L", "-p", "tcp", "--dport", str(PORT))

"""The filter with real packets: what is accepted, and how the others are answered.

Every hook drops by default, the router's own OUTPUT too, and a source rule without an interface covers whatever
leaves: an answer that the daemon did not know as its own would be dropped or translated on its way out.
"""

import sys
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import (
    CLIENT,
    CLIENT6,
    ROUTER,
    ROUTER6_INSIDE,
    ROUTER_INSIDE,
    SERVER,
    SERVER6,
    Namespace,
    Topology,
)
from conntrackd_py.lab.router import Router

PATIENCE = 3  # seconds; an answer comes within milliseconds
CONFIG = f"""
[metrics]
listen = ""
[control]
socket = "%s"
[[nat]]
family = "ipv4"
action = "SNAT"
to = "{ROUTER}"
[[nat]]
in_interface = "wan0"
destination = "{ROUTER}"
proto = "tcp"
dport = 8080
action = "DNAT"
to = "{CLIENT}:80"
[filter]
default_in = "drop"
default_forward = "drop"
default_out = "drop"
[[filter.rule]]
hooks = ["in", "forward", "out"]
ct = "state established,related"
action = "accept"
[[filter.rule]]
hooks = ["in", "out"]
proto = "icmpv6"
ct = "state untracked"
comment = "neighbour discovery, without which there is no IPv6"
action = "accept"
[[filter.rule]]
hooks = ["in", "forward", "out"]
proto = "tcp"
dport = 1000
action = "accept"
[[filter.rule]]
hooks = ["in", "forward", "out"]
proto = "tcp"
dport = "1:999"
action = "reject"
reject_with = "tcp-reset"
[[filter.rule]]
hooks = ["in", "forward", "out"]
proto = "udp"
action = "reject"
"""

# Connects, or sends a datagram and waits: prints what becomes of it.
KNOCK = f"""
import socket, sys
kind, host, port = sys.argv[1:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as s:
    s.settimeout({PATIENCE})
    try:
        s.connect((host, int(port)))
        if kind == "udp":
            s.send(b"knock")
            s.recv(100)
        print("open")
    except OSError as error:
        print(type(error).__name__)
"""
REFUSED, SILENCE = "ConnectionRefusedError", "TimeoutError"


@pytest.fixture(scope="module")
def net() -> Iterator[Topology]:
    with Topology() as topology:
        router = Router(topology, CONFIG)
        router.install_rules()
        router.start()
        yield topology


def knock(where: Namespace, kind: str, host: str, port: int) -> str:
    return where.run(sys.executable, "-c", KNOCK, kind, host, str(port)).strip()


@pytest.mark.parametrize("host", [SERVER, SERVER6], ids=["v4", "v6"])
def test_a_forwarded_connection_is_reset(net: Topology, host: str) -> None:
    assert knock(net.client, "tcp", host, 81) == REFUSED


@pytest.mark.parametrize("host", [SERVER, SERVER6], ids=["v4", "v6"])
def test_a_forwarded_datagram_is_answered_by_an_error(net: Topology, host: str) -> None:
    assert knock(net.client, "udp", host, 82) == REFUSED


@pytest.mark.parametrize("host", [ROUTER_INSIDE, ROUTER6_INSIDE], ids=["v4", "v6"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_router_answers_for_itself(net: Topology, kind: str, host: str) -> None:
    assert knock(net.client, kind, host, 83) == REFUSED


@pytest.mark.parametrize("host", [SERVER, SERVER6], ids=["v4", "v6"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_router_itself_gets_an_answer(net: Topology, kind: str, host: str) -> None:
    assert knock(net.router, kind, host, 84) == REFUSED


def test_the_other_end_of_a_translated_connection_knows_what_the_answer_is_about(net: Topology) -> None:
    """The filter saw a connection to the client; who opened it knows only the router."""
    assert knock(net.server, "tcp", ROUTER, 8080) == REFUSED


@pytest.mark.parametrize("host", [SERVER, SERVER6], ids=["v4", "v6"])
def test_what_is_accepted_gets_there(net: Topology, host: str) -> None:
    """Refused by the server's own kernel, because no program listens: its RST is part of the connection and passes."""
    assert knock(net.client, "tcp", host, 1000) == REFUSED


@pytest.mark.parametrize("host", [SERVER, SERVER6], ids=["v4", "v6"])
def test_what_is_dropped_is_not_answered(net: Topology, host: str) -> None:
    assert knock(net.client, "tcp", host, 2000) == SILENCE


def test_from_outside_nothing_gets_in(net: Topology) -> None:
    assert knock(net.server, "tcp", CLIENT6, 2000) == SILENCE

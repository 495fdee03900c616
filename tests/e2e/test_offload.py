"""Super-packets, and without them: the same bytes arrive, also when the router itself is the other end."""

import pytest

from conntrackd_py.lab.namespaces import ROUTER, ROUTER_INSIDE, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, start_servers
from tests.support.processes import start

BYTES = 20_000_000
REDIRECTED = 8099

REDIRECT = f"""
[[nat]]
in_interface = "lan0"
destination = "{ROUTER}"
proto = "tcp"
dport = {REDIRECTED}
action = "REDIRECT"
to = {EXCHANGE_PORT}
"""


def exchange(net: Topology, host: str, port: int = EXCHANGE_PORT) -> None:
    said = net.client.run(*TRAFFIC, "exchange", host, str(port), str(BYTES), timeout=60)
    assert said == f"{BYTES} bytes each way, SHA-256 equal\n"


def mean_size(router: Router) -> float:
    """Bytes a packet of the TCP connection so far, in both directions."""
    line = next(line for line in router.conntrack("-L", "-p", "tcp").splitlines() if f"dport={EXCHANGE_PORT}" in line)
    numbers = {"packets": 0, "bytes": 0}
    for word in line.split():
        name, _, value = word.partition("=")
        if name in numbers:
            numbers[name] += int(value)
    return numbers["bytes"] / numbers["packets"]


@pytest.mark.parametrize("gso", [True, False], ids=["super-packets", "segments"])
@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_a_stream_through_the_router(gso: bool, server: str) -> None:
    with Topology() as net:
        router = Router(net, CONFIG + f"\n[queue]\ngso = {str(gso).lower()}\n")
        router.start()
        router.install_rules()
        start_servers(net)
        exchange(net, server)
        assert (mean_size(router) > 1500) == gso


def test_a_stream_to_the_router_itself_by_a_translated_address() -> None:
    """Nobody cuts these before TCP reads them, so their checksums have to be whole."""
    with Topology() as net:
        router = Router(net, CONFIG + REDIRECT)
        router.start()
        router.install_rules()
        start(net.router, *TRAFFIC, "exchange-server", ROUTER_INSIDE, str(EXCHANGE_PORT))
        exchange(net, ROUTER, REDIRECTED)

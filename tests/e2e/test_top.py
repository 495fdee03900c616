"""`status` and `top` of a real daemon: their figures are those of the traffic that was made."""

import json
from typing import Any

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, SERVER6
from conntrackd_py.lab.router import DAEMON
from conntrackd_py.lab.steps import TRAFFIC, UDP_PORT
from tests.e2e.conftest import Net

SENT = 7


def asked(net: Net, *words: str) -> Any:
    return json.loads(net.inside_router.run(*DAEMON, *words, "--json", "--socket", str(net.router.socket)))


def host(frame: Any, address: str) -> Any:
    (found,) = [host for host in frame["hosts"] if host["address"] == address]
    return found


def test_the_figures_are_those_of_the_traffic(net: Net) -> None:
    before = host_or_nothing(asked(net, "top", "--once", "-i", "0.5"), CLIENT)
    for _ in range(SENT):
        net.client.run(*TRAFFIC, "udp-send", SERVER, str(UDP_PORT), "100")
    net.client.run("ping", "-c", "1", "-W", "2", SERVER6)
    frame = asked(net, "top", "--once", "-i", "0.5")
    client = host(frame, CLIENT)
    assert client["connections"] - before.get("connections", 0) == SENT
    assert client["packets"] - before.get("packets", 0) == 2 * SENT
    assert client["sent_bytes"] - before.get("sent_bytes", 0) == SENT * (100 + 28)
    assert client["received_bytes"] - before.get("received_bytes", 0) == SENT * (100 + 28)
    assert frame["states"]["udp"] == {"": SENT + before.get("connections", 0)}
    assert frame["states"]["icmpv6"][""] >= 1

    status = asked(net, "status")
    assert (status["mode"], status["pid"]) == ("nat", net.router.pid)
    assert [queue["queue"] for queue in status["queues"]] == [0, 1, 2, 3]
    assert status["queue"] == {"enobufs": 0, "verdict_errors": 0, "truncated": 0}
    assert status["nat"]["allocations"] >= SENT
    (pool,) = status["nat"]["pools"]
    udp = pool["protocols"]["udp"]
    assert pool["address"] == ROUTER
    assert (udp["connections"], udp["ports"], udp["available"]) == (client["connections"],) * 2 + (64512,)
    assert "queue 1" in net.inside_router.run(*DAEMON, "status", "--socket", str(net.router.socket))


def host_or_nothing(frame: Any, address: str) -> Any:
    return next((host for host in frame["hosts"] if host["address"] == address), {})


def test_rates_while_something_passes(net: Net) -> None:
    pinging = net.client.start("ping", "-i", "0.02", SERVER)
    frame = asked(net, "top", "--once", "-i", "1")
    pinging.terminate()
    assert host(frame, CLIENT)["packets_per_second"] > 0
    for hook in ("pre_routing", "post_routing"):
        assert frame["hooks"][hook]["packets_per_second"] > 0
        assert frame["hooks"][hook]["bytes_per_second"] > 0

"""Rules of networks and of several targets, with the running daemon and real hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, WEB_INSIDE, WEB_OUTSIDE, Router
from conntrackd_py.lab.steps import TRAFFIC, WEB_PORT, start_servers

SECOND = "192.168.77.3"  # of the client too
MAPPED = "198.18.0.2"  # the client, as the server sees it
NEUTRAL = "2001:db8:77:0:ff89::2"  # the same with NPTv6: 0x1 - 0x77
RULES = f"""
[[nat]]
action = "DNAT"
in_interface = "wan0"
destination = "{ROUTER}"
proto = "tcp"
dport = {WEB_OUTSIDE}
to = ["{CLIENT}:{WEB_INSIDE}", "{SECOND}:{WEB_INSIDE}"]
balance = "random"

[[nat]]
action = "NETMAP"
in_interface = "wan0"
destination = "198.18.0.0/24"
to = "192.168.77.0/24"

[[nat]]
action = "NETMAP"
out_interface = "wan0"
source = "192.168.77.0/24"
to = "198.18.0.0/24"

[[nat]]
action = "SNPT"
out_interface = "wan0"
source = "2001:db8:1::/64"
to = "2001:db8:77::/64"

[[nat]]
action = "DNPT"
in_interface = "wan0"
destination = "2001:db8:77::/64"
to = "2001:db8:1::/64"
"""


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as topology:
        topology.client.run("ip", "addr", "add", f"{SECOND}/24", "dev", "eth0")
        topology.server.run("ip", "route", "add", "198.18.0.0/24", "via", ROUTER)
        topology.server.run("ip", "route", "add", "2001:db8:77::/64", "via", ROUTER6)
        made = Router(topology, CONFIG.partition("[[nat]]")[0] + RULES)
        made.install_rules()
        made.start()
        start_servers(topology)
        for where, host, port, name in (
            (topology.client, SECOND, WEB_INSIDE, "the second"),
            (topology.client, CLIENT6, WEB_INSIDE, "the client"),
            (topology.server, SERVER6, WEB_PORT, "the server"),
        ):
            process = where.start(*TRAFFIC, "http", host, str(port), name, stdout=subprocess.PIPE)
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
        yield made


def outside(router: Router, url: str) -> str:
    return router.net.server.run("curl", "-sS", "--fail", "--max-time", "5", url)


@pytest.mark.parametrize(("server", "seen"), [(SERVER, MAPPED), (f"[{SERVER6}]", NEUTRAL)])
def test_a_network_is_translated_both_ways(router: Router, server: str, seen: str) -> None:
    page = router.net.client.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{server}:{WEB_PORT}/")
    assert f"You are {seen}." in page
    host = f"[{seen}]" if ":" in seen else seen
    assert "This is the client." in outside(router, f"http://{host}:{WEB_INSIDE}/")
    router.net.server.run("ping", "-c", "2", "-i", "0.2", "-W", "2", seen)
    unreachable = router.net.server.complete("curl", "-sS", "--max-time", "5", f"http://{host}:9/")
    assert "Connection refused" in unreachable.stderr or "Couldn't connect" in unreachable.stderr


def test_a_target_that_is_down_gets_no_connection(router: Router) -> None:
    url, command = f"http://{ROUTER}:{WEB_OUTSIDE}/", (*DAEMON, "targets", "--socket", str(router.socket))
    assert {outside(router, url).splitlines()[0] for _ in range(30)} == {
        f"This is {name}. You are {SERVER}." for name in ("the client", "the second")
    }
    assert f"{SECOND}:80  weight 1  down" in router.net.router.run(*command, "down", SECOND)
    assert {outside(router, url)[:18] for _ in range(15)} == {"This is the client"}
    assert f'conntrackd_py_nat_target_up{{comment="",rule="nat[0]",target="{SECOND}:80"}} 0.0' in router.metrics()
    router.net.router.run(*command, "up", SECOND)
    assert len({outside(router, url) for _ in range(30)}) == 2

"""Hairpin with the running daemon and real TCP: the server itself calls its service by the router's outer address.

The hardest case: client and server are one host, and only the router's address in between keeps both ends apart.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT6, ROUTER, ROUTER6, ROUTER6_INSIDE, ROUTER_INSIDE, Topology
from conntrackd_py.lab.router import CONFIG, WEB_INSIDE, WEB_OUTSIDE, Router
from conntrackd_py.lab.steps import TRAFFIC, start_servers

SIX = f"""
[[nat]]
in_interface = "wan0"
proto = "tcp"
dport = {WEB_OUTSIDE}
action = "DNAT"
to = "[{CLIENT6}]:{WEB_INSIDE}"
hairpin = true
"""


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as topology:
        made = Router(topology, f"{CONFIG}hairpin = true\n{SIX}")
        made.install_rules()
        made.start()
        start_servers(topology)
        six = topology.client.start(*TRAFFIC, "http", CLIENT6, str(WEB_INSIDE), "the client", stdout=subprocess.PIPE)
        assert six.stdout is not None
        assert six.stdout.readline().strip() == "ready"
        yield made


@pytest.mark.parametrize(("outer", "inner"), [(ROUTER, ROUTER_INSIDE), (f"[{ROUTER6}]", ROUTER6_INSIDE)])
def test_a_host_inside_fetches_a_page_by_the_outer_address(router: Router, outer: str, inner: str) -> None:
    page = router.net.client.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{outer}:{WEB_OUTSIDE}/")
    assert f"You are {inner}." in page.replace("::ffff:", "")
    table = router.conntrack("-L", "-p", "tcp", *(["-f", "ipv6"] if ":" in inner else []))
    assert f"dst={outer.strip('[]')}" in table
    assert "ASSURED" in table


def test_hosts_outside_are_seen_as_they_are(router: Router) -> None:
    page = router.net.server.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{ROUTER}:{WEB_OUTSIDE}/")
    assert "You are 203.0.113.80." in page.replace("::ffff:", "")

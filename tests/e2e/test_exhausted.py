"""No port is free, with the running daemon: the client's connect fails at once, and the log warned before."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, Router
from tests.support.waiting import wait_until

RULES = f"""
[[nat]]
out_interface = "wan0"
proto = ["tcp", "udp"]
action = "SNAT"
to = "{ROUTER}:5000"

[[nat]]
out_interface = "wan0"
proto = ["tcp", "udp"]
action = "SNAT"
to = "[{ROUTER6}]:5000"
"""
CALL = """
import errno, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM) as holder:
    holder.settimeout(0.2)
    try:
        holder.connect((sys.argv[1], 9))  # a port of the rule for this destination
    except OSError:
        pass
    with socket.socket(family, socket.SOCK_STREAM) as second:
        second.settimeout(2)
        try:
            second.connect((sys.argv[1], 9))
            print("connected")
        except OSError as error:
            print(errno.errorcode[error.errno] if error.errno else "timeout")
"""


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as topology:
        topology.server.run("nft", "add table inet t")
        topology.server.run("nft", "add chain inet t c { type filter hook input priority 0; }")
        topology.server.run("nft", "add rule inet t c tcp dport 9 drop")  # so that connections stay in SYN_SENT
        made = Router(topology, CONFIG.partition("[[nat]]")[0] + RULES)
        made.install_rules()
        made.start()
        yield made


def second_connect(router: Router, server: str) -> str:
    return router.net.client.run(sys.executable, "-P", "-c", CALL, server).strip()


def test_silent_then_with_an_answer(router: Router) -> None:
    """The switch works by a reload: without it the client waits."""
    assert second_connect(router, SERVER) == "timeout"
    router.config.write_text('nat_exhausted = "reject"\n' + router.config.read_text())
    router.net.router.run(*DAEMON, "reload", "--socket", str(router.socket), "-c", str(router.config))
    assert second_connect(router, SERVER) == "EHOSTUNREACH"
    assert second_connect(router, SERVER6) == "EACCES"  # ICMPv6 administratively prohibited
    assert 'reason="nat_exhausted"' in router.metrics()
    wait_until(lambda: "nat_ports_running_out" in router.said(), "no warning in the log")

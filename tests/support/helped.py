"""Two routers with the same rules and helpers: conntrackd-py, and the kernel's own tracking beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, ROUTER, ROUTER6, ROUTER_INSIDE, Namespace, Topology
from conntrackd_py.lab.router import CONNTRACK, Router
from tests.support.processes import MASQUERADE
from tests.support.waiting import wait_until

# name, protocol, port of the control connections
HELPERS = (
    ("ftp", "tcp", 21),
    ("tftp", "udp", 69),
    ("irc", "tcp", 6667),
    ("sane", "tcp", 6566),
    ("amanda", "udp", 10080),
    ("netbios-ns", "udp", 137),
    ("sip", "udp", 5060),
    ("sip", "tcp", 5060),
    ("pptp", "tcp", 1723),
)
ONLY_IPV4 = ("irc", "netbios-ns", "pptp")  # in the kernel
CONFIG = """
mode = "nat"
[metrics]
listen = ""
[control]
socket = "%s"
"""
RAW = """
[[raw]]
proto = "{1}"
dport = {2}
helper = "{0}"
"""
DNAT = """
[[nat]]
in_interface = "wan0"
destination = "{0}"
proto = "{2}"
dport = {3}
action = "DNAT"
to = "{1}"
"""
INSIDE = f"{ROUTER_INSIDE}/24"
KEPT = (0, 65535, *(port for _, _, port in HELPERS))  # ports that every run has


class Net:
    """A topology with a router, whose new expectations are recorded. keep: the kernel tracks too, beside the daemon."""

    def __init__(self, topology: Topology, *, kernel: bool, keep: bool = False) -> None:
        self.topology = topology
        self.log = topology.folder / "expected"
        topology.router.run("ip", "address", "delete", INSIDE, "dev", "lan0")
        topology.router.run("ip", "address", "add", INSIDE, "broadcast", "+", "dev", "lan0")
        self.daemon = None if kernel else _daemon(topology, keep)
        if self.daemon is None:
            words = _kernel(topology.router)
        else:
            words = (*CONNTRACK, "--socket", str(self.daemon.socket))
        with self.log.open("w") as out, (topology.folder / "problems").open("w") as problems:
            listener = topology.router.start(*words, "-E", "expect", stdout=out, stderr=problems)
        wait_until(lambda: listener.poll() is None, "no listener")

    def expected(self) -> list[str]:
        """New expectations, without times and ports that differ from run to run."""
        lines = [line for line in self.log.read_text().splitlines() if "[NEW]" in line]
        return [re.sub(r"(\[NEW\]) \d+", r"\1", re.sub(r"port=(\d+)", _port, line)) for line in lines]


def _port(found: re.Match[str]) -> str:
    return found[0] if int(found[1]) in KEPT else "port=N"


def _daemon(topology: Topology, keep: bool) -> Router:
    parts = [CONFIG, *(RAW.format(*helper) for helper in HELPERS), MASQUERADE]
    for _, proto, port in HELPERS:
        parts += [DNAT.format(ROUTER, CLIENT, proto, port), DNAT.format(ROUTER6, CLIENT6, proto, port)]
    if keep:
        parts.append('[steering]\nkernel_conntrack = "keep"\n')
    router = Router(topology, "".join(parts))
    router.install_rules()
    router.start()
    return router


def _kernel(where: Namespace) -> tuple[str, ...]:
    for program, inside in (("iptables", CLIENT), ("ip6tables", CLIENT6)):
        where.run(program, "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
        for name, proto, port in HELPERS:
            match = ("-p", proto, "--dport", str(port))
            target = ("-t", "nat", "-A", "PREROUTING", "-i", "wan0", *match, "-j", "DNAT", "--to", inside)
            where.run(program, *target)
            for chain in ("PREROUTING", "OUTPUT"):
                if name not in ONLY_IPV4 or program == "iptables":
                    where.run(program, "-t", "raw", "-A", chain, *match, "-j", "CT", "--helper", name)
    return ("conntrack",)


@contextmanager
def both() -> Iterator[tuple[Net, Net]]:
    """conntrackd-py, the kernel."""
    with Topology() as first, Topology() as second:
        yield Net(first, kernel=False), Net(second, kernel=True)


def listening(where: Namespace, port: int, option: str = "-Hltn") -> bool:
    return f":{port} " in where.run("ss", option)

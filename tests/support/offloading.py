"""A router that offloads, a client with streams through it, and what the kernel says of them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, INSIDE, INSIDE6, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, UDP_PORT, start_servers
from tests.support.both_ways import IN_AND_OUT
from tests.support.manager import Manager
from tests.support.processes import capture, start
from tests.support.waiting import wait_until

MAPS = "conntrackd_py_maps"
MEGABYTE = 1_000_000
OFFLOAD = '[offload]\nmode = "established"\npackets = 4\n'
QUICK = "[tunables]\nudp_stream_after = 0\nnf_conntrack_acct = true\n"
# Each line of the input is a number of datagrams; each is sent when the one before has been echoed.
TALK = """
import socket, sys
host, port, source = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", source))
    s.settimeout(2)
    s.connect((host, port))
    print("ready", flush=True)
    for line in sys.stdin:
        echoed = 0
        for at in range(int(line)):
            data = at.to_bytes(4, "big") * (1 + at % 300)
            try:
                s.send(data)
                echoed += s.recv(2000) == data
            except OSError as error:
                pass
        print(echoed, flush=True)
"""


class Talk:
    """A client with one UDP socket."""

    def __init__(self, net: Net, host: str, source: int) -> None:
        words = (sys.executable, "-P", "-c", TALK, host, str(UDP_PORT), str(source))
        self.process = net.client.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def send(self, count: int) -> int:
        """How many of these datagrams were echoed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        for end in (self.process.stdin, self.process.stdout):
            assert end is not None
            end.close()


class Net:
    """manager: starts the daemon and keeps what it stores."""

    def __init__(
        self,
        topology: Topology,
        program: str = "nft",
        more: str = "",
        config: str = CONFIG,
        manager: Manager | None = None,
    ) -> None:
        self.topology = topology
        self.talks: list[Talk] = []
        self.client, self.inside_router, self.outside = topology.client, topology.router, topology.server
        text = config.replace("[tunables]\nnf_conntrack_acct = true\n", QUICK)
        self.router = Router(topology, f'{text}{IN_AND_OUT}{OFFLOAD}[steering]\nprogram = "{program}"\n{more}')
        self.capture = topology.folder / "outside.pcap"
        capture(topology.server, self.capture, f"(ip net {INSIDE}) or (ip6 net {INSIDE6} and not icmp6) or arp")
        self.router.install_rules()
        self.manager = manager
        self.start()
        start_servers(topology)
        for host in (CLIENT, CLIENT6):
            start(topology.client, *TRAFFIC, "exchange-server", host, str(EXCHANGE_PORT))

    def start(self) -> str:
        """What the daemon logged until it was ready."""
        if self.manager is not None:
            return self.manager.start(self.router)
        self.router.start()
        return self.router.said()

    def kill(self) -> None:
        assert self.router.stop(signal.SIGKILL) == -signal.SIGKILL

    def stop(self) -> None:
        assert self.router.stop() == 0
        if self.manager is not None:
            self.manager.read()

    def queued(self, sent: Callable[[], object]) -> int:
        """Packets that came into a queue meanwhile."""
        before = self.last_ids()
        sent()
        return self.last_ids() - before

    def last_ids(self) -> int:
        rows = self.inside_router.run("cat", "/proc/net/netfilter/nfnetlink_queue").splitlines()
        return sum(int(row.split()[7]) for row in rows)

    def flows(self) -> int:
        """Tuples that the kernel forwards."""
        text = "".join(self.inside_router.run("nft", "list", "map", family, MAPS, "flows") for family in ("ip", "ip6"))
        return text.count("counter packets")

    def talk(self, host: str = SERVER, source: int = 6000) -> Talk:
        """A UDP stream that the kernel forwards."""
        before = self.flows()
        talk = Talk(self, host, source)
        self.talks.append(talk)
        assert talk.send(12) == 12
        wait_until(lambda: self.flows() == before + 2, "not offloaded")
        return talk

    def listed(self, source: int = 6000) -> str:
        family = ("-f", "ipv6") if source >= 6600 else ()
        lines = self.router.conntrack("-L", *family, "-p", "udp", "--orig-port-src", str(source)).splitlines()
        return lines[0] if lines else ""

    def counted(self, source: int = 6000) -> tuple[int, ...]:
        """Packets and bytes, both directions."""
        return tuple(int(number) for number in re.findall(r"(?:packets|bytes)=(\d+)", self.listed(source)))

    def exchange(self, host: str, *, port: int = EXCHANGE_PORT, megabytes: int = 50, inward: bool = False) -> None:
        amount, where = str(megabytes * MEGABYTE), self.outside if inward else self.client
        said = where.run(*TRAFFIC, "exchange", host, str(port), amount, timeout=150)
        assert said == f"{amount} bytes each way, SHA-256 equal\n"

    def exchanging(self, megabytes: int) -> subprocess.Popen[str]:
        """A TCP stream in the background, forwarded by the kernel."""
        amount, before = str(megabytes * MEGABYTE), self.flows()
        process = self.client.start(*TRAFFIC, "exchange", SERVER, str(EXCHANGE_PORT), amount, stdout=subprocess.PIPE)
        wait_until(lambda: self.flows() > before, "not offloaded")
        return process

    def close(self) -> None:
        for talk in self.talks:
            talk.close()

    def leaked(self) -> list[str]:
        self.outside.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
        self.outside.run("ip", "neigh", "flush", "all")
        self.outside.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
        wait_until(lambda: self.captured("arp") != [], "the capture is not running")
        return self.captured("not arp")

    def captured(self, expression: str) -> list[str]:
        return self.outside.run("tcpdump", "-nr", str(self.capture), expression).splitlines()

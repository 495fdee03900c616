"""The programs that are compared, each in a router of its own, and the turns they take.

Every contender that queues sees each packet twice (PREROUTING and POSTROUTING), unless its title says otherwise or, as
the daemon, it needs fewer visits.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, WEB_INSIDE, WEB_OUTSIDE, Router
from tests.bench.results import Results
from tests.support.processes import start as begin

HERE: Final = Path(__file__).parent
OUTSIDE: Final = "198.18.0.0/15"  # addresses of the server for many connections
# SOURCE BITS ADDRESS BITS of calls flood
FLOOD_FROM_INSIDE: Final = ("192.168.77.128", "6", "198.18.0.0", "16")
FLOOD_FROM_OUTSIDE: Final = ("198.18.0.0", "16", ROUTER, "0")
ATTEMPTS: Final = 3
LIMIT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_max")  # of the machine
TUNABLES: Final = "nf_conntrack_acct = false\n"

SECTIONS: Final = {
    "daemon-offload": '[offload]\nmode = "established"\n',
    "daemon-no-journal": "[journal]\nenabled = false\n",
    "daemon-nat-log": '[nat_log]\nfile = "FOLDER/nat.log"\n',
    "daemon-sync": '[sync]\nurl = "redis://127.0.0.1:6379"\nrole = "active"\n',
}
REDIS: Final = ("redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")

NOTRACK_RULES: Final = ("-t raw -A PREROUTING ! -i lo -j CT --notrack", "-t raw -A OUTPUT -j CT --notrack")
ONE_QUEUE_RULES: Final = (
    *NOTRACK_RULES,
    "-t raw -A PREROUTING ! -i lo -j NFQUEUE --queue-num 0",
    "-t mangle -A POSTROUTING ! -o lo -j NFQUEUE --queue-num 0",
)
TWO_QUEUES_RULES: Final = (
    *NOTRACK_RULES,
    "-t raw -A PREROUTING ! -i lo -j NFQUEUE --queue-num 0",
    "-t mangle -A POSTROUTING ! -o lo -j NFQUEUE --queue-num 1",
)
ONE_VISIT_RULES: Final = (
    *NOTRACK_RULES,
    "-t raw -A PREROUTING -i wan0 -j NFQUEUE --queue-num 0",
    "-t mangle -A POSTROUTING -o wan0 -j NFQUEUE --queue-num 0",
)
KERNEL_RULES: Final = (
    f"-t nat -A POSTROUTING -s {INSIDE} -o wan0 -j MASQUERADE",
    f"-t nat -A PREROUTING -i wan0 -d {ROUTER} -p tcp --dport {WEB_OUTSIDE} -j DNAT --to {CLIENT}:{WEB_INSIDE}",
)

TITLES: Final = {
    "daemon": "conntrackd-py",
    "daemon-keep": "conntrackd-py, the kernel tracks too",
    "daemon-whole": "conntrackd-py, large packets whole",
    "daemon-offload": "conntrackd-py, established connections offloaded",
    "daemon-no-journal": "conntrackd-py, without the journal",
    "daemon-nat-log": "conntrackd-py, with the NAT log",
    "daemon-sync": "conntrackd-py, publishing for a standby; Redis on the same machine",
    "kernel": "kernel masquerade, no queue",
    "route": "routing only, no queue",
    "batched": "C program that accepts and marks, in batches",
    "batched-one-visit": "the same, each packet once",
    "accept-c": "C program with libnetfilter_queue, accepts",
    "accept-py": "NetfilterQueue (Python), accepts",
    "scapy": "a NAT written with scapy",
}


@dataclass(frozen=True)
class Running:
    """A contender in its router. pid: of its process, 0 for the kernel. router: of the daemon."""

    name: str
    net: Topology
    pid: int = 0
    router: Router | None = None

    def cpu(self) -> float:
        """Seconds of CPU time that its process used."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9 if self.pid else 0.0


class Bench:
    """only: names of contenders, empty: those that a part wants."""

    def __init__(self, tools: Path, seconds: float, rounds: int, only: list[str], results: Results) -> None:
        self.tools = tools
        self.seconds = seconds
        self.rounds = rounds
        self.only = only
        self.results = results

    def build(self) -> None:
        programs = {"blast": [], "calls": [], "batched": [], "accept": ["-lnetfilter_queue"]}
        for name, libraries in programs.items():
            subprocess.run(["gcc", "-O2", "-o", self.tools / name, HERE / f"{name}.c", *libraries], check=True)

    def tool(self, name: str) -> str:
        return str(self.tools / name)

    def turns(self, part: str, *wanted: str, tunables: str = "") -> Iterator[Running]:
        """Each wanted contender in a topology of its own, `rounds` times."""
        names = [name for name in wanted if not self.only or name in self.only]
        for turn in range(self.rounds):
            for name in names:
                with self.running(name, tunables) as running:
                    yield running
                measured = self.results.parts.get(part, {}).get(name, {})
                figures = ", ".join(f"{column} {values[-1]:.4g}" for column, values in measured.items())
                print(f"{part}, round {turn + 1}: {TITLES[name]}: {figures}", flush=True)

    @contextmanager
    def running(self, name: str, tunables: str = "") -> Iterator[Running]:
        with Topology() as net:
            net.server.run("ip", "route", "add", "default", "via", ROUTER)  # so that untranslated packets are answered
            net.server.run("ip", "route", "add", "local", OUTSIDE, "dev", "lo")
            net.router.run("ip", "route", "add", OUTSIDE, "via", SERVER)
            yield self._start(name, net, tunables)

    def _start(self, name: str, net: Topology, tunables: str) -> Running:
        queued: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
            "batched": (TWO_QUEUES_RULES, (self.tool("batched"), "2")),
            "batched-one-visit": (ONE_VISIT_RULES, (self.tool("batched"), "1")),
            "accept-c": (ONE_QUEUE_RULES, (self.tool("accept"),)),
            "accept-py": (ONE_QUEUE_RULES, (sys.executable, "-P", str(HERE / "peers.py"), "accept")),
            "scapy": (
                ONE_QUEUE_RULES,
                (sys.executable, "-P", str(HERE / "peers.py"), "scapy", CLIENT, ROUTER),
            ),
        }
        if name.startswith("daemon"):
            config = CONFIG.replace("nf_conntrack_acct = true\n", TUNABLES + tunables)
            tracking = "keep" if name == "daemon-keep" else "off"
            large = "whole" if name == "daemon-whole" else "headers"
            config += f'[steering]\nkernel_conntrack = "{tracking}"\n[queue]\nlarge_packets = "{large}"\n'
            if name == "daemon-offload":
                config = config.replace(TUNABLES, f"{TUNABLES}udp_stream_after = 0\n")
            if name == "daemon-sync":
                net.router.start(*REDIS, stdout=subprocess.DEVNULL)
            router = Router(net, config + SECTIONS.get(name, "").replace("FOLDER", str(net.folder)))
            router.start()
            router.install_rules()
            return Running(name, net, router.pid, router)
        rules, command = queued.get(name, ((), ()))
        for rule in KERNEL_RULES if name == "kernel" else rules:
            net.router.run("iptables", *rule.split())
        return Running(name, net, begin(net.router, *command).pid if command else 0)


def costed(running: Running, once: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The rate that `once` measures, and the CPU time of the contender's process in us for each of what it counts.

    once: returns rate and count. It is repeated when nothing arrived.
    """
    for _ in range(ATTEMPTS):
        before = running.cpu()
        rate, count = once()
        if rate and count:
            return rate, (running.cpu() - before) * 1e6 / count
    raise SystemExit(f"scripts/bench: {TITLES[running.name]}: nothing arrived in {ATTEMPTS} measurements")


def counting(running: Running, *words: str) -> str:
    """The output of conntrack-py, or of conntrack(8) for the kernel's table."""
    return running.router.conntrack(*words) if running.router else running.net.router.run("conntrack", *words)


def kernel_room() -> int:
    """How many connections the kernel's table holds safely."""
    return int(LIMIT.read_text()) * 3 // 4 if LIMIT.exists() else 100_000


def need_root() -> None:
    if os.geteuid():
        raise SystemExit("scripts/bench: needs root for network namespaces; only --part memory does not")

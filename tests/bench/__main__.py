"""scripts/bench: what each packet costs, beside its peers, in one run.

Needs root and gcc. Client, router and server are namespaces on this machine, so sender, router and
receiver share its cores: only ratios mean anything, and only those of one run.

    UDP   a flood of small packets through source NAT: how many arrive each second
    TCP   one stream through source NAT: bits a second

Every contender that queues sees each packet twice (PREROUTING and POSTROUTING), as the daemon does, unless its name
says "one visit". Contenders take turns, several rounds; the table shows medians. A measurement in which nothing
arrived is repeated; after ATTEMPTS of them the benchmark ends with an error.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from conntrackd_py import compiled
from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, Router
from tests.support.processes import start as begin

HERE = Path(__file__).parent
PAYLOAD = 22  # bytes: a 64-byte frame
UDP_PORT, TCP_PORT = 9000, 9001

ATTEMPTS = 3

NOTRACK_RULES = ("-t raw -A PREROUTING ! -i lo -j CT --notrack", "-t raw -A OUTPUT -j CT --notrack")
ONE_QUEUE_RULES = (
    *NOTRACK_RULES,
    "-t raw -A PREROUTING ! -i lo -j NFQUEUE --queue-num 0",
    "-t mangle -A POSTROUTING ! -o lo -j NFQUEUE --queue-num 0",
)
TWO_QUEUES_RULES = (
    *NOTRACK_RULES,
    "-t raw -A PREROUTING ! -i lo -j NFQUEUE --queue-num 0",
    "-t mangle -A POSTROUTING ! -o lo -j NFQUEUE --queue-num 1",
)
ONE_VISIT_RULES = (
    *NOTRACK_RULES,
    "-t raw -A PREROUTING -i wan0 -j NFQUEUE --queue-num 0",
    "-t mangle -A POSTROUTING -o wan0 -j NFQUEUE --queue-num 0",
)
KERNEL_RULES = (f"-t nat -A POSTROUTING -s {INSIDE} -o wan0 -j MASQUERADE",)


def build(folder: Path) -> None:
    for name, libraries in (("blast", []), ("batched", []), ("accept", ["-lnetfilter_queue"])):
        subprocess.run(["gcc", "-O2", "-o", folder / name, HERE / f"{name}.c", *libraries], check=True)


class Bench:
    def __init__(self, tools: Path, seconds: float) -> None:
        self.tools = tools
        self.seconds = seconds

    def measure(self, contender: Callable[[Topology], None]) -> tuple[float, float]:
        """Packets a second and bits a second through a router of its own."""
        with Topology() as net:
            net.server.run("ip", "route", "add", "default", "via", ROUTER)  # so that untranslated packets are answered
            contender(net)
            return repeated(lambda: self.udp(net)), repeated(lambda: self.tcp(net))

    def udp(self, net: Topology) -> float:
        blast = str(self.tools / "blast")
        sink = begin(net.server, blast, "udp-sink", str(UDP_PORT), str(self.seconds + 1))
        net.client.run(
            blast, "udp-send", SERVER, str(UDP_PORT), str(self.seconds), str(PAYLOAD), timeout=self.seconds + 10
        )
        return float(sink.communicate(timeout=self.seconds + 10)[0])

    def tcp(self, net: Topology) -> float:
        """0 when no connection comes about, or when it stalls."""
        blast = str(self.tools / "blast")
        sink = begin(net.server, blast, "tcp-sink", str(TCP_PORT), str(self.seconds))
        sender = net.client.start(blast, "tcp-send", SERVER, str(TCP_PORT), str(self.seconds))
        try:
            return float(sink.communicate(timeout=self.seconds + 8)[0])
        except subprocess.TimeoutExpired:
            return 0.0
        finally:
            for process in (sink, sender):
                process.kill()
                process.wait()

    def kernel(self, net: Topology) -> None:
        for rule in KERNEL_RULES:
            net.router.run("iptables", *rule.split())

    def queued(self, rules: tuple[str, ...], *command: str) -> Callable[[Topology], None]:
        def start(net: Topology) -> None:
            for rule in rules:
                net.router.run("iptables", *rule.split())
            begin(net.router, *command)

        return start

    def daemon(self, kernel_conntrack: str, large_packets: str = "whole") -> Callable[[Topology], None]:
        def start(net: Topology) -> None:
            queue = f'[queue]\nlarge_packets = "{large_packets}"\n'
            config = CONFIG.replace("nf_conntrack_acct = true", "nf_conntrack_acct = false")
            router = Router(net, f'{config}[steering]\nkernel_conntrack = "{kernel_conntrack}"\n{queue}')
            router.start()
            router.install_rules()

        return start


def repeated(measure: Callable[[], float]) -> float:
    """The first result that is not 0."""
    for _ in range(ATTEMPTS):
        result = measure()
        if result:
            return result
    raise SystemExit(f"scripts/bench: nothing arrived in {ATTEMPTS} measurements")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement (3)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (3)")
    names = "kernel, daemon, daemon-keep, daemon-headers, daemon-headers-keep, batched, batched-one-visit, accept-c"
    names += ", accept-py, scapy"
    parser.add_argument("--only", default="", help=f"comma-separated: {names}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder)
        build(tools)
        bench = Bench(tools, args.seconds)
        batched = str(tools / "batched")
        peers = [sys.executable, "-P", str(HERE / "peers.py")]
        contenders = {
            "daemon": ("conntrackd-py", bench.daemon("off")),
            "daemon-keep": ("conntrackd-py, kernel tracks too", bench.daemon("keep")),
            "daemon-headers": ("conntrackd-py, large_packets = headers", bench.daemon("off", "headers")),
            "daemon-headers-keep": ("the same, kernel tracks too", bench.daemon("keep", "headers")),
            "batched": ("C in batches, accept only", bench.queued(TWO_QUEUES_RULES, batched, "2")),
            "batched-one-visit": ("the same, one visit", bench.queued(ONE_VISIT_RULES, batched, "1")),
            "accept-py": ("NetfilterQueue, accept only", bench.queued(ONE_QUEUE_RULES, *peers, "accept")),
            "accept-c": (
                "C libnetfilter_queue, accept only",
                bench.queued(ONE_QUEUE_RULES, str(tools / "accept")),
            ),
            "scapy": ("a NAT written with scapy", bench.queued(ONE_QUEUE_RULES, *peers, "scapy", CLIENT, ROUTER)),
            "kernel": ("kernel masquerade, no queue", bench.kernel),
        }
        wanted = args.only.split(",") if args.only else list(contenders)
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
        for number in range(args.rounds):
            for name in wanted:
                results[name].append(bench.measure(contenders[name][1]))
                pps, bps = results[name][-1]
                print(f"round {number + 1}: {contenders[name][0]}: {pps:.0f} pps, {bps / 1e9:.2f} Gbit/s", flush=True)
        report({contenders[name][0]: rounds for name, rounds in results.items()})


def report(results: dict[str, list[tuple[float, float]]]) -> None:
    medians = {
        name: (statistics.median(p for p, _ in rounds), statistics.median(b for _, b in rounds))
        for name, rounds in results.items()
    }
    ours = next(iter(medians.values()))
    print(f"\nmedians; conntrackd-py is {'compiled' if compiled else 'pure'}; ratio = conntrackd-py / the other")
    print(f"{'':36}{'kpps':>8}{'ratio':>8}{'Gbit/s':>9}{'ratio':>8}")
    for name, (pps, bps) in medians.items():
        ratios = [f"{a / b:.2f}" if b else "-" for a, b in zip(ours, (pps, bps), strict=True)]
        print(f"{name:36}{pps / 1000:8.1f}{ratios[0]:>8}{bps / 1e9:9.2f}{ratios[1]:>8}")


if __name__ == "__main__":
    main()

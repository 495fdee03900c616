"""scripts/bench listing: what a listing of a large table costs the packets, the daemon and the one who asks.

A million connections, or --count of them, through the router's source NAT. Without and with a listing,
again and again, datagrams go to the server and back, up to a thousand a second; their round trips are what is
measured, beside the same with the kernel's table and conntrack(8). All share the cores of this machine.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from conntrackd_py import compiled
from conntrackd_py.lab.namespaces import INSIDE, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, CONNTRACK, DAEMON, Router
from conntrackd_py.lab.steps import TRAFFIC
from tests.support.processes import start

TIMEOUT = 3600
ECHO_PORT = 7
FIRST_PORT = 20_000
FILLERS = 24  # source ports; each calls as many destination ports
PACE = 25_000  # new connections a second at most

FILL = """
import socket, sys, time
host, first, ports, pace = sys.argv[1], *map(int, sys.argv[2:5])
sent, began = 0, time.monotonic()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as calls:
    calls.bind(("", first))
    for port in range(1024, 1024 + ports):
        calls.sendto(b"?", (host, port))
        sent += 1
        ahead = sent / pace - (time.monotonic() - began)
        if ahead > 0.01:
            time.sleep(ahead)
"""

# Prints the round trips of a second's datagrams at a time, in microseconds, until it is stopped.
PROBE = """
import gc, socket, sys, time
gc.disable()
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.settimeout(1)
    probe.connect((host, port))
    end, trips, lost = time.monotonic() + seconds, [], 0
    while (began := time.monotonic()) < end:
        probe.send(b"?")
        try:
            probe.recv(10)
        except TimeoutError:
            lost += 1
        took = time.monotonic() - began
        trips.append(took)
        time.sleep(max(0.001 - took, 0))
    print(lost, *(round(trip * 1e6) for trip in trips))
"""


class Listing:
    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self.seconds = seconds

    def fill(self, net: Topology, counted: list[str]) -> int:
        """Make the connections; returns how many there are. counted: the command that counts them."""
        net.server.run("iptables", "-A", "INPUT", "-p", "udp", "!", "--dport", str(ECHO_PORT), "-j", "DROP")
        ports = self.count // FILLERS + 1
        for filler in range(FILLERS):
            source = str(FIRST_PORT + filler)
            net.client.run(sys.executable, "-c", FILL, SERVER, source, str(ports), str(PACE), timeout=200)
        time.sleep(2)
        return int(net.router.run(*counted))

    def probe(self, net: Topology, *listing: str) -> str:
        """The round trips while the command lists again and again, or while nothing does."""
        lister = None
        if listing:
            again = 'while :; do "$@" >/dev/null 2>&1; done'
            lister = net.router.start("sh", "-c", again, "sh", *listing)
        out = net.client.run(sys.executable, "-c", PROBE, SERVER, str(ECHO_PORT), str(self.seconds), timeout=200)
        if lister is not None:
            lister.kill()
            lister.wait()
        lost, *trips = (int(word) for word in out.split())
        cuts = statistics.quantiles(trips, n=1000)
        return f"p50 {cuts[499]:6.0f}  p99 {cuts[989]:6.0f}  p99.9 {cuts[998]:6.0f}  max {max(trips):6} us  lost {lost}"

    def once(self, net: Topology, *command: str) -> str:
        """Seconds to the first line and to the end."""
        began = time.monotonic()
        process = subprocess.Popen(
            net.router.command(*command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        first = time.monotonic() - began
        lines = 1 + sum(1 for _ in process.stdout)
        process.wait()
        return f"first line after {first * 1000:.0f} ms, {lines} lines in {time.monotonic() - began:.1f} s"

    def ours(self) -> None:
        tunables = f"nf_conntrack_udp_timeout = {TIMEOUT}\nnf_conntrack_max = {self.count * 2}\n"
        config = CONFIG.replace("nf_conntrack_acct = true\n", f"nf_conntrack_acct = true\n{tunables}")
        with Topology() as net:
            router = Router(net, config)
            router.start()
            router.install_rules()
            self.echo(net)
            command = [*CONNTRACK, "--socket", str(router.socket)]
            say(f"conntrackd-py ({'compiled' if compiled else 'pure'}): {self.fill(net, [*command, '-C'])} connections")
            before = memory(router.pid)
            say(f"  no listing              {self.probe(net)}")
            for form in ([], ["-o", "json"], ["-p", "tcp"]):
                name = " ".join(["-L", *form])
                say(f"  {name:<12} {self.once(net, *command, '-L', *form)}")
                say(f"  {name:<12} again and again {self.probe(net, *command, '-L', *form)}")
            top = [*DAEMON, "top", "--once", "--json", "--interval", "1", "--socket", str(router.socket)]
            say(f"  top          again and again {self.probe(net, *top)}")
            say(f"  memory of the daemon: {before / 1024:.0f} MB before, {memory(router.pid) / 1024:.0f} MB after")

    def kernel(self) -> None:
        with Topology() as net:
            net.router.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", INSIDE, "-o", "wan0", "-j", "MASQUERADE")
            net.router.run("sysctl", "-qw", f"net.netfilter.nf_conntrack_udp_timeout={TIMEOUT}")
            self.echo(net)
            say(f"kernel: {self.fill(net, ['conntrack', '-C'])} connections (nf_conntrack_max is the machine's)")
            say(f"  no listing              {self.probe(net)}")
            say(f"  -L           {self.once(net, 'conntrack', '-L')}")
            say(f"  -L           again and again {self.probe(net, 'conntrack', '-L')}")

    def echo(self, net: Topology) -> None:
        start(net.server, *TRAFFIC, "udp-echo", SERVER, str(ECHO_PORT))


def memory(pid: int) -> int:
    """Resident, in kB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench listing", description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="connections (a million)")
    parser.add_argument("--seconds", type=float, default=5, help="length of one measurement (5)")
    args = parser.parse_args()
    listing = Listing(args.count, args.seconds)
    listing.kernel()
    listing.ours()


if __name__ == "__main__":
    main()

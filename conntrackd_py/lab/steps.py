"""The steps of the lab. Each sends real traffic and returns a line with the result, or raises LabError."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conntrackd_py.lab.namespaces import (
    CLIENT,
    ROUTER,
    ROUTER_INSIDE,
    SERVER,
    SERVER6,
    LabError,
    Namespace,
    Topology,
)
from conntrackd_py.lab.router import WEB_INSIDE, WEB_OUTSIDE

TRAFFIC: Final = (sys.executable, "-P", "-m", "conntrackd_py.lab.traffic")
UDP_PORT: Final = 7
WEB_PORT: Final = 80
EXCHANGE_PORT: Final = 9
CLOSED_PORT: Final = 4444
BYTES: Final = 5_000_000


@dataclass(frozen=True)
class Step:
    title: str
    checks: str
    run: Callable[[Topology], str]


def start_servers(net: Topology) -> None:
    """Start all servers and wait until they listen."""
    for where, *words in (
        (net.server, "udp-echo", SERVER, str(UDP_PORT)),
        (net.server, "udp-echo", SERVER6, str(UDP_PORT)),
        (net.server, "http", SERVER, str(WEB_PORT), "the server"),
        (net.server, "exchange-server", SERVER, str(EXCHANGE_PORT)),
        (net.server, "exchange-server", SERVER6, str(EXCHANGE_PORT)),
        (net.client, "http", CLIENT, str(WEB_INSIDE), "the client"),
    ):
        process = where.start(*TRAFFIC, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said != "ready":
            raise LabError(f"{' '.join(words)}: {said or 'ended without output'}")


def ping(where: Namespace, address: str, *options: str) -> str:
    output = where.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", *options, address)
    times = re.findall(r"time=([0-9.]+ ms)", output)
    return f"{len(times)} answers, {', '.join(times)}"


def ping4(net: Topology) -> str:
    return ping(net.client, SERVER)


def ping6(net: Topology) -> str:
    return ping(net.client, SERVER6)


def udp(net: Topology) -> str:
    return net.client.run(*TRAFFIC, "udp-send", SERVER, str(UDP_PORT), "1", "1000", "20000", "60000").strip()


def udp6(net: Topology) -> str:
    return net.client.run(*TRAFFIC, "udp-send", SERVER6, str(UDP_PORT), "1", "1000", "20000").strip()


def fetch(where: Namespace, url: str) -> str:
    return where.run("curl", "-sS", "--fail", "--max-time", "10", url).strip()


def web_out(net: Topology) -> str:
    return expect(fetch(net.client, f"http://{SERVER}:{WEB_PORT}/"), f"This is the server. You are {ROUTER}.")


def web_in(net: Topology) -> str:
    return expect(fetch(net.server, f"http://{ROUTER}:{WEB_OUTSIDE}/"), f"This is the client. You are {SERVER}.")


def exchange(net: Topology) -> str:
    return net.client.run(*TRAFFIC, "exchange", SERVER, str(EXCHANGE_PORT), str(BYTES)).strip()


def traceroute(net: Topology) -> str:
    if shutil.which("traceroute") is None:
        output = net.client.run("ping", "-n", "-c", "1", "-t", "1", "-W", "2", SERVER, check=False)
        answered = re.findall(r"From (\S+)", output)
    else:
        output = net.client.run("traceroute", "-n", "-q", "1", "-w", "2", "-m", "4", SERVER)
        answered = re.findall(r"^ *\d+ +(\S+)", output, re.MULTILINE)
    if not answered or answered[0] != ROUTER_INSIDE:
        raise LabError(f"the first hop is not the router: {output.strip()}")
    return " → ".join(answered)


def closed_port(net: Topology) -> str:
    done = net.client.complete(*TRAFFIC, "udp-send", SERVER, str(CLOSED_PORT), "1")
    return expect(done.stdout.strip(), "[Errno 111] Connection refused")


def expect(got: str, wanted: str) -> str:
    if got != wanted:
        raise LabError(f"expected “{wanted}”, got “{got}”")
    return got


STEPS: Final = (
    Step("ping, IPv4", "source NAT of ICMP, both directions", ping4),
    Step("ping, IPv6", "tracked and routed, not translated", ping6),
    Step("UDP, 1 to 60,000 bytes", "fragmented datagrams arrive complete", udp),
    Step("UDP over IPv6", "the same, not translated", udp6),
    Step("web page, inside to outside", "TCP through source NAT: the server sees the router's address", web_out),
    Step("web page, outside to inside", "TCP through destination NAT to a server in the inner network", web_in),
    Step("bulk TCP, both directions at once", "every byte arrives, window tracking included", exchange),
    Step("traceroute", "ICMP errors of the router reach the client", traceroute),
    Step("a closed port", "an ICMP error that quotes a translated packet is translated back", closed_port),
)

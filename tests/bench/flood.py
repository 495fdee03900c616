"""Part flood: the goodput of an established TCP stream while others open new connections.

    syn   from outside, random sources, to a forwarded port: SYNs without an answer
    udp   from inside, through source NAT: the first packets of flows

The stream runs before, without a flood. A stream that moves before and stands still during the flood is a result.
"""

from __future__ import annotations

import time
from typing import Final

from conntrackd_py.lab.namespaces import SERVER, Namespace
from conntrackd_py.lab.router import WEB_INSIDE, WEB_OUTSIDE
from tests.bench.contenders import FLOOD_FROM_INSIDE, FLOOD_FROM_OUTSIDE, TITLES, Bench, Running, counting
from tests.bench.results import Column, Results, Table, number, plain, table
from tests.support.processes import start as begin

PART: Final = "flood"
PORT: Final = "9500"
RATE: Final = "40000"
SETTLE: Final = 0.5  # seconds
KINDS: Final = ("syn", "udp")
FLOOD_PORTS: Final = {"syn": str(WEB_OUTSIDE), "udp": "9600"}
DROPPED: Final = {"syn": ("tcp", str(WEB_INSIDE)), "udp": ("udp", "9600")}


def measure(bench: Bench) -> None:
    for running in bench.turns(PART, "daemon", "kernel", tunables="nf_conntrack_max = 2000000\n"):
        for kind in KINDS:
            for figure, value in stream(bench, running, kind).items():
                bench.results.add(PART, running.name, f"{kind} {figure}", value)


def stream(bench: Bench, running: Running, kind: str) -> dict[str, float]:
    """Gbit/s before and during the flood, and the flood's packets a second."""
    net = running.net
    attacker, victim = (net.server, net.client) if kind == "syn" else (net.client, net.server)
    proto, port = DROPPED[kind]
    victim.run("iptables", "-A", "INPUT", "-p", proto, "--dport", port, "-j", "DROP")
    before = 1 + SETTLE
    seconds = before + SETTLE + bench.seconds
    sink = begin(net.server, bench.tool("blast"), "tcp-steps", PORT, str(seconds))
    sender = net.client.start(bench.tool("blast"), "tcp-send", SERVER, PORT, str(seconds))
    time.sleep(before)
    already = int(counting(running, "-C"))
    began = time.monotonic()
    sent = flood(bench, attacker, kind, bench.seconds + SETTLE)
    ended = time.monotonic()
    sender.kill()  # a stream that stands still would not end
    sender.wait()
    sink.terminate()
    out = sink.communicate(timeout=20)[0]
    steps = [(float(at), float(total)) for at, total in (line.split() for line in out.splitlines())]
    calm = goodput(steps, began - 1, began)
    if not calm:
        raise SystemExit(f"scripts/bench: {TITLES[running.name]}: the stream did not move before the flood")
    return {
        "calm Gbit/s": calm / 1e9,
        "Gbit/s": goodput(steps, began + SETTLE, ended) / 1e9,
        "k/s": sent / (ended - began) / 1000,
        "tracked": (int(counting(running, "-C")) - already) / sent,
    }


def flood(bench: Bench, attacker: Namespace, kind: str, seconds: float) -> int:
    sources = FLOOD_FROM_OUTSIDE if kind == "syn" else FLOOD_FROM_INSIDE
    words = ("flood", kind, *sources, FLOOD_PORTS[kind], RATE, str(seconds), "0", "0")
    return int(attacker.run(bench.tool("calls"), *words, timeout=seconds + 10))


def goodput(steps: list[tuple[float, float]], start: float, end: float) -> float:
    """Bits a second between two moments."""
    before = max((total for at, total in steps if at <= start), default=0.0)
    until = max((total for at, total in steps if at <= end), default=0.0)
    return (until - before) * 8 / (end - start)


def kept(title: str, kind: str) -> Column:
    """Goodput during the flood divided by goodput before it."""

    def cell(results: Results, part: str, row: str) -> str:
        calm, now = results.median(part, row, f"{kind} calm Gbit/s"), results.median(part, row, f"{kind} Gbit/s")
        return f"{now / calm:.2f}" if calm and now is not None else "-"

    return Column(title, cell)


COLUMNS: Final = [
    Column("before, Gbit/s", lambda results, part, row: number(results.median(part, row, "syn calm Gbit/s"))),
    plain("SYNs, k/s", "syn k/s"),
    plain("tracked", "syn tracked"),
    plain("Gbit/s", "syn Gbit/s"),
    kept("kept", "syn"),
    plain("UDP flows, k/s", "udp k/s"),
    plain("tracked", "udp tracked"),
    plain("Gbit/s", "udp Gbit/s"),
    kept("kept", "udp"),
]


def tables(results: Results) -> dict[str, Table]:
    return {PART: table(results, PART, TITLES, COLUMNS, "")}

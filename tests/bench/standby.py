"""A standby of many connections: `scripts/bench standby [CONNECTIONS]`. Needs root.

Two real daemons and a real server in namespaces. The active one gets connections by an import, then the standby is
started. Afterwards the client sends the active one almost 5,000 new connections a second. Everything shares the cores
of this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from conntrackd_py.lab.router import DAEMON
from tests.support.pair import OUTSIDE, PORT, SERVER, Pair, Router, pair_of
from tests.support.processes import start_script
from tests.support.waiting import wait_until

CONNECTIONS: Final = 1_000_000
FLOOD: Final = 100_000
PATIENCE: Final = 600.0  # seconds
HEAD: Final = '{"export":{"format":"conntrackd-py connections","version":2,"written":0,"mode":"nat"}}\n'
# A UDP connection with source NAT; two numbers: the inside address and port, the outer port.
LINE: Final = (
    '{"connection":{"protonum":17,"orig":{"src":"10.%d.%d.%d","dst":"%s","sport":%d,"dport":53},'
    '"reply":{"src":"%s","dst":"%s","sport":53,"dport":%d},"timeout":100000,"age":1,'
    '"status":["SEEN_REPLY","ASSURED","CONFIRMED","SRC_NAT","SRC_NAT_DONE","DST_NAT_DONE"],'
    '"in":"lan0","out":"wan0","layout":1,"tracker":{"stream":1}}}\n'
)
BLAST: Final = """
import socket, sys, time
host, count = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(count):
    sock.sendto(b"x", (host, 1024 + number % 64000))
    if number % 64000 == 0:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if number % 500 == 0:
        time.sleep(0.1)
"""


def write_export(path: Path, connections: int) -> None:
    with path.open("w") as file:
        file.write(HEAD)
        for number in range(connections):
            host, port = divmod(number, 60_000)
            server = f"198.18.{host // 250}.{host % 250 + 1}"
            inside = (number >> 16 & 255, number >> 8 & 255, number & 255)
            file.write(LINE % (*inside, server, 5000, server, OUTSIDE, port + 2000))
        file.write(f'{{"connections":{connections}}}\n')


def memory(pid: int) -> float:
    """MB of a process, without mapped files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def pid(process: subprocess.Popen[str] | None) -> int:
    assert process is not None
    return process.pid


def prepare(pair: Pair, connections: int) -> tuple[Router, Router]:
    for router in pair.routers.values():
        text = router.config.read_text()
        router.config.write_text(f"{text}[tunables]\nnf_conntrack_max = {connections + 2 * FLOOD}\n")
    pair.start_store()
    a, b = pair.routers["a"], pair.routers["b"]
    a.start()
    assert a.ask("sync", "takeover").returncode == 0
    wait_until(a.is_active, a.said, 40)
    for network, address in (("lan", "192.168.77.1/24"), ("wan", f"{OUTSIDE}/24")):
        a.namespace.run("ip", "address", "add", address, "dev", f"{network}0")
    return a, b


def fill(router: Router, connections: int) -> None:
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        write_export(Path(file.name), connections)
        began = time.monotonic()
        words = (*DAEMON, "import", "--socket", str(router.socket), file.name)
        said = router.namespace.run(*words, timeout=PATIENCE).strip()
        print(f"import: {said} in {time.monotonic() - began:.0f} s", flush=True)


def synchronise(pair: Pair, a: Router, b: Router) -> None:
    wait_until(lambda: a.sync().get("pending") == 0, a.said, PATIENCE)
    print(f"active without a standby: {memory(pid(a.process)):.0f} MB", flush=True)
    b.start()
    began = time.monotonic()
    wait_until(b.is_synced, lambda: f"{b.sync()}", PATIENCE)
    print(f"full synchronisation: {time.monotonic() - began:.0f} s", flush=True)
    print(f"memory: active {memory(pid(a.process)):.0f} MB, standby {memory(pid(b.process)):.0f} MB", flush=True)
    info = pair.spaces["store"].run("redis-cli", "-p", str(PORT), "info", "memory")
    sizes = dict(line.split(":", 1) for line in info.split() if ":" in line)
    print(f"server: {sizes['used_memory_human']}, at most {sizes['used_memory_peak_human']}", flush=True)


def flood(pair: Pair, a: Router, b: Router) -> None:
    before, began, lags = created(a), time.monotonic(), []
    blast = start_script(pair.spaces["client"], BLAST, SERVER, str(FLOOD))
    while blast.poll() is None or created(a) != created(b):
        lags.append(b.sync().get("lag", 0.0))
        if blast.poll() is None:
            ended, made = time.monotonic(), created(a) - before
        if time.monotonic() - began > PATIENCE:
            raise RuntimeError(f"the standby does not follow: {a.sync()} {b.sync()}")
    caught = time.monotonic() - ended
    print(f"flood: {made} new connections in {ended - began:.0f} s, {made / (ended - began):.0f} a second", flush=True)
    print(f"lag: at most {max(lags):.2f} s; complete {caught:.1f} s after the flood", flush=True)


def created(router: Router) -> int:
    """Connections in its table."""
    done = router.namespace.run(*DAEMON, "status", "--json", "--socket", str(router.socket))
    return int(json.loads(done)["entries"])


def main() -> None:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    with pair_of() as pair:
        a, b = prepare(pair, connections)
        fill(a, connections)
        synchronise(pair, a, b)
        flood(pair, a, b)


if __name__ == "__main__":
    main()

"""The daemon's two servers against clients that are many, idle or rude: packets pass, who asks properly is answered."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.kernel.acceptor import RESERVE
from conntrackd_py.lab.namespaces import SERVER, Topology
from conntrackd_py.lab.router import CONNTRACK, METRICS, Router
from conntrackd_py.service.metrics.httpd import MOST
from tests.support.processes import start_script
from tests.support.waiting import wait_until

HOST, PORT = METRICS.split(":")
FOR_A_MOMENT = 1  # the daemon lists the router's sockets once a second
CROWDED = 20  # more than the descriptors that the daemon opens for a moment, to compare its rules
# Connects so often, sends the text, prints how many are connected and keeps them.
CROWD = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kind, target, count, text = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
crowd = []
for _ in range(count):
    one = socket.socket(socket.AF_UNIX if kind == "control" else socket.AF_INET)
    one.connect(target if kind == "control" else ("127.0.0.1", int(target)))
    try:
        one.sendall(text)
    except ConnectionError:
        pass
    crowd.append(one)
print("connected", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as topology:
        router = Router(topology)
        router.install_rules()
        router.start()
        yield router


def crowd(router: Router, kind: str, count: int, text: bytes = b"") -> None:
    """So many connections, which stay until the topology ends."""
    target = str(router.socket) if kind == "control" else PORT
    start_script(router.net.router, CROWD, kind, target, str(count), repr(text), says="connected")


def passes(router: Router) -> None:
    router.net.client.run("ping", "-c", "3", "-i", "0.2", "-W", "2", SERVER)


THREADS = 3  # the loop, and those that compare and install the steering rules; none for a client


def entries(router: Router, folder: str) -> int:
    return len(list(Path(f"/proc/{router.pid}/{folder}").iterdir()))


def refused(router: Router) -> list[dict[str, object]]:
    """What the log has of refusals."""
    lines = [json.loads(line) for line in router.said().splitlines()]
    return [line for line in lines if line["event"] == "connection_refused"]


@pytest.mark.parametrize("text", [b"", b"GET /metrics HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\nA: " + b"x" * 60_000])
def test_a_crowd_at_the_metrics_keeps_no_scrape_out(router: Router, text: bytes) -> None:
    before = entries(router, "fd")
    crowd(router, "metrics", 800, text)
    assert "conntrackd_py_entries_limit" in router.metrics()
    passes(router)
    assert entries(router, "task") <= THREADS
    assert entries(router, "fd") <= before + MOST + FOR_A_MOMENT
    assert len([line for line in refused(router) if line["server"] == "metrics"]) <= 1


def test_a_crowd_at_the_control_socket_gets_an_error(router: Router) -> None:
    crowd(router, "control", 300)
    passes(router)
    done = router.net.router.complete(*CONNTRACK, "-C", "--socket", str(router.socket))
    assert (done.returncode, done.stderr.split(": ", 1)[1]) == (1, "too many clients (64 at most)\n")
    assert len([line for line in refused(router) if line["server"] == "control"]) <= 1
    assert 'connections_refused_total{cause="connections",server="control"} 2' in router.metrics()


def test_the_last_descriptors_are_kept_and_their_want_is_survived() -> None:
    with Topology() as topology:
        router = Router(topology)
        router.install_rules()
        router.start()
        used, before = entries(router, "fd"), resource.prlimit(router.pid, resource.RLIMIT_NOFILE)
        try:
            for limit in (used + RESERVE, 0):  # first only the reserve is left, then nothing
                resource.prlimit(router.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
                crowd(router, "control", CROWDED)
                crowd(router, "metrics", CROWDED)
                passes(router)
                _until(router, {"descriptors"} if limit > used else {"descriptors", "accept"})
        finally:
            resource.prlimit(router.pid, resource.RLIMIT_NOFILE, before)
        assert router.conntrack("-C")
        assert "conntrackd_py_entries_limit" in router.metrics()
        assert len(router.said().splitlines()) < 20
        assert entries(router, "task") <= THREADS


def _until(router: Router, causes: set[str]) -> None:
    """Both servers have logged refusals for these causes, each once."""
    wanted = sorted((server, cause) for server in ("control", "metrics") for cause in causes)

    def found() -> list[tuple[str, str]]:
        return sorted((str(line["server"]), str(line["cause"])) for line in refused(router))

    wait_until(lambda: found() == wanted, lambda: f"{found()}")

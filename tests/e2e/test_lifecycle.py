"""`conntrack-py -E` during one web page: the event log of seed 002, line for line, to its end two minutes later."""

import re

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONNTRACK, Router
from tests.support import listeners
from tests.support.processes import start_script
from tests.support.waiting import wait_until

PORT = 8000
TIME_WAIT = 120  # s

# The server answers and closes when the client has: its FIN carries the acknowledgement of the client's.
SERVE = f"""
import socket
listener = socket.create_server(("{SERVER}", {PORT}))
print("ready", flush=True)
peer, _ = listener.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
request = peer.recv(4096)
assert request.startswith(b"GET / "), request
peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
assert peer.recv(1) == b""
peer.close()
"""
FETCH = f"""
import http.client
connection = http.client.HTTPConnection("{SERVER}", {PORT}, timeout=5)
connection.request("GET", "/")
assert connection.getresponse().read() == b"hello"
connection.close()
"""

TUPLES = f"src={CLIENT} dst={SERVER} sport=N dport={PORT} {{}}src={SERVER} dst={ROUTER} sport={PORT} dport=N"
UNREPLIED, REPLIED = TUPLES.format("[UNREPLIED] "), TUPLES.format("")
LOG = [
    f"    [NEW] tcp      6 120 SYN_SENT {UNREPLIED}",
    f" [UPDATE] tcp      6 60 SYN_RECV {REPLIED}",
    f" [UPDATE] tcp      6 432000 ESTABLISHED {REPLIED} [ASSURED]",
    f" [UPDATE] tcp      6 120 FIN_WAIT {REPLIED} [ASSURED]",
    f" [UPDATE] tcp      6 30 LAST_ACK {REPLIED} [ASSURED]",
    f" [UPDATE] tcp      6 120 TIME_WAIT {REPLIED} [ASSURED]",
    f"[DESTROY] tcp      6 TIME_WAIT {REPLIED} [ASSURED]",
]


@pytest.mark.root
def test_the_life_of_a_connection() -> None:
    with Topology() as net:
        router = Router(net)
        router.start()
        router.install_rules()
        events = net.folder / "events"
        with events.open("w") as output:
            watch = (*CONNTRACK, "--socket", str(router.socket), "-E", "-p", "tcp", "--dport", str(PORT))
            net.router.start(*watch, stdout=output)
            start_script(net.server, SERVE)
            listeners.wait_for_daemon(router.socket)
            net.client.run("/usr/bin/python3", "-c", FETCH)
            wait_until(lambda: "[DESTROY]" in events.read_text(), events.read_text, TIME_WAIT + 10)
            seen = events.read_text()
    # The counters that a DESTROY brings with accounting on are no part of the seed's log.
    lines = re.sub(r" (packets|bytes)=\d+", "", seen).splitlines()
    assert [re.sub(rf"port=(?!{PORT}\b)\d+", "port=N", line) for line in lines] == LOG

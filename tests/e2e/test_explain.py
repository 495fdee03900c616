"""A refused packet is named by the running daemon: in `explain --recent`, in its log and in its metrics."""

import json
import re
import sys

from conntrackd_py.lab.namespaces import CLIENT, SERVER
from conntrackd_py.lab.router import DAEMON
from tests.e2e.conftest import Net

# A SYN+ACK without a SYN, and a TCP segment with an impossible set of flags; both with right checksums.
SENDER = """
import socket, sys
sys.path.append(sys.argv[1])  # behind the installed package
from tests.support import packets
source, target = sys.argv[2:]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for flags in ("SA", "SF"):
        raw.sendto(packets.tcp(source, target, 4444, 80, flags, seq=1, ack=1), (target, 0))
"""


def test_a_refused_packet_is_named_everywhere(net: Net) -> None:
    root = __file__.removesuffix("/tests/e2e/test_explain.py")
    net.client.run(sys.executable, "-c", SENDER, root, CLIENT, SERVER)
    net.client.run("ping", "-c", "1", "-W", "2", SERVER)
    asked = (*DAEMON, "explain", "--recent", "--socket", str(net.router.socket))
    notes = [json.loads(line) for line in net.inside_router.run(*asked, "--json").splitlines()]
    said = {note["reason"]: note["why"] for note in notes}
    assert said["tcp_flags"] == "INVALID: no TCP sends the flags [FS] together"
    assert said["tcp_state"] == "INVALID: SYN+ACK cannot start a connection and belongs to none"
    assert f"tcp {CLIENT}:4444 > {SERVER}:80 [S.] seq 1 ack 1" in net.inside_router.run(*asked)
    metrics = net.router.metrics()
    assert re.search(r'^conntrackd_py_invalid_total\{reason="tcp_flags"\} 1', metrics, re.MULTILINE)
    assert re.search(r"^conntrackd_py_one_sided_flows_total 1", metrics, re.MULTILINE)
    assert "no TCP sends the flags [FS] together" in net.router.said()

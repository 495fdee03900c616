"""Connections made by hand, in the kernel's table with conntrack(8) and in ours: packets find them alike.

Whatever state and status the maker gave them, the trackers go on from there, packet by packet as the kernel.
"""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from msgspec import convert

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.control.protocol.requests import NewConnection
from conntrackd_py.control.spec import change_of, wanted
from conntrackd_py.engine.change import DONE
from tests.oracle import sctp_talk, tcp_talk
from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE, kernel
from tests.oracle.twin import CONVERSATIONS, SEED, Step, Twin
from tests.support import packets

STATES = ("SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE")
SCTP_STATES = ("COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT")
STATUSES = ((), ("SEEN_REPLY",), ("SEEN_REPLY", "ASSURED"), ("FIXED_TIMEOUT",), ("ASSURED",))
Talks = Callable[[random.Random, int], tuple[dict[str, object], Iterator[Step]]]


def tcp(dice: random.Random, number: int) -> tuple[dict[str, object], Iterator[Step]]:
    talk = tcp_talk.Talk(dice, number, dice.choice((4, 6)))
    spec = ends(6, talk.client.address, talk.server.address, talk.client.port, talk.server.port)
    return spec | {"state": dice.choice(STATES)}, talk.steps()


def udp(dice: random.Random, number: int) -> tuple[dict[str, object], Iterator[Step]]:
    client, server = f"192.168.{number >> 8}.{number & 255}", "198.51.100.2"
    there = Step("client: hello", CLIENT_SIDE, packets.udp(client, server, 5000, 53, b"hello"))
    back = Step("server: hello", SERVER_SIDE, packets.udp(server, client, 53, 5000, b"hello"))
    return ends(17, client, server, 5000, 53), iter(dice.choices((there, back), k=6))


def sctp(dice: random.Random, number: int) -> tuple[dict[str, object], Iterator[Step]]:
    talk = sctp_talk.Talk(dice, number, 4)
    client, server = CLIENT_SIDE, SERVER_SIDE
    spec = ends(132, talk.address[client], talk.address[server], talk.port[client], talk.port[server])
    tags = {"orig_vtag": talk.tag[server], "reply_vtag": talk.tag[client]} if dice.random() < 0.7 else {"orig_vtag": 7}
    return {**spec, "reply_vtag": 0, **tags, "state": dice.choice(SCTP_STATES)}, talk.steps()


def ends(proto: int, src: str, dst: str, sport: int, dport: int) -> dict[str, object]:
    return {"proto": proto, "src": src, "dst": dst, "sport": sport, "dport": dport}


OPTIONS = {
    "proto": "-p",
    "src": "-s",
    "dst": "-d",
    "sport": "--sport",
    "dport": "--dport",
    "state": "--state",
    "timeout": "-t",
    "orig_vtag": "--orig-vtag",
    "reply_vtag": "--reply-vtag",
}


def create(twin: Twin, spec: dict[str, object], status: tuple[str, ...]) -> None:
    given = {key: socket.htonl(int(str(value))) if "vtag" in key else value for key, value in spec.items()}
    words = [word for key, option in OPTIONS.items() if key in given for word in (option, str(given[key]))]
    command = ["ip", "netns", "exec", twin.kernel.name, "conntrack", "-I", *words]
    subprocess.run([*command, *(["-u", ",".join(status)] if status else [])], check=True, capture_output=True)
    now = time.monotonic_ns() // 1_000_000
    made = convert(spec | {"status": list(status)}, NewConnection)
    tuples = wanted(made)
    l4proto = twin.engine.core.protos[tuples.original[-1]]
    ct = NfConn(tuples.original, tuples.reply, l4proto, now)
    change = change_of(made, l4proto)
    assert twin.engine.create(ct, change, None, None, now) == DONE


@pytest.mark.parametrize("talks", [tcp, udp, sctp])
def test_packets_of_connections_made_by_hand(talks: Talks) -> None:
    with kernel(nf_conntrack_acct=1) as oracle:
        twin = Twin(oracle)
        for number in range(CONVERSATIONS // 2):
            dice = random.Random(f"{SEED}/{talks.__name__}/{number}")
            spec, steps = talks(dice, number)
            status = dice.choice(STATUSES)
            spec["timeout"] = dice.choice((10, 100, 432000))
            twin.start()
            create(twin, spec, status)
            for step in steps:
                assert twin.step(step), f"seed {SEED}/{number}, made by hand: {spec} {status}\n{twin.transcript()}"

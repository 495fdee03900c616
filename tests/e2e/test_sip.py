"""SIP conversations and real calls: through conntrackd-py and through the kernel's own helper."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import DEVNULL

import pytest

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, ROUTER, ROUTER6, SERVER, SERVER6
from tests.support import helped
from tests.support.helped import Net, listening
from tests.support.processes import start_script
from tests.support.waiting import wait_until

SECOND = "192.168.77.3"
# One end of a conversation: sends its own steps and prints what it receives.
END = """
import json, socket, sys
role, transport, host, steps = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
one = socket.socket(family, kind)
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
one.bind(("", 5060))
one.settimeout(10)
if role == "server":
    if transport == "tcp":
        one.listen()
    print("ready", flush=True)
    if transport == "tcp":
        one, _ = one.accept()
else:
    one.connect((host, 5060))
for who, text in steps:
    if who == role:
        one.send(text.encode())
    elif role == "server" and transport == "udp":
        data, sender = one.recvfrom(65535)
        one.connect(sender[:2])
        print(data)
        one.send(b"\\r\\n\\r\\n")
    else:
        print(one.recv(65535))
        one.send(b"\\r\\n\\r\\n")
    if who == role:
        one.recv(4)
one.close()
"""


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Net, Net]]:
    with helped.both() as nets:
        yield nets


def at(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def text_of(first: str, headers: list[str], body: list[str]) -> str:
    content = "".join(f"{line}\r\n" for line in body)
    return "\r\n".join([first, *headers, f"Content-Length: {len(content)}", "", content])


def body_of(address: str, port: int) -> list[str]:
    kind = "IN IP6" if ":" in address else "IN IP4"
    return [
        "v=0",
        f"o=- 1 1 {kind} {address}",
        f"c={kind} {address}",
        f"m=audio {port} RTP/AVP 0",
        f"m=video {port + 10} RTP/AVP 31",
        f"c={kind} {address}",
        f"m=image {port + 21} udptl t38",
        "m=audio 0 RTP/AVP 0",
    ]


def conversation(transport: str, mine: str, theirs: str, seen: str, to: str) -> list[tuple[str, str]]:
    """mine, theirs: the addresses of the ends; to: what the client calls; seen: whom the server answers."""
    via = f"Via: SIP/2.0/{transport.upper()} {at(mine)}:5060;branch=z9;rport;maddr={at(mine)}"
    back = f"v: SIP/2.0/{transport.upper()} {at(seen)}:5060;branch=z9;received={seen};rport=5060"
    ends = [f"From: <sip:bob@{at(mine)}:5060>;tag=1", f"To: <sip:alice@{at(to)}:5060>"]
    answered = [back, f"f: <sip:bob@{at(seen)}:5060>;tag=1", f"t: <sip:alice@{at(theirs)}:5060>"]

    def request(method: str, number: int, body: list[str], *more: str) -> tuple[str, str]:
        headers = [via, *ends, f"Contact: <sip:bob@{at(mine)}:5060>;expires=60", f"CSeq: {number} {method}", *more]
        return "client", text_of(f"{method} sip:alice@{at(to)}:5060 SIP/2.0", headers, body)

    def answer(code: str, number: str, contact: str, body: list[str]) -> tuple[str, str]:
        headers = [*answered, f"m: <sip:x@{at(contact)}:5060>;expires=60", f"CSeq: {number}"]
        return "server", text_of(f"SIP/2.0 {code}", headers, body)

    return [
        request("REGISTER", 1, [], "Expires: 30"),
        answer("200 OK", "1 REGISTER", seen, []),
        request("INVITE", 2, body_of(mine, 6000)),
        answer("100 Trying", "2 INVITE", theirs, []),
        answer("183 Progress", "2 INVITE", theirs, body_of(theirs, 7000)),
        request("PRACK", 3, []),
        request("UPDATE", 4, body_of(mine, 6100)),
        answer("200 OK", "4 UPDATE", theirs, body_of(theirs, 7100)),
        request("OPTIONS", 5, []),
        request("BYE", 6, []),
        answer("200 OK", "6 BYE", theirs, []),
        request("INVITE", 7, body_of(mine, 6200)),
        request("CANCEL", 7, []),
        answer("487 Request Terminated", "7 INVITE", theirs, []),
    ]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("role", ["source", "destination"])
def test_a_conversation(both: tuple[Net, Net], role: str, transport: str, family: int) -> None:
    """What each end reads, and what is expected."""
    inside, router, outside = (CLIENT, ROUTER, SERVER) if family == 4 else (CLIENT6, ROUTER6, SERVER6)
    if role == "source":
        mine, theirs, seen, to = inside, outside, router, outside
    else:
        mine, theirs, seen, to = outside, inside, outside, router
    steps = json.dumps(conversation(transport, mine, theirs, seen, to))
    read, expected = [], []
    for net in both:
        before = len(net.expected())
        ends = (net.topology.client, net.topology.server)
        caller, called = ends if role == "source" else ends[::-1]
        server = start_script(called, END, "server", transport, "::" if family == 6 else "0.0.0.0", steps)
        read.append([caller.run(sys.executable, "-c", END, "client", transport, to, steps, timeout=30)])
        assert server.stdout is not None
        read[-1].append(server.stdout.read())
        wait_until(partial(_count, net, before), f"{net.log.read_text()}")
        expected.append(net.expected()[before:])
    assert read[0] == read[1]
    assert read[0][0].count("SIP/2.0 ") == 6
    assert expected[0] == expected[1]


def _count(net: Net, before: int) -> bool:
    """All expectations of the conversation: the registration, and three times two media of each side."""
    return len(net.expected()) - before >= 1 + 6 * 5


# Sends media to where a call announced them, and prints who echoes what.
MEDIA = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("", 7100))
one.settimeout(10)
for port in sys.argv[2:]:
    one.sendto(b"voice", (sys.argv[1], int(port)))
    print(one.recvfrom(100))
"""


@pytest.fixture
def fresh() -> Iterator[tuple[Net, Net]]:
    """Without connections of former tests."""
    with helped.both() as nets:
        yield nets


def test_calls_of_real_agents(fresh: tuple[Net, Net]) -> None:
    """Two callers with equal ports behind one address. The server sends first; both ends hear each other.

    The kernel drops the call of the second one: the media port is taken outside.
    """
    for net, callers in zip(fresh, ((CLIENT, SECOND), (CLIENT,)), strict=True):
        ports = [str(6000 + 2 * number) for number in range(len(callers))]
        caller, called = net.topology.client, net.topology.server
        caller.run("ip", "address", "add", f"{SECOND}/24", "dev", "eth0")
        log = net.topology.folder / "messages"
        common = ("-nostdin", "-p", "5060", "-trace_msg")
        listener = ("-sn", "uas", "-i", SERVER, "-mi", SERVER, "-mp", "7000", "-message_file", str(log))
        called.start("sipp", *common, *listener, stdout=DEVNULL)
        wait_until(partial(listening, called, 5060, "-Hlun"), "no agent")
        for number, source in enumerate(callers):
            media = ("-mi", source, "-mp", "6000", "-rtp_echo")
            options = ("-sn", "uac", "-i", source, *media, "-m", "1", "-d", "60000", "-nostdin")
            caller.start("sipp", *options, "-p", "5060", SERVER, stdout=DEVNULL)
            wait_until(partial(_calls, log, number + 1), "no call")
        said = called.run(sys.executable, "-c", MEDIA, ROUTER, *ports).splitlines()
        assert said == [f"(b'voice', ('{ROUTER}', {port}))" for port in ports]
        announced = [line for line in log.read_text().splitlines() if line.startswith(("c=", "m="))]
        assert [line for line in announced if "600" in line] == [f"m=audio {port} RTP/AVP 0" for port in ports]
        assert {line for line in announced if line[0] == "c"} == {f"c=IN IP4 {end}" for end in (ROUTER, SERVER)}


def _calls(log: Path, count: int) -> bool:
    return log.exists() and log.read_text().count("ACK sip") >= count

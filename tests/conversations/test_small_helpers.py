"""SANE and Amanda: the server names ports of its own, through NAT in both roles."""

import re

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED, IPPROTO_TCP, IPPROTO_UDP, IPS_EXPECTED
from conntrackd_py.helpers.amanda import Amanda
from conntrackd_py.helpers.sane import Sane
from conntrackd_py.nat.rules import NatRule
from tests.support.control import Stream, assigned, expected, shown
from tests.support.play import CLIENT, NEIGHBOUR, OTHER, ROUTER, SERVER, Play, accept, tcp, udp
from tests.support.rules import forward, masquerade

SANE, AMANDA = 6566, 10080
HOSTS = ((1, CLIENT), (2, NEIGHBOUR))
START = b"\0\0\0\7\0\0\0\1"
PORT = b"\0\0\0\0\0\0\x30\x39more"  # 12345
REPLY = b"Amanda 2.6 REP\nCONNECT DATA 50001 MESG 50002 INDEX 50003\nOPTIONS ;\n"


def sane(family: int, rules: list[NatRule] | None = None) -> Play:
    return Play(family, rules, raw_rules=assigned("sane", SANE), helpers=(Sane,))


def amanda(family: int, rules: list[NatRule] | None = None) -> Play:
    return Play(family, rules, raw_rules=assigned("amanda", AMANDA, protonum=IPPROTO_UDP), helpers=(Amanda,))


def test_sane(family: int) -> None:
    play = sane(family, [masquerade()])
    stream = Stream(play, CLIENT, SERVER, SANE, as_seen=ROUTER).open()
    stream.says(CLIENT, START)
    assert stream.says(SERVER, PORT) == PORT
    assert play >> tcp(CLIENT, SERVER, "S", dport=12345) << accept(IP_CT_RELATED, src=ROUTER, status=IPS_EXPECTED)


def test_sane_behind_a_router(family: int) -> None:
    play = sane(family, [masquerade(), forward(family, (SANE, SANE), protonum=IPPROTO_TCP)])
    stream = Stream(play, SERVER, CLIENT, SANE, at=ROUTER, as_seen=SERVER).open()
    stream.says(SERVER, START)
    assert stream.says(CLIENT, PORT) == PORT
    assert play >> tcp(SERVER, ROUTER, "S", dport=12345) << accept(IP_CT_RELATED, dst=CLIENT, dport=12345)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"\0\0\0\6\0\0\0\1", PORT),
        (START, b"\0\0\0\1\0\0\x30\x39"),
        (START, b"\0\0\0\0\0\1\x30\x39"),
        (START, b"\0\0\0\0\0\0\0\0"),
        (START, b"\0\0\0\0\0\0\x30"),
        (START + b"x", PORT),
    ],
)
def test_sane_without_a_start(family: int, request_: bytes, answer: bytes) -> None:
    play = sane(family)
    stream = Stream(play, CLIENT, SERVER, SANE).open()
    stream.says(CLIENT, request_)
    stream.says(SERVER, answer)
    assert expected(play) == []


def test_only_the_next_answer_counts(family: int) -> None:
    play = sane(family)
    stream = Stream(play, CLIENT, SERVER, SANE).open()
    stream.says(CLIENT, START)
    stream.says(SERVER, b"\0\0\0\1\0\0\x30\x39")
    stream.says(SERVER, PORT)
    assert expected(play) == []


def test_amanda(family: int) -> None:
    """Three TCP connections to the host that answered; the control connection stays for 300 s."""
    play = amanda(family, [masquerade()])
    assert play >> udp(CLIENT, SERVER, b"Amanda 2.6 REQ\n", dport=AMANDA) << accept(timeout=30)
    assert play >> udp(SERVER, ROUTER, REPLY, sport=AMANDA) << accept(IP_CT_ESTABLISHED_REPLY, timeout=300)
    assert play.left.endswith(REPLY)
    assert [shown(known)[2] for known in expected(play)] == [50001, 50002, 50003]
    assert play >> tcp(OTHER, SERVER, "S", dport=50002) << accept()
    assert play >> tcp(CLIENT, SERVER, "S", dport=50002) << accept(IP_CT_RELATED, src=ROUTER, status=IPS_EXPECTED)


def test_amanda_behind_a_router(family: int) -> None:
    """Two hosts inside name the same ports to one peer: it reads others for the second, which lead to that host."""
    rules = [masquerade()]
    rules += [forward(family, (port, port), AMANDA, host=host) for port, host in HOSTS]
    play = Play(family, rules, raw_rules=assigned("amanda", 1, 2, protonum=IPPROTO_UDP), helpers=(Amanda,))
    read: list[list[int]] = []
    for port, host in HOSTS:
        assert play >> udp(SERVER, ROUTER, b"Amanda 2.6 REQ\n", dport=port) << accept(dst=host)
        for _ in range(2):  # a repeated answer is changed to the same bytes
            assert play >> udp(host, SERVER, REPLY, sport=AMANDA, dport=SERVER.port) << accept(src=ROUTER, sport=port)
            read.append([int(one) for one in re.findall(rb"[A-Z]+ (\d{4,5})", play.left)])
    assert read[0] == read[1] == [50001, 50002, 50003]
    assert read[2] == read[3]
    assert not set(read[2]) & set(read[0])
    for ports, host in ((read[0], CLIENT), (read[2], NEIGHBOUR)):
        for outer, inner in zip(ports, (50001, 50002, 50003), strict=True):
            syn = tcp(SERVER, ROUTER, "S", dport=outer, sport=outer)
            assert play >> syn << accept(IP_CT_RELATED, dst=host, dport=inner)


def test_a_repeated_answer_of_sane(family: int) -> None:
    """The port outside is taken, so the answer changes: the same way again."""
    rules = [masquerade(), *(forward(family, (port, port), SANE, protonum=6, host=host) for port, host in HOSTS)]
    play = Play(family, rules, raw_rules=assigned("sane", 1, 2), helpers=(Sane,))
    for port, host in HOSTS:
        stream = Stream(play, SERVER, host, port, at=ROUTER, as_seen=SERVER, inner_port=SANE).open()
        stream.says(SERVER, START)
        at = stream.seq[host.name]
        first = stream.says(host, PORT)
        assert play >> stream.segment(host, "PA", PORT, seq=at) << accept()
        assert stream.seen(SERVER) == first
    assert first != PORT


@pytest.mark.parametrize(
    "answer",
    [
        b"CONNECT DATA 50001",
        b"DATA 50001\n",
        b"CONNECT DATA 0\n",
        b"CONNECT DATA 65536\n",
        b"CONNECT DATA 000001\n",
        b"CONNECT DATA x\n",
        b"CONNECT \nDATA 50001\n",
    ],
)
def test_amanda_without_ports(family: int, answer: bytes) -> None:
    play = amanda(family)
    assert play >> udp(CLIENT, SERVER, REPLY, dport=AMANDA) << accept()
    assert play >> udp(SERVER, CLIENT, answer, sport=AMANDA) << accept()
    assert expected(play) == []

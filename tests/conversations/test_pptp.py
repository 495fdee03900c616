"""PPTP: the GRE packets of a call, by call ids that NAT translates. IPv4 only."""

from __future__ import annotations

import struct

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IPPROTO_TCP,
    IPS_EXPECTED,
)
from conntrackd_py.helpers import pptp
from conntrackd_py.helpers.pptp import Pptp
from conntrackd_py.nat.rules import NatRule
from tests.support import packets
from tests.support.control import Stream, assigned, expected
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    ROUTER,
    SERVER,
    Host,
    Play,
    Said,
    accept,
    raw,
    restart,
)
from tests.support.rules import forward, masquerade

PPTP = 1723
MINE, THEIRS = 7, 9  # call ids of client and server


def message(kind: int, *numbers: int, more: bytes = b"") -> bytes:
    """numbers: the first words of the body."""
    body = b"".join([struct.pack(">H", number) for number in numbers]) + more
    body = body.ljust(pptp.LENGTHS[kind], b"\0")
    return struct.pack(">HHIHH", pptp.BODY_AT + len(body), pptp.CONTROL, pptp.COOKIE, kind, 0) + body


def numbers(payload: bytes) -> tuple[int, int]:
    """The first two words of the body."""
    first, second = struct.unpack(">HH", payload[pptp.BODY_AT : pptp.BODY_AT + 4])
    return first, second


def gre(sender: Host, receiver: Host, call: int) -> Said:
    body = struct.pack(">HHHHI", 0x3001, 0x880B, 4, call, 1) + b"\xff\x03\0\x21"
    return raw(sender, packets.ip(sender.v4, receiver.v4, 47, body), f"gre {sender.name} > {receiver.name} {call}")


def call_of(play: Play) -> int:
    """The call id of the GRE packet that left."""
    return int.from_bytes(play.left[26:28], "big")


def play_of(rules: list[NatRule] | None = None) -> Play:
    return Play(4, rules, raw_rules=assigned("pptp", PPTP), helpers=(Pptp,))


def started(play: Play, client: Host = CLIENT, **ends: Host) -> Stream:
    """A control connection that the server has accepted."""
    stream = Stream(play, client, ends.pop("server", SERVER), PPTP, **ends).open()  # type: ignore[arg-type]
    stream.says(client, message(1, 0x100))
    stream.says(stream.server, message(2, 0x100, 0x100))
    return stream


def called(stream: Stream, mine: int = MINE, theirs: int = THEIRS) -> int:
    """The client calls; the call id that the server reads."""
    outer, _ = numbers(stream.says(stream.client, message(pptp.OUT_REQUEST, mine, 1)))
    seen = stream.says(stream.server, message(pptp.OUT_REPLY, theirs, outer, 0x100))
    assert numbers(seen) == (theirs, mine)
    return outer


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_call_without_nat(first: str) -> None:
    play = play_of()
    assert called(started(play)) == MINE
    assert len(expected(play)) == 2
    there, back = gre(CLIENT, SERVER, THEIRS), gre(SERVER, CLIENT, MINE)
    one, two = (there, back) if first == "client" else (back, there)
    assert (
        play
        >> one
        << accept(IP_CT_RELATED, status=IPS_EXPECTED, timeout=600)
        >> two
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> one
        << accept(IP_CT_ESTABLISHED, timeout=18000)
    )
    assert expected(play) == []
    assert play >> gre(CLIENT, SERVER, THEIRS + 1) << accept(IP_CT_NEW)


@pytest.mark.parametrize("first", ["client", "server"])
def test_two_clients_with_the_same_call_id(first: str) -> None:
    """Each learns its own id, the server two different ones."""
    play = play_of([masquerade()])
    outer = []
    for client, theirs in ((CLIENT, 9), (NEIGHBOUR, 10)):
        stream = started(play, client, as_seen=ROUTER)
        outer.append(called(stream, theirs=theirs))
        assert outer[-1] == stream.port_seen
    assert outer[0] != outer[1]
    for client, theirs, number in ((CLIENT, 9, outer[0]), (NEIGHBOUR, 10, outer[1])):
        there, back = gre(client, SERVER, theirs), gre(SERVER, ROUTER, number)
        for said in (there, back) if first == "client" else (back, there):
            assert play >> said << accept()
        assert play >> there << accept(src=ROUTER)
        assert call_of(play) == theirs
        assert play >> back << accept(dst=client)
        assert call_of(play) == MINE


def test_a_server_behind_a_router() -> None:
    play = play_of([masquerade(), forward(4, (PPTP, PPTP), protonum=IPPROTO_TCP)])
    stream = started(play, SERVER, server=CLIENT, at=ROUTER, as_seen=SERVER)
    outer = called(stream)
    assert play >> gre(SERVER, ROUTER, THEIRS) << accept(IP_CT_RELATED, dst=CLIENT)
    assert call_of(play) == THEIRS
    assert play >> gre(CLIENT, SERVER, outer) << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER)
    assert call_of(play) == MINE


def test_several_calls_of_one_control_connection() -> None:
    play = play_of([masquerade()])
    stream = started(play, as_seen=ROUTER)
    outer = []
    for mine, theirs in ((7, 9), (8, 10), (9, 11)):
        outer.append(called(stream, mine, theirs))
        assert play >> gre(CLIENT, SERVER, theirs) << accept(IP_CT_RELATED, src=ROUTER)
    assert len(set(outer)) == 3
    assert called(stream, 7, 9) == outer[0]
    for mine, number in ((7, outer[0]), (8, outer[1]), (9, outer[2])):
        assert play >> gre(SERVER, ROUTER, number) << accept(dst=CLIENT)
        assert call_of(play) == mine


def test_other_messages_about_a_call() -> None:
    play = play_of([masquerade()])
    stream = started(play, as_seen=ROUTER)
    outer = called(stream)
    for kind in (pptp.WAN_ERROR, pptp.LINK_INFO):
        assert numbers(stream.says(SERVER, message(kind, outer)))[0] == MINE
    assert numbers(stream.says(CLIENT, message(pptp.LINK_INFO, THEIRS)))[0] == THEIRS
    assert numbers(stream.says(CLIENT, message(pptp.CLEAR, MINE)))[0] == outer


def test_an_incoming_call() -> None:
    play = play_of([masquerade()])
    stream = started(play, as_seen=ROUTER)
    stream.says(SERVER, message(pptp.IN_REQUEST, THEIRS))
    outer, server = numbers(stream.says(CLIENT, message(pptp.IN_REPLY, MINE, THEIRS, 0x100)))
    assert server == THEIRS
    assert outer != MINE
    assert numbers(stream.says(SERVER, message(pptp.IN_CONNECTED, outer)))[0] == MINE
    assert play >> gre(SERVER, ROUTER, outer) << accept(IP_CT_RELATED, dst=CLIENT)


def test_the_end_of_a_call() -> None:
    """By its message, or with the control connection."""
    play = play_of([masquerade()])
    stream = started(play, as_seen=ROUTER)
    outer = called(stream)
    assert play >> gre(CLIENT, SERVER, THEIRS) << accept(IP_CT_RELATED)
    segment = stream.segment(SERVER, "PA", message(pptp.DISCONNECTED, THEIRS))
    assert play >> segment << accept(ended=["call_ended"])
    stream.seen(CLIENT)
    assert play.engine.helpers.gre is not None
    assert play.engine.helpers.gre.keymap == {}
    assert called(stream) == outer
    assert play >> gre(SERVER, ROUTER, outer) << accept(IP_CT_RELATED, dst=CLIENT)
    play.engine.flush(play.now)
    assert len(play.engine.core.table) == 0
    assert (play.engine.helpers.gre.keymap, play.engine.helpers.gre.keys) == ({}, {})


def test_the_ids_of_a_former_call() -> None:
    """Its control connection lingers. The new call gets the ids, and keeps them when that ends."""
    play = play_of([masquerade()])
    called(started(play, as_seen=ROUTER))
    assert play >> gre(CLIENT, SERVER, THEIRS) << accept(IP_CT_RELATED)
    former = play.engine.core.table.slots[0]
    again = Host(CLIENT.name, CLIENT.v4, CLIENT.v6, CLIENT.link, 40001)
    outer = called(started(play, again, as_seen=ROUTER))
    assert former is not None
    play.engine.delete(former.slot, play.now)
    assert play >> gre(CLIENT, SERVER, THEIRS) << accept(IP_CT_RELATED, src=ROUTER)
    assert play >> gre(SERVER, ROUTER, outer) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
    assert call_of(play) == MINE


def test_a_refused_call() -> None:
    play = play_of([masquerade()])
    stream = started(play, as_seen=ROUTER)
    outer, _ = numbers(stream.says(CLIENT, message(pptp.OUT_REQUEST, MINE)))
    stream.says(SERVER, message(pptp.OUT_REPLY, THEIRS, outer, 0x400))
    assert expected(play) == []


def test_calls_go_on_after_a_restart() -> None:
    """A call that runs, and one that is only expected."""
    play = play_of([masquerade()])
    stream = started(play, as_seen=ROUTER)
    outer = [called(stream, mine, theirs) for mine, theirs in ((7, 9), (8, 10))]
    stream.says(SERVER, message(pptp.OUT_REPLY, 9, outer[0], 0x100))
    assert play >> gre(CLIENT, SERVER, 9) << accept(IP_CT_RELATED)
    stream.says(SERVER, message(pptp.OUT_REPLY, 10, outer[1], 0x100))
    assert play >> restart(2)
    assert play >> gre(SERVER, ROUTER, outer[0]) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
    assert call_of(play) == 7
    assert play >> gre(CLIENT, SERVER, 9) << accept(IP_CT_ESTABLISHED, src=ROUTER)
    assert play >> gre(SERVER, ROUTER, outer[1]) << accept(IP_CT_RELATED, dst=CLIENT)
    assert call_of(play) == 8


@pytest.mark.parametrize(
    "text",
    [
        b"",
        message(pptp.OUT_REQUEST, MINE)[:-1],
        message(pptp.OUT_REQUEST, MINE).replace(struct.pack(">I", pptp.COOKIE), b"abcd"),
        message(pptp.OUT_REPLY, 1, 2, 0x100),
        struct.pack(">HHIHH", 12, 1, pptp.COOKIE, pptp.OUT_REQUEST, 0),
        struct.pack(">HHIHH", 0, 1, pptp.COOKIE, 99, 0),
    ],
)
def test_other_segments_pass(text: bytes) -> None:
    play = play_of([masquerade()])
    stream = started(play, as_seen=ROUTER)
    assert stream.says(CLIENT, text) == text
    assert expected(play) == []

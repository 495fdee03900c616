"""SIP: registrations, calls and media through NAT in both roles, over UDP and TCP."""

from __future__ import annotations

from typing import Any, cast

import pytest

from conntrackd_py.conntrack.expect import INACTIVE, PERMANENT
from conntrackd_py.const import (
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IPPROTO_UDP,
    IPS_EXPECTED,
    IPS_HELPER,
    IPS_SRC_NAT,
)
from conntrackd_py.helpers.sip.sip import Sip
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.reasons import HELPER_PARTIAL
from tests.support.control import Stream, assigned, expected, shown
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    Host,
    Play,
    Said,
    accept,
    advance,
    dropped,
    restart,
    udp,
)
from tests.support.rules import forward, masquerade

SIP = 5060
RTP, ANSWERED = 6000, 7000


def play_of(family: int, rules: list[NatRule] | None = None, **tunables: bool) -> Play:
    raw = assigned("sip", SIP, protonum=IPPROTO_UDP) + assigned("sip", SIP)
    return Play(family, rules, raw_rules=raw, helpers=(Sip,), **cast(dict[str, Any], tunables))


def at(host: Host, family: int, port: int = 0) -> str:
    """As in a header; without a port as in a description."""
    text = host.v4 if family == 4 else host.v6
    return text if not port else f"{text}:{port}" if family == 4 else f"[{text}]:{port}"


def body_of(family: int, host: Host, port: int, *media: str) -> str:
    kind = f"IN IP{family}"
    lines = ["v=0", f"o=bob 1 1 {kind} {at(host, family)}", "s=-", f"c={kind} {at(host, family)}", "t=0 0"]
    return "\r\n".join([*lines, f"m=audio {port} RTP/AVP 0", *media]) + "\r\n"


def message(first: str, cseq: str, body: str = "", *headers: str) -> bytes:
    lines = [first, f"CSeq: {cseq}", *headers, f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def invite(family: int, host: Host, to: Host, body: str, *, transport: str = "UDP", port: int = SIP) -> bytes:
    here = at(host, family, port)
    return message(
        f"INVITE sip:alice@{at(to, family, SIP)} SIP/2.0",
        "7 INVITE",
        body,
        f"Via: SIP/2.0/{transport} {here};branch=z9;rport",
        f"From: <sip:bob@{here}>;tag=1",
        f"To: <sip:alice@{at(to, family, SIP)}>",
        f"Contact: <sip:bob@{here}>",
    )


def answer(family: int, host: Host, to: Host, body: str, code: str = "200 OK", *, cseq: str = "7 INVITE") -> bytes:
    """Of `host` to a request of `to`."""
    there = at(to, family, SIP)
    via = f"Via: SIP/2.0/UDP {there};branch=z9;received={at(to, family)};rport={SIP}"
    return message(f"SIP/2.0 {code}", cseq, body, via, f"Contact: <sip:alice@{at(host, family, SIP)}>")


def register(family: int, host: Host, *, expires: int = 60, cseq: int = 3) -> bytes:
    here = at(host, family, SIP)
    via = f"v: SIP/2.0/UDP {here};branch=z9"
    contact = f"m: <sip:bob@{here}>;expires={expires}"
    return message("REGISTER sip:example.org SIP/2.0", f"{cseq} REGISTER", "", via, contact)


def registered(family: int, host: Host, code: str = "200 OK", *, cseq: int = 3, expires: int = 60) -> bytes:
    contact = f"Contact: <sip:bob@{at(host, family, SIP)}>;expires={expires}"
    return message(f"SIP/2.0 {code}", f"{cseq} REGISTER", "", contact)


def says(sender: Host, receiver: Host, text: bytes) -> Said:
    return udp(sender, receiver, text, sport=SIP, dport=SIP)


def payload(play: Play) -> bytes:
    """What left, behind the header of UDP."""
    return play.left[28 if play.family == 4 else 48 :]


def test_a_call_without_nat(family: int) -> None:
    play = play_of(family)
    text = invite(family, CLIENT, SERVER, body_of(family, CLIENT, RTP))
    assert play >> says(CLIENT, SERVER, text) << accept(IP_CT_NEW, status=IPS_HELPER, timeout=3600)
    assert payload(play) == text
    assert [shown(known)[2] for known in expected(play)] == [RTP, RTP + 1]
    assert (
        play
        >> udp(OTHER, CLIENT, b"rtp", sport=9, dport=RTP)
        << accept(IP_CT_NEW)
        >> udp(SERVER, CLIENT, b"rtp", sport=9, dport=RTP)
        << accept(IP_CT_RELATED, status=IPS_EXPECTED)
        >> udp(SERVER, CLIENT, b"rtcp", sport=10, dport=RTP + 1)
        << accept(IP_CT_RELATED, status=IPS_EXPECTED)
    )


def call(play: Play, family: int, host: Host = CLIENT) -> None:
    """The host calls the server through source NAT, and it is answered."""
    text = invite(family, host, SERVER, body_of(family, host, RTP))
    assert play >> says(host, SERVER, text) << accept(src=ROUTER)
    port = int(str(play.seen["sport"]))
    there = answer(family, SERVER, ROUTER, body_of(family, SERVER, ANSWERED))
    assert play >> udp(SERVER, ROUTER, there, sport=SIP, dport=port) << accept(IP_CT_ESTABLISHED_REPLY, dst=host)


def test_a_call_through_nat(family: int) -> None:
    """Every address of the client becomes that of the router, and back in the answer."""
    play = play_of(family, [masquerade()])
    media = ("m=video 8000 RTP/AVP 31", "m=image 0 udptl t38")
    text = invite(family, CLIENT, SERVER, body_of(family, CLIENT, RTP, *media))
    assert play >> says(CLIENT, SERVER, text) << accept(src=ROUTER, sport=SIP)
    seen = payload(play)
    assert at(CLIENT, family).encode() not in seen
    assert seen == invite(family, ROUTER, SERVER, body_of(family, ROUTER, RTP, *media))
    assert [shown(known)[1:] for known in expected(play)] == [
        (at(ROUTER, family), port) for port in (RTP, RTP + 1, 8000, 8001)
    ]
    there = answer(family, SERVER, ROUTER, body_of(family, SERVER, ANSWERED))
    assert play >> says(SERVER, ROUTER, there) << accept(dst=CLIENT)
    assert payload(play) == answer(family, SERVER, CLIENT, body_of(family, SERVER, ANSWERED))


@pytest.mark.parametrize("first", ["client", "server"])
def test_media_both_ways(family: int, first: str) -> None:
    """Whoever sends first: the client's media leave from the port that it announced."""
    play = play_of(family, [masquerade()])
    call(play, family)
    out = udp(CLIENT, SERVER, b"rtp", sport=RTP, dport=ANSWERED)
    back = udp(SERVER, ROUTER, b"rtp", sport=ANSWERED, dport=RTP)
    for said in (out, back) if first == "client" else (back, out):
        assert play >> said << accept(status=IPS_EXPECTED)
    assert play >> out << accept(src=ROUTER, sport=RTP, dport=ANSWERED)
    assert play >> back << accept(dst=CLIENT, dport=RTP)


@pytest.mark.parametrize("first", ["client", "server"])
def test_two_clients_with_the_same_media_port(family: int, first: str) -> None:
    """The second one gets the next pair outside, in its description and for its packets, also after a restart."""
    play = play_of(family, [masquerade()])
    call(play, family)
    call(play, family, NEIGHBOUR)
    assert [shown(known)[2] for known in expected(play)[4:6]] == [RTP + 2, RTP + 3]
    assert play >> restart()
    out = udp(NEIGHBOUR, SERVER, b"rtp", sport=RTP, dport=ANSWERED)
    back = udp(SERVER, ROUTER, b"rtp", sport=ANSWERED, dport=RTP + 2)
    for said in (out, back) if first == "client" else (back, out):
        assert play >> said << accept(status=IPS_EXPECTED)
    assert play >> out << accept(src=ROUTER, sport=RTP + 2)
    assert play >> back << accept(dst=NEIGHBOUR, dport=RTP)


def test_a_repeated_invite_keeps_its_ports(family: int) -> None:
    """Also after the media came."""
    play = play_of(family, [masquerade()])
    call(play, family)
    call(play, family, NEIGHBOUR)
    assert play >> udp(SERVER, ROUTER, b"rtp", sport=ANSWERED, dport=RTP + 2) << accept(dst=NEIGHBOUR)
    assert play >> says(CLIENT, SERVER, message("BYE sip:x SIP/2.0", "8 BYE")) << accept()
    text = invite(family, NEIGHBOUR, SERVER, body_of(family, NEIGHBOUR, RTP))
    assert play >> says(NEIGHBOUR, SERVER, text) << accept()
    assert f"m=audio {RTP + 2} ".encode() in payload(play)


def test_media_of_a_third_host(family: int) -> None:
    """Not expected; with direct_media off it is, from anyone."""
    for direct, count in ((True, 0), (False, 2)):
        play = play_of(family, nf_conntrack_sip_direct_media=direct)
        assert play >> says(CLIENT, SERVER, invite(family, CLIENT, SERVER, body_of(family, OTHER, RTP))) << accept()
        assert len(expected(play)) == count


def test_media_from_anyone_keep_their_source(family: int) -> None:
    play = play_of(family, [masquerade()], nf_conntrack_sip_direct_media=False)
    call(play, family)
    assert play >> udp(OTHER, ROUTER, b"rtp", sport=9, dport=RTP) << accept(IP_CT_RELATED, src=OTHER, dst=CLIENT)


@pytest.mark.parametrize("end", ["BYE", "refused", "INVITE"])
def test_the_end_of_a_call(family: int, end: str) -> None:
    play = play_of(family)
    assert play >> says(CLIENT, SERVER, invite(family, CLIENT, SERVER, body_of(family, CLIENT, RTP))) << accept()
    assert len(expected(play)) == 2
    step = {
        "BYE": says(CLIENT, SERVER, message("BYE sip:a SIP/2.0", "8 BYE")),
        "refused": says(SERVER, CLIENT, answer(family, SERVER, CLIENT, "", "487 Request Terminated")),
        "INVITE": says(CLIENT, SERVER, invite(family, CLIENT, SERVER, "")),
    }[end]
    assert play >> step << accept()
    assert expected(play) == []


def test_a_registration(family: int) -> None:
    """The registrar may call once it has confirmed, for as long as it says, from any port; the caller gets help too."""
    play = play_of(family, [masquerade()])
    assert play >> says(CLIENT, SERVER, register(family, CLIENT)) << accept(src=ROUTER)
    assert at(CLIENT, family).encode() not in payload(play)
    (known,) = expected(play)
    assert known.flags & (PERMANENT | INACTIVE) == PERMANENT | INACTIVE
    ringing = udp(SERVER, ROUTER, invite(family, SERVER, ROUTER, body_of(family, SERVER, RTP)), sport=5070, dport=SIP)
    assert play >> ringing << accept(IP_CT_NEW)
    assert play >> says(SERVER, ROUTER, registered(family, ROUTER)) << accept(dst=CLIENT)
    assert payload(play) == registered(family, CLIENT).replace(b"203.0.113.1", b"192.168.1.2")
    text = invite(family, SERVER, ROUTER, body_of(family, SERVER, RTP))
    for sport in (5071, 5072):
        ringing = udp(SERVER, ROUTER, text, sport=sport, dport=SIP)
        assert play >> ringing << accept(IP_CT_RELATED, dst=CLIENT, dport=SIP, status=IPS_EXPECTED | IPS_HELPER)
    back = answer(family, CLIENT, SERVER, body_of(family, CLIENT, ANSWERED))
    assert play >> udp(CLIENT, SERVER, back, sport=SIP, dport=5072) << accept(src=ROUTER)
    assert f"c=IN IP{family} {at(ROUTER, family)}".encode() in payload(play)
    assert play >> udp(SERVER, ROUTER, b"rtp", sport=RTP, dport=ANSWERED) << accept(IP_CT_RELATED, dst=CLIENT)
    assert play >> advance(62)
    assert [known for known in expected(play) if known.flags & PERMANENT] == []


@pytest.mark.parametrize(
    ("code", "cseq", "expires", "left"),
    [
        ("200 OK", 3, 60, [PERMANENT]),
        ("403 No", 3, 60, []),
        ("200 OK", 4, 60, [PERMANENT | INACTIVE]),
        ("200 OK", 3, 0, []),
        ("100 Wait", 3, 60, [PERMANENT | INACTIVE]),
    ],
)
def test_the_answer_of_the_registrar(family: int, code: str, cseq: int, expires: int, left: list[int]) -> None:
    play = play_of(family)
    assert play >> says(CLIENT, SERVER, register(family, CLIENT)) << accept()
    text = registered(family, CLIENT, code, cseq=cseq, expires=expires)
    assert play >> says(SERVER, CLIENT, text) << accept()
    assert [known.flags & (PERMANENT | INACTIVE) for known in expected(play)] == left


@pytest.mark.parametrize(("host", "expires"), [(OTHER, 60), (CLIENT, 0)])
def test_a_registration_that_expects_nothing(family: int, host: Host, expires: int) -> None:
    """Of a third host, or one that ends."""
    play = play_of(family)
    assert play >> says(CLIENT, SERVER, register(family, host, expires=expires)) << accept()
    assert expected(play) == []


def test_a_confirmed_registration_after_a_restart(family: int) -> None:
    play = play_of(family, [masquerade()])
    assert play >> says(CLIENT, SERVER, register(family, CLIENT)) << accept()
    assert play >> says(SERVER, ROUTER, registered(family, ROUTER)) << accept()
    assert play >> restart(2)
    ringing = udp(SERVER, ROUTER, invite(family, SERVER, ROUTER, ""), sport=5071, dport=SIP)
    assert play >> ringing << accept(IP_CT_RELATED, dst=CLIENT, status=IPS_HELPER)


def test_a_call_over_tcp(family: int) -> None:
    """Two messages in one segment, which changes its length; the numbers of the stream are adjusted."""
    play = play_of(family, [masquerade()])
    stream = Stream(play, CLIENT, SERVER, SIP, as_seen=ROUTER).open()
    text = [
        invite(family, host, SERVER, body_of(family, host, RTP), transport="TCP", port=CLIENT.port)
        for host in (CLIENT, ROUTER)
    ]
    for _ in range(2):
        assert stream.says(CLIENT, text[0] * 2, status=IPS_HELPER | IPS_SRC_NAT) == text[1] * 2
        stream.says(SERVER, b"SIP/2.0 100 Trying\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n")
    cut = text[0][:-5]
    assert stream.says(CLIENT, cut) == cut
    assert len(expected(play)) == 2


def test_a_server_inside(family: int) -> None:
    """Calls from outside reach it by a DNAT rule; its answers name the router."""
    play = play_of(family, [masquerade(), forward(family, (SIP, SIP))])
    text = invite(family, SERVER, ROUTER, body_of(family, SERVER, RTP))
    assert play >> says(SERVER, ROUTER, text) << accept(dst=CLIENT)
    assert payload(play).startswith(f"INVITE sip:alice@{at(CLIENT, family, SIP)}".encode())
    back = answer(family, CLIENT, SERVER, body_of(family, CLIENT, ANSWERED))
    assert play >> says(CLIENT, SERVER, back) << accept(src=ROUTER)
    assert at(CLIENT, family).encode() not in payload(play)
    out = udp(CLIENT, SERVER, b"rtp", sport=ANSWERED, dport=RTP)
    assert play >> out << accept(IP_CT_RELATED, src=ROUTER, sport=ANSWERED)


@pytest.mark.parametrize(
    "text",
    [
        b"INVITE sip:a SIP/2.0\r\n\r\n",
        b"REGISTER sip:a SIP/2.0\r\nCSeq: x\r\n\r\n",
        b"SIP/2.0 x\r\nCSeq: 1 INVITE\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\nm=audio 6000 RTP/AVP 0\r\n",
        b"INVITE sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\nc=IN IP4 192.168.1.2\r\nm=audio 99 RTP/AVP 0\r\n",
    ],
)
def test_what_cannot_be_read_is_dropped(text: bytes) -> None:
    play = play_of(4)
    assert play >> says(CLIENT, SERVER, text) << dropped(HELPER_PARTIAL)


@pytest.mark.parametrize("text", [b"", b"\r\n\r\n", b"OPTIONS sip:a SIP/2.0\r\n\r\n", b"\0" * 50, b"INVITE" * 9])
def test_other_packets_pass(text: bytes) -> None:
    play = play_of(4)
    assert play >> says(CLIENT, SERVER, text) << accept()
    assert expected(play) == []

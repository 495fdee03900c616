"""SIP messages: what is found where."""

import pytest

from conntrackd_py.helpers.sip.message import (
    MOST_HEADERS,
    MOST_LINES,
    MOST_URIS,
    Message,
    Place,
    host_port,
    lines,
    written,
)
from tests.support.packets import address

HERE, THERE = address("192.0.2.1"), address("2001:db8::1")
TEXT = (
    b"INVITE sip:alice@192.0.2.1:5070;x=y SIP/2.0\r\n"
    b"V :  SIP/2.0/UDP [2001:db8::1]:5061;received=192.0.2.9;rport=5062;branch=z9, SIP/2.0/UDP 192.0.2.7\r\n"
    b"Contact: <sip:a@192.0.2.1>;expires=60,\r\n <sip:[2001:db8::1]:5060;transport=TCP>;expires=70\r\n"
    b"m: sip:name.example.org, sip:192.0.2.1:80, sip:c@192.0.2.1:65536\r\n"
    b"no header\r\n"
    b"CSeq: 4294967295 INVITE\r\n"
    b"l: 5\r\n"
    b"\r\n"
    b"Contact: <sip:d@192.0.2.1>\r\n"
)


@pytest.fixture
def message() -> Message:
    return Message(TEXT, 0, len(TEXT))


def named(place: Place | None) -> tuple[bytes, int] | None:
    return None if place is None else (place.address, place.port)


def test_the_parts(message: Message) -> None:
    assert not message.is_response
    assert TEXT[message.body :] == b"Contact: <sip:d@192.0.2.1>\r\n"
    assert named(message.request_uri()) == (HERE, 5070)
    assert (message.number(b"cseq"), message.number(b"content-length"), message.number(b"expires")) == (
        2**32 - 1,
        5,
        -1,
    )
    assert Message(b"sip/2.0 200 OK", 0, 14).is_response


def test_the_addresses_of_a_contact(message: Message) -> None:
    """Folded and compact headers count; names, other ports and the body do not."""
    first, second = message.uris(b"contact")
    assert (named(first), named(second)) == ((HERE, 5060), (THERE, 5060))
    assert message.text(first) == b"192.0.2.1"
    assert message.text(message.parameter(b"expires", message.parameters_of(first))) == b"60"
    within = message.parameters_of(second)
    assert message.text(message.parameter(b"expires", within)) == b"70"
    assert message.text(message.parameter(b"transport", within)) == b"TCP"
    assert message.text(message.parameter(b"q", within)) == b""


def test_the_topmost_via(message: Message) -> None:
    found = message.via(b"UDP")
    assert found is not None
    via, parameters = found
    assert named(via) == (THERE, 5061)
    assert [message.text(message.parameter(name, parameters)) for name in (b"received", b"rport", b"maddr")] == [
        b"192.0.2.9",
        b"5062",
        b"",
    ]
    assert message.via(b"TCP") is None


def test_bounds() -> None:
    text = b"A b\r\n" + b"x: 1\r\n" * MOST_HEADERS + b"CSeq: 1\r\n\r\n"
    assert Message(text, 0, len(text)).number(b"cseq") == -1
    text = b"A b\r\nm: " + b"sip:192.0.2.1," * (MOST_URIS * 3) + b"\r\n\r\n"
    assert len(Message(text, 0, len(text)).uris(b"contact")) == MOST_URIS


@pytest.mark.parametrize("text", [b"", b"\r\n", b"A", b" \r\n x", b"A b\r\n:\r\n", b"A b\r\nx:", b"A b\r\n\tx\r\n"])
def test_what_has_no_headers(text: bytes) -> None:
    message = Message(text, 0, len(text))
    assert message.uris(b"contact") == []
    assert message.via(b"UDP") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"192.0.2.1", (HERE, 5060)),
        (b"192.0.2.1:1024", (HERE, 1024)),
        (b"[2001:db8::1]:65535", (THERE, 65535)),
        (b"[2001:db8::1]", (THERE, 5060)),
        (b"192.0.2.1:1023", None),
        (b"192.0.2.1:", None),
        (b"[2001:db8::1", None),
        (b"[]", None),
        (b"example.org:5060", None),
        (b"", None),
    ],
)
def test_an_address_and_port(text: bytes, found: tuple[bytes, int] | None) -> None:
    assert named(host_port(text, 0, len(text))) == found


def test_what_is_written() -> None:
    assert written(HERE, 5060) == b"192.0.2.1:5060"
    assert written(THERE, 5060) == b"[2001:db8::1]:5060"


def test_lines() -> None:
    assert len(lines(b"\n" * 2 * MOST_LINES, 0, 2 * MOST_LINES)) == MOST_LINES
    text = b"v=0\r\no=1\nm=2\r\r\n\r\nx"
    assert [text[line.at : line.end] for line in lines(text, 0, len(text))] == [b"v=0", b"o=1", b"m=2", b"", b"", b"x"]

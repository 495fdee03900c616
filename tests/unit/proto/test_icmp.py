"""Every ICMP type: query, error, untracked or neither."""

import pytest

from conntrackd_py.conntrack.conn import LEAVE_UNTRACKED, NO_QUOTE, REFUSED, TRACKED, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import ORIGINAL
from conntrackd_py.proto.icmp import Icmp, Icmpv6
from conntrackd_py.reasons import ICMP_NO_NEW, ICMP_REDIRECT, ICMP_TYPE, L4_CHECKSUM, L4_TRUNCATED, OK
from conntrackd_py.wire import ip
from tests.support import packets

V4, V6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")
ICMP, ICMPV6 = Icmp(Tunables()), Icmpv6(Tunables())
BOTH = pytest.mark.parametrize(("tracker", "hosts"), [(ICMP, V4), (ICMPV6, V6)], ids=["icmp", "icmpv6"])
QUERIES = {ICMP: {8, 13, 15, 17}, ICMPV6: {128, 139}}
REPLIES = {ICMP: {0, 14, 16, 18}, ICMPV6: {129, 140}}
ERRORS = {ICMP: {3, 4, 5, 11, 12}, ICMPV6: set(range(128))}
UNTRACKED = {ICMP: set(), ICMPV6: {130, 131, 132, 133, 134, 135, 136, 143}}


def arriving(data: bytes) -> Skb:
    skb = Skb(data)
    assert ip.parse(skb) == OK
    return skb


@pytest.mark.parametrize("kind", range(19, 256))
def test_types_that_icmp_does_not_have(kind: int) -> None:
    assert ICMP.check(arriving(packets.icmp(*V4, kind, ident=7, data=bytes(40))), True) == ICMP_TYPE


# Redirects of ICMPv6 (137) have tests of their own.
@pytest.mark.parametrize(
    ("tracker", "hosts", "kind"),
    [
        *(pytest.param(ICMP, V4, kind, id=f"icmp-{kind}") for kind in range(19)),
        *(pytest.param(ICMPV6, V6, kind, id=f"icmpv6-{kind}") for kind in range(256) if kind != 137),
    ],
)
def test_every_type(tracker: Icmp, hosts: tuple[str, str], kind: int) -> None:
    skb = arriving(packets.icmp(*hosts, kind, ident=7, data=bytes(40)))
    assert tracker.check(skb, True) == OK
    expected = NO_QUOTE
    if kind in ERRORS[tracker]:
        expected = skb.dataoff + 8
    elif kind in UNTRACKED[tracker]:
        expected = LEAVE_UNTRACKED
    assert tracker.quotes(skb) == expected
    answerable = kind in QUERIES[tracker] | REPLIES[tracker]
    assert bool(tracker.invert(tracker.l4(skb))) == answerable
    outcome = tracker.packet(NfConn(b"", b"", tracker, 0), skb, ORIGINAL, 0, True)
    assert (outcome, skb.reason) == ((TRACKED, OK) if kind in QUERIES[tracker] else (REFUSED, ICMP_NO_NEW))


@BOTH
def test_identifier_type_and_code_make_the_tuple(tracker: Icmp, hosts: tuple[str, str]) -> None:
    kind = min(QUERIES[tracker])
    skb = arriving(packets.icmp(*hosts, kind, 5, ident=0x1234, sequence=9))
    assert tracker.l4(skb) == bytes((0x12, 0x34, kind, 5))


@BOTH
def test_a_header_cut_off(tracker: Icmp, hosts: tuple[str, str]) -> None:
    for length in range(8):
        skb = arriving(packets.ip(*hosts, tracker.protonum, bytes(length)))
        assert tracker.check(skb, False) == L4_TRUNCATED
        assert tracker.l4(skb) == b""


@BOTH
def test_a_checksum_is_verified_when_asked(tracker: Icmp, hosts: tuple[str, str]) -> None:
    bad = arriving(packets.broken(packets.icmp(*hosts, min(QUERIES[tracker]), data=b"odd")))
    assert tracker.check(bad, True) == L4_CHECKSUM
    assert tracker.check(bad, False) == OK


def test_neither_is_valid_in_the_other_family() -> None:
    echo = packets.icmp(*V4, 8)[20:]
    assert ICMPV6.check(arriving(packets.ip(*V4, 58, echo)), False) == ICMP_TYPE
    assert ICMP.check(arriving(packets.ip(*V6, 1, echo)), False) == ICMP_TYPE


# --- redirects (RFC 4861 8.1) -----------------------------------------------------------------------------

ROUTER = "fe80::1"
ABOUT = packets.udp("2001:db8::2", "2001:db8:9::1", 1, 2)


def redirect(source: str = ROUTER, hops: int = 255, code: int = 0, option: bytes = b"\4\7") -> Skb:
    """The quoted packet is in an option of seven times eight bytes."""
    data = bytes(32) + option + bytes(6) + ABOUT
    message = packets.icmp(source, "2001:db8::2", 137, code, data=data)
    return arriving(message[:7] + bytes([hops]) + message[8:])


def test_a_redirect_quotes_in_an_option() -> None:
    skb = redirect()
    assert ICMPV6.check(skb, True) == OK
    assert skb.data[ICMPV6.quotes(skb) :] == ABOUT


@pytest.mark.parametrize(
    "forged",
    [redirect(source="2001:db8::9"), redirect(hops=254), redirect(option=b"\4\0")],
    ids=["from afar", "forwarded", "empty option"],
)
def test_a_redirect_that_no_router_sends(forged: Skb) -> None:
    assert ICMPV6.check(forged, True) == ICMP_REDIRECT


def test_a_redirect_cut_off() -> None:
    for length in range(8, 40):
        skb = arriving(packets.ip(ROUTER, "2001:db8::2", 58, b"\x89" + bytes(length - 1), ttl=255))
        assert ICMPV6.check(skb, False) == L4_TRUNCATED
    for length in (40, 41):
        skb = arriving(packets.ip(ROUTER, "2001:db8::2", 58, b"\x89" + bytes(length - 1), ttl=255))
        assert ICMPV6.check(skb, False) == ICMP_REDIRECT


@pytest.mark.parametrize("other", [redirect(code=1), redirect(option=b"\2\7")], ids=["code", "option"])
def test_a_redirect_that_quotes_nothing(other: Skb) -> None:
    assert ICMPV6.check(other, True) == OK
    assert ICMPV6.quotes(other) == NO_QUOTE

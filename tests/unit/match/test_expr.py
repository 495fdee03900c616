"""Which packets a ct expression matches."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import Counters, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    CTINFO_NAMES,
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPS_ASSURED,
    IPS_DST_NAT,
    IPS_SEEN_REPLY,
)
from conntrackd_py.filter import iptables, nft
from conntrackd_py.match import expr
from tests.support.router import CLIENT, SERVER, Router

ATTACHED = (IP_CT_ESTABLISHED, IP_CT_RELATED, IP_CT_NEW, IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED_REPLY)
LAST = 1_000_000


def packet(ctinfo: int, ct: NfConn | None = None) -> Skb:
    skb = Skb(b"")
    skb.ct = ct if ctinfo in ATTACHED else None
    skb.ctinfo = ctinfo
    return skb


@pytest.fixture
def ct() -> NfConn:
    """UDP from CLIENT port 5353 to SERVER port 53, answered; 30 s left of its 30."""
    return Router().udp_answered()


def true_of(text: str, ct: NfConn) -> set[str]:
    """The kinds of packets, all of this connection or of none, for which an expression holds."""
    expr = iptables.parse(text) if text.startswith("-") else nft.parse(text)
    return {CTINFO_NAMES[c] for c in (*ATTACHED, IP_CT_INVALID, IP_CT_UNTRACKED) if expr.matches(packet(c, ct), LAST)}


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("ct state new", {"NEW"}),
        ("ct state established", {"ESTABLISHED", "ESTABLISHED_REPLY"}),
        ("ct state related", {"RELATED", "RELATED_REPLY"}),
        ("ct state invalid", {"INVALID"}),
        ("ct state untracked", {"UNTRACKED"}),
        ("ct state != invalid", {"NEW", "ESTABLISHED", "ESTABLISHED_REPLY", "RELATED", "RELATED_REPLY", "UNTRACKED"}),
        ("ct state ! established,related", {"NEW", "INVALID", "UNTRACKED"}),
        ("ct state established ct direction reply", {"ESTABLISHED_REPLY"}),
        ("ct direction reply", {"ESTABLISHED_REPLY", "RELATED_REPLY"}),
        ("ct direction original", {"NEW", "ESTABLISHED", "RELATED"}),
        ("ct state invalid,established ct direction reply", {"ESTABLISHED_REPLY"}),
        ("-m conntrack --ctstate INVALID,ESTABLISHED --ctdir REPLY", {"ESTABLISHED_REPLY", "INVALID"}),
        ("-m conntrack --ctstate INVALID,ESTABLISHED -m conntrack --ctdir REPLY", {"ESTABLISHED_REPLY"}),
        ("-m conntrack ! --ctstate NEW --ctdir ORIGINAL", {"ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"}),
        ("-m conntrack --ctdir ORIGINAL", {"NEW", "ESTABLISHED", "RELATED"}),
        ("-m conntrack ! --ctdir ORIGINAL", {"ESTABLISHED_REPLY", "RELATED_REPLY"}),
    ],
)
def test_state_and_direction(ct: NfConn, text: str, states: set[str]) -> None:
    assert true_of(text, ct) == states


ALL = {CTINFO_NAMES[ctinfo] for ctinfo in ATTACHED}
NONE: set[str] = set()


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("ct status seen-reply", ALL),
        ("ct status assured", NONE),
        ("ct status assured,seen-reply", ALL),
        ("ct status ! assured", ALL),
        ("ct status ! assured,seen-reply", NONE),
        ("ct status != assured", ALL),
        ("ct status == seen-reply", NONE),
        ("-m conntrack --ctstatus NONE", NONE),
        ("-m conntrack ! --ctstatus NONE", ALL),
        ("-m conntrack ! --ctstatus ASSURED", ALL),
        ("ct mark 0", ALL),
        ("ct mark != 0", NONE),
        ("ct mark & 0xff == 0", ALL),
        ("ct zone 0", ALL),
        ("ct zone != 0", NONE),
        ("ct expiration 30s", ALL),
        ("ct expiration 20s-29s", NONE),
        ("-m conntrack --ctexpire 30", ALL),
        ("-m conntrack ! --ctexpire 30", NONE),
        ("ct protocol udp", ALL),
        ("ct protocol != { tcp, udp }", NONE),
        ("ct l3proto ipv4", ALL),
        (f"ct original saddr {CLIENT} ct original daddr {SERVER}", ALL),
        (f"ct reply saddr {SERVER} ct reply daddr {CLIENT}", ALL),
        (f"ct original saddr != {CLIENT}", NONE),
        ("ct original ip6 saddr != fd00::1", NONE),
        ("ct original proto-src 5353 ct original proto-dst 53", ALL),
        ("ct reply proto-src 53 ct reply proto-dst 5353", ALL),
        ("ct original proto-dst 1-52", NONE),
        ("ct bytes 0", ALL),
        ("ct avgpkt 0", ALL),
        ("-m conntrack --ctstate SNAT", NONE),
        ("-m conntrack --ctstate SNAT,DNAT,NEW", {"NEW"}),
    ],
)
def test_a_condition_on_the_connection_needs_one(ct: NfConn, text: str, states: set[str]) -> None:
    assert true_of(text, ct) == states


def test_status_bits_come_and_go(ct: NfConn) -> None:
    ct.status |= IPS_DST_NAT | IPS_ASSURED
    assert true_of("ct status dnat ct status assured", ct) == ALL
    assert true_of("-m conntrack --ctstate DNAT", ct) == ALL
    assert true_of("-m conntrack --ctstate DNAT,INVALID", ct) == ALL | {"INVALID"}
    assert true_of("-m conntrack ! --ctstate DNAT", ct) == {"INVALID", "UNTRACKED"}
    ct.status = IPS_SEEN_REPLY
    assert true_of("ct status == seen-reply", ct) == ALL


def test_marks(ct: NfConn) -> None:
    ct.mark = 0x1234
    for text in ("ct mark 0x1234", "ct mark & 0xff == 0x34", "ct mark > 0x1233", "ct mark { 1, 0x1000-0x2000 }"):
        assert true_of(text, ct) == ALL, text
    assert true_of("-m connmark --mark 0x34/0xff", ct) == ALL
    assert true_of("-m connmark ! --mark 0x34/0xff", ct) == NONE


def test_counters(ct: NfConn) -> None:
    counted = ct.counters = Counters()
    counted.packets_original, counted.bytes_original = 10, 1500
    counted.packets_reply, counted.bytes_reply = 2, 100_000_000_000
    for text in (
        "ct original packets 10 ct reply packets 2 ct packets 12",
        "ct original bytes 1500 ct reply bytes > 0xffffffff ct bytes 100000001500",
        "ct original avgpkt 150 ct reply avgpkt 50000000000",
    ):
        assert true_of(text, ct) == ALL, text


def test_an_unconfirmed_connection_has_no_time_left(ct: NfConn) -> None:
    """Its timeout has not started; the kernel also reports 0."""
    fresh = NfConn(ct.original, ct.reply, ct.l4proto, LAST)
    fresh.timeout = 30_000
    assert nft.parse("ct expiration 0").matches(packet(IP_CT_NEW, fresh), LAST)
    assert nft.parse("ct status ! confirmed").matches(packet(IP_CT_NEW, fresh), LAST)


def test_the_largest_value_of_each_key_is_a_mask() -> None:
    """Values are compared after `& LARGEST`, so every bit below the highest must be set."""
    assert all(largest & (largest + 1) == 0 for largest in expr.LARGEST)
    assert expr.LARGEST[expr.L3PROTO] == expr.LARGEST[expr.PROTOCOL] == 0xFF


@pytest.mark.parametrize(
    ("text", "matches"),
    [("ct zone 3", True), ("ct zone 5", False), ("ct original zone 3", True), ("ct reply zone 5", True)],
)
def test_a_zone_without_a_direction_is_that_of_the_original_tuple(ct: NfConn, text: str, matches: bool) -> None:
    zoned = NfConn(tuples.with_zone(ct.original, 3), tuples.with_zone(ct.reply, 5), ct.l4proto, 0)
    assert nft.parse(text).matches(packet(IP_CT_NEW, zoned), LAST) == matches

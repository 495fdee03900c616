"""Ct expressions in nft's syntax, and the errors."""

import pytest

from conntrackd_py.filter import nft, nft_text
from conntrackd_py.match.words import ParseError


def form(text: str) -> str:
    return nft.parse(text).form()


@pytest.mark.parametrize(
    "text",
    [
        "ct state established,related",
        "ct state != invalid",
        "ct state ! established,related",
        "ct status assured",
        "ct status seen-reply,assured",
        "ct status ! snat,dnat",
        "ct status == 0x4",
        "ct status != 0xe",
        "ct status == { 0x4, 0x10 }",
        "ct status & 0x6 == 0x2",
        "ct direction reply",
        "ct mark 0x1",
        "ct mark & 0xff == 0x1",
        "ct mark & 0xff != 0x1",
        "ct mark { 0x1, 0x5-0x9 }",
        "ct mark != 0x3-0x5",
        "ct zone 0",
        "ct original zone 1",
        "ct expiration 30s",
        "ct expiration <= 1m30s",
        "ct expiration 10s-30s999ms",
        "ct original bytes >= 100001",
        "ct bytes 1000-2000",
        "ct reply packets 5",
        "ct avgpkt >= 200",
        "ct original ip saddr 10.0.0.1",
        "ct original ip saddr != 10.0.0.0/8",
        "ct reply ip6 daddr fd00::/16",
        "ct original ip saddr { 10.0.0.0/8, 192.168.0.1-192.168.0.9 }",
        "ct original proto-dst 80",
        "ct reply proto-src != { 80, 443 }",
        "ct protocol tcp",
        "ct protocol { tcp, udp }",
        "ct l3proto ipv4",
        "ct state established ct direction original ct original proto-dst <= 1023",
    ],
)
def test_as_nft_prints_it(text: str) -> None:
    assert nft_text.text(nft.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("state new", "ct state new"),
        ("ct state related , new", "ct state new,related"),
        ("ct state established|related", "ct state established,related"),
        ("ct state == established", "ct state established"),
        ("ct state { new, established }", "ct state established,new"),
        ("ct state & (established|related) == 0", "ct state invalid,new,untracked"),
        ("ct state & (established|related) == established", "ct state established"),
        ("ct state and 6 != 0", "ct state established,related"),
        ("ct state 2", "ct state established"),
        ("ct status seen_reply", "ct status seen-reply"),  # nft writes it with a dash
        ("ct status snat|dnat", "ct status snat,dnat"),
        ("ct status & (snat|dnat) != 0", "ct status snat,dnat"),
        ("ct status & (snat|dnat) == 0", "ct status ! snat,dnat"),
        ("ct status == assured", "ct status == 0x4"),
        ("ct status seen-reply / seen-reply,assured", "ct status & 0x6 == 0x2"),  # as nft lists it
        ("ct status != assured / seen-reply,assured", "ct status & 0x6 != 0x4"),
        ("ct mark and 0xff == 0x1", "ct mark & 0xff == 1"),
        ("ct mark & 0xff 1", "ct mark & 0xff == 1"),
        ("ct mark > 5", "ct mark >= 6"),
        ("ct mark < 5", "ct mark <= 4"),
        ("ct mark ne 5", "ct mark != 5"),
        ("ct mark {1,2,3}", "ct mark 1-3"),
        ("ct expiration 30", "ct expiration 30s"),
        ("ct expiration 90000ms", "ct expiration 1m30s"),
        ('ct expiration "30s"', "ct expiration 30s"),
        ("ct direction != reply", "ct direction original"),
        ("ct protocol 6", "ct protocol tcp"),
        ("ct original saddr 10.0.0.1", "ct original ip saddr 10.0.0.1"),
        ("ct original ip saddr 10.0.0.7/8", "ct original ip saddr 10.0.0.0/8"),
    ],
)
def test_equivalent_texts(text: str, same: str) -> None:
    assert form(text) == form(same)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ct state establised", "no such ct state: establised"),
        ("ct stat new", "no such ct key: stat"),
        ("ct state", "expected a bit, found the end of the text"),
        ("ct", "expected a ct key"),
        ("ct state new foo", "expected ct, found foo"),
        ("ct state != established,related", "always true: != compares the whole state"),
        ("ct state == established,related", "never true: == compares the whole state"),
        ("ct state > new", "> cannot compare bits"),
        ("ct original state new", "ct state has no direction"),
        ("ct reply mark 1", "ct mark has no direction"),
        ("ct proto-dst 80", "ct proto-dst needs a direction: ct original proto-dst or"),
        ("ct saddr 10.0.0.1", "ct saddr needs a direction"),
        ("ct original ip proto-dst 80", "expected saddr or daddr, found proto-dst"),
        ("ct original ip saddr fd00::1", "mixes IPv4 and IPv6"),
        ("ct original ip saddr {10.0.0.1, fd00::1}", "mixes IPv4 and IPv6"),
        ("ct original ip saddr > 10.0.0.1", "> cannot compare addresses"),
        ("ct original ip saddr eth0", "'eth0' is not an address"),
        ("ct original proto-dst http", "'http' is not a port (0 to 65535)"),
        ("ct original proto-dst 90-80", "90-80 ends before it begins"),
        ("ct mark ^ 1 == 1", "^ is not supported, only &"),
        ("ct mark | 1 == 1", "| is not supported, only &"),
        ("ct mark ! 1", "! is for state and status"),
        ("ct mark 0x100000000", "is not a number (0 to 4294967295)"),
        ("ct mark < 0", "can never be true"),
        ("ct mark {}", "an empty set"),
        ("ct mark {1 2}", "expected , between the elements of a set, found 2"),
        ("ct mark {1", "expected , between the elements of a set, found the end of the text"),
        ("ct status & assured snat", "& needs == or != after its mask"),
        ("ct status 0", "0 names no bit"),
        ("ct status ! {assured}", "! cannot stand before a set"),
        ("ct status (snat", "expected ) to close the parenthesis, found the end of the text"),
        ("ct expiration 5x", "'5x' is not a time"),
        ('ct helper "ftp"', "ct helper is not supported"),
        ("ct protocol tpc", "no such protocol: tpc"),
        ("ct l3proto ip", "'ip' is not a number"),
        ("ct direction back", "no such direction: back"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ParseError) as caught:
        nft.parse(text)
    assert why in str(caught.value)


def test_an_error_lists_the_allowed_words() -> None:
    with pytest.raises(ParseError) as caught:
        nft.parse("ct state establised")
    assert caught.value.word == "establised"
    assert "established" in caught.value.known

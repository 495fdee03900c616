"""Flags, header and checksum of TCP: the checks before the lookup."""

import pytest

from conntrackd_py.conntrack.conn import REFUSED, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import ORIGINAL
from conntrackd_py.proto.tcp import Tcp
from conntrackd_py.proto.tcp_states import KIND_NAMES, STATE_NAMES, kind_of
from conntrackd_py.reasons import L4_CHECKSUM, L4_TRUNCATED, OK, TCP_FLAGS, TCP_NOT_SYN, TCP_STATE
from conntrackd_py.wire import ip
from tests.support import packets

HERE, THERE = "192.0.2.1", "192.0.2.2"
TCP = Tcp(Tunables())
VALID = {"S", "SU", "SA", "R", "RA", "FA", "FAU", "A", "AU"}  # PSH, ECE and CWR do not count
LETTERS = {0x01: "F", 0x02: "S", 0x04: "R", 0x08: "P", 0x10: "A", 0x20: "U", 0x40: "E", 0x80: "C"}


def letters_of(flags: int) -> str:
    return "".join(letter for bit, letter in LETTERS.items() if flags & bit)


def arriving(data: bytes) -> Skb:
    skb = Skb(data)
    assert ip.parse(skb) == OK
    return skb


def of_layer_4(body: bytes) -> Skb:
    return arriving(packets.ip(HERE, THERE, 6, body))


@pytest.mark.parametrize("flags", range(256), ids=letters_of)
def test_every_combination_of_flags(flags: int) -> None:
    letters = letters_of(flags)
    judged = {frozenset(valid) for valid in VALID}
    expected = OK if frozenset(letters) - set("PEC") in judged else TCP_FLAGS
    assert TCP.check(arriving(packets.tcp(HERE, THERE, 1, 2, letters)), True) == expected


@pytest.mark.parametrize("flags", range(256), ids=letters_of)
def test_rst_before_syn_before_fin_before_ack(flags: int) -> None:
    letters = letters_of(flags)
    if "R" in letters:
        kind = "rst"
    elif "S" in letters:
        kind = "synack" if "A" in letters else "syn"
    elif "F" in letters:
        kind = "fin"
    else:
        kind = "ack" if "A" in letters else "none"
    assert KIND_NAMES[kind_of(flags)] == kind


def test_header_lengths() -> None:
    segment = packets.tcp(HERE, THERE, 1, 2, "A", options=packets.SACK_PERMITTED)[20:]
    assert TCP.check(of_layer_4(segment), False) == OK
    assert TCP.check(of_layer_4(segment[:19]), False) == L4_TRUNCATED
    assert TCP.check(of_layer_4(segment[:20]), False) == L4_TRUNCATED  # its options are missing
    for words, expected in ((4, L4_TRUNCATED), (5, OK), (6, OK), (7, L4_TRUNCATED)):
        assert TCP.check(of_layer_4(segment[:12] + bytes([words << 4]) + segment[13:]), False) == expected


@pytest.mark.parametrize("hosts", [(HERE, THERE), ("2001:db8::1", "2001:db8::2")], ids=["v4", "v6"])
def test_a_checksum_is_verified_when_asked(hosts: tuple[str, str]) -> None:
    bad = packets.broken(packets.tcp(*hosts, 1, 2, "A", data=b"odd"))
    assert TCP.check(arriving(bad), True) == L4_CHECKSUM
    assert TCP.check(arriving(bad), False) == OK


def test_four_bytes_give_the_ports() -> None:
    """Also of a segment quoted in an error, which may have only eight."""
    assert TCP.l4(of_layer_4(b"\0\1\0\2")) == b"\0\1\0\2"
    assert TCP.l4(of_layer_4(b"\0\1\0")) == b""
    assert TCP.invert(b"\0\1\0\2") == b"\0\2\0\1"


def first(tcp: Tcp, flags: str) -> tuple[NfConn, int, int]:
    """The first packet of a connection: the connection, the outcome and the reason."""
    skb = arriving(packets.tcp(HERE, THERE, 1, 2, flags, seq=5))
    ct = NfConn(b"", b"", tcp, 0)
    outcome = tcp.packet(ct, skb, ORIGINAL, 0, True)
    return ct, outcome, skb.reason


@pytest.mark.parametrize(("flags", "state"), [("S", "SYN_SENT"), ("A", "ESTABLISHED"), ("AU", "ESTABLISHED")])
def test_what_may_come_first(flags: str, state: str) -> None:
    ct, _, reason = first(TCP, flags)
    assert (STATE_NAMES[ct.state], reason) == (state, OK)


@pytest.mark.parametrize("flags", ["SA", "FA", "R", "RA"])
def test_what_may_not(flags: str) -> None:
    assert first(TCP, flags)[1:] == (REFUSED, TCP_STATE)


def test_picking_up_can_be_switched_off_and_on_while_running() -> None:
    tcp = Tcp(Tunables(nf_conntrack_tcp_loose=False))
    assert first(tcp, "A")[1:] == (REFUSED, TCP_NOT_SYN)
    tcp.tune(Tunables())
    assert first(tcp, "A")[2] == OK


def test_timeouts_are_the_sysctls_in_milliseconds() -> None:
    tunables = Tunables(nf_conntrack_tcp_timeout_syn_sent=7, nf_conntrack_tcp_timeout_close=3)
    timeouts = dict(zip(STATE_NAMES, Tcp(tunables).timeouts, strict=True))
    assert timeouts["SYN_SENT"] == 7_000
    assert timeouts["SYN_SENT2"] == 120_000, "the kernel has no sysctl for it"
    assert timeouts["CLOSE"] == 3_000
    assert timeouts["ESTABLISHED"] == 5 * 24 * 3600 * 1000

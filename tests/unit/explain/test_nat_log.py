"""The lines of the NAT log, as they are written."""

import json

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.const import IPCT_DESTROY, IPCT_NEW, IPPROTO_GRE, IPPROTO_ICMP, ORIGINAL, REPLY
from conntrackd_py.explain.nat_log import Connections, Texts, block_line, deterministic_rules, note_line
from conntrackd_py.match.address import packed_address
from conntrackd_py.nat.carrier.blocks import BlockEvent
from tests.support.nat_logs import BEGIN, GENERIC, line, translated
from tests.support.rules import rules_of

HEAD = '{"time":"2026-11-22T10:03:00.007Z","event":'
TUPLES = (
    '"proto":"tcp","orig":{"src":"192.168.1.2","dst":"198.51.100.80","sport":4711,"dport":80},'
    '"reply":{"src":"198.51.100.80","dst":"203.0.113.1","sport":80,"dport":1024},"id":0'
)


def test_a_connection_begins_and_ends() -> None:
    ct = translated(born=-1234)
    ct.account(ORIGINAL, 100)
    ct.account(REPLY, 300, 2)
    assert line("NEW", ct, 7, "nat[0]") == f'{HEAD}"NEW",{TUPLES},"rule":"nat[0]"}}\n'.encode()
    assert line("OPEN", ct, 7) == f'{HEAD}"OPEN",{TUPLES},"duration":1.241}}\n'.encode()
    assert line("DESTROY", ct, 7) == f'{HEAD}"DESTROY",{TUPLES},"duration":1.241}}\n'.encode()
    ended = f'{HEAD}"DESTROY",{TUPLES},"duration":1.241,"packets":[1,2],"bytes":[100,300]}}\n'
    assert line("DESTROY", ct, 7, accounting=True) == ended.encode()


def test_an_end_is_when_the_timeout_was_over() -> None:
    ct = translated()
    ct.timeout = 7
    assert line("DESTROY", ct, 500).startswith(f'{HEAD}"DESTROY"'.encode())
    assert b'"duration":0.007' in line("DESTROY", ct, 500)


def test_ipv6_and_a_zone() -> None:
    found = json.loads(line("NEW", translated("fd00::2", outer="2001:db8::1", remote="2001:db8:9::80", zone=7), 0))
    assert found["orig"] == {"src": "fd00::2", "dst": "2001:db8:9::80", "sport": 4711, "dport": 80}
    assert found["reply"]["dst"] == "2001:db8::1"
    assert found["zone"] == 7


@pytest.mark.parametrize(
    ("proto", "name", "fields"),
    [
        (IPPROTO_ICMP, "icmp", {"type": 8, "code": 0, "id": 4711}),
        (IPPROTO_GRE, "gre", {"srckey": 4711, "dstkey": 2048}),
        (99, "99", {}),
    ],
)
def test_other_protocols(proto: int, name: str, fields: dict[str, int]) -> None:
    pair = packed_address("192.168.1.2") + packed_address("198.51.100.80")
    t = tuples.make(pair, (4711).to_bytes(2, "big") + b"\x08\x00", proto)
    found = json.loads(line("NEW", NfConn(t, t, GENERIC, 0), 0))
    assert found["proto"] == name
    assert found["orig"] == {"src": "192.168.1.2", "dst": "198.51.100.80", **fields}


def test_lines_are_taken_in_parts() -> None:
    events = [Event(IPCT_NEW if at % 2 else IPCT_DESTROY, at, 0, translated(port=at)) for at in range(10)]
    piece = Connections(events, [""] * 10, BEGIN, False)
    clock = Texts()
    parts = [piece.lines(0, 3, clock), piece.lines(3, 9, clock), piece.lines(9, 64, clock)]
    assert [part.count(b"\n") for part in parts] == [3, 6, 1]
    assert b"".join(parts) == piece.lines(0, 10, clock)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (BEGIN + 59_999, "2026-11-22T10:03:59.999Z"),
        (951_827_696_040, "2000-02-29T12:34:56.040Z"),
    ],
)
def test_a_time_has_one_width(at: int, text: str) -> None:
    clock = Texts()
    assert clock.stamp(at) == clock.stamp(at) == text


def test_blocks() -> None:
    inside, outer = packed_address("100.64.0.1"), packed_address("203.0.113.8")
    for allocated, kind in ((True, "BLOCK"), (False, "RELEASE")):
        written = block_line(BlockEvent(allocated, inside, outer, 1024, 1535, "nat[2]", 7), BEGIN, Texts())
        assert written.decode() == (
            f'{HEAD}"{kind}","inside":"100.64.0.1","outer":"203.0.113.8","low":1024,"high":1535,"rule":"nat[2]"}}\n'
        )


def test_text_cannot_break_a_line() -> None:
    written = note_line("START", BEGIN, Texts(), {"daemon": 'a"\n\x1b'})
    assert written.count(b"\n") == 1
    assert json.loads(written)["daemon"] == 'a"\n\x1b'


def test_only_deterministic_rules_are_described() -> None:
    (rule,) = rules_of("""
        [[nat]]
        action = "SNAT"
        out_interface = "wan"
        source = "100.64.0.0/24"
        proto = "tcp"
        to = "203.0.113.8-203.0.113.9:1024-65535"
    """)
    assert deterministic_rules([rule]) == []
    rule.deterministic = True
    (described,) = deterministic_rules([rule])
    assert described == {
        "rule": "nat[0]",
        "source": ["100.64.0.0", "100.64.0.255"],
        "to": ["203.0.113.8", "203.0.113.9"],
        "ports": [1024, 65535],
    }

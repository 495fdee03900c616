"""Lines of a log as records; damaged and hostile ones are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.cli.conntrackd.who_had.records import HEAD, RuleRecord, record_of
from conntrackd_py.match.address import AddressError, packed_address
from conntrackd_py.nat.carrier.deterministic import inside_of
from tests.support.nat_logs import BEGIN, head, line, note, translated

GOOD = line("DESTROY", translated(), 7, "nat[0]", accounting=True)


def test_a_line_of_the_daemon_is_a_record() -> None:
    found = HEAD.match(GOOD)
    record = record_of(GOOD)
    assert found is not None
    assert record is not None
    assert record.orig is not None
    assert record.reply is not None
    assert found[2] == b"DESTROY"
    assert (record.event, record.at, record.rule, record.duration) == ("DESTROY", BEGIN + 7, "nat[0]", 0.007)
    assert record.orig.source == ("192.168.1.2", 4711)
    assert record.reply.destination == ("203.0.113.1", 1024)


def test_every_other_line_is_a_record() -> None:
    for text in (head("START", 0), note("LIST", 1), note("LISTED", 2, connections=7), note("CLOCK", 3, step=-3.5)):
        assert HEAD.match(text)
        assert record_of(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        GOOD[:-30],
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"[" * 100_000,
        b"\0" * 200,
        GOOD.replace(b'"sport":4711', b'"sport":"x"'),
        GOOD.replace(b'"sport":4711', b'"sport":1e999'),
        GOOD.replace(b"0.007", b"-1"),
        GOOD.replace(b"0.007", b"1e300"),
        GOOD.replace(b"11-22", b"13-22"),
        GOOD.replace(b'"orig"', b'"other"'),
        GOOD.replace(b"192.168.1.2", b"\xff\xfe"),
        note("CLOCK", 0, step=1e300),
        note("LOST", 0, lines=1, since="yesterday"),
    ],
)
def test_a_damaged_line_is_none(text: bytes) -> None:
    assert record_of(text) is None


@given(st.binary(max_size=40), st.integers(0, len(GOOD)), st.integers(0, 40))
def test_no_bytes_raise(junk: bytes, at: int, gone: int) -> None:
    text = GOOD[:at] + junk + GOOD[at + gone :]
    assert HEAD.match(text) or True
    record = record_of(text)
    assert record is None or record.at >= 0


def test_a_deterministic_rule() -> None:
    rule = RuleRecord(
        "nat[2]", ("100.64.0.0", "100.64.0.255"), ("203.0.113.8", "203.0.113.8"), (1024, 65535)
    ).nat_rule()
    assert rule.label == "nat[2]"
    assert inside_of(rule, packed_address("203.0.113.8"), 1024) == packed_address("100.64.0.0")


@pytest.mark.parametrize(
    "rule",
    [
        RuleRecord("", ("100.64.0.0", "fd00::"), ("203.0.113.8", "203.0.113.8"), (1, 2)),
        RuleRecord("", ("100.64.0.9", "100.64.0.1"), ("203.0.113.8", "203.0.113.8"), (1, 2)),
        RuleRecord("", ("100.64.0.0", "100.64.0.1"), ("203.0.113.8", "203.0.113.8"), (2, 1)),
        RuleRecord("", ("100.64.0.0", "100.64.0.1"), ("203.0.113.8", "203.0.113.8"), (0, 99999)),
        RuleRecord("", ("x", "100.64.0.1"), ("203.0.113.8", "203.0.113.8"), (1, 2)),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: RuleRecord) -> None:
    with pytest.raises(AddressError):
        rule.nat_rule()

"""Who had a port: by the lines of a log. tests/property/test_who_had.py compares random logs with a list."""

from __future__ import annotations

import pytest

from conntrackd_py.cli.conntrackd.who_had import search as module
from conntrackd_py.cli.conntrackd.who_had.search import AHEAD, Holder, Question, Search
from conntrackd_py.cli.conntrackd.who_had.times import Span
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.const import IPCT_NEW, IPPROTO_ICMP, IPPROTO_UDP, IPS_CONFIRMED, IPS_DST_NAT
from conntrackd_py.explain.nat_log import Connections, Texts, block_line
from conntrackd_py.match.address import packed_address
from conntrackd_py.nat.carrier.blocks import BlockEvent
from tests.support.nat_logs import BEGIN, HOST, OUTER, REMOTE, begun, head, line, note, translated

END = note("MARK", 100_000)


def answer(
    text: bytes, at: int, until: int = 0, port: int = 1024, proto: str = "", remote: tuple[str, int] | None = None
) -> tuple[list[Holder], list[bool], str]:
    """The holders, which are certain, and why others may be missing."""
    span = Span(BEGIN + at, BEGIN + (until or at))
    search = Search(Question(OUTER, port, span, proto, remote))
    for one in text.splitlines(keepends=True):
        search.line(one)
    found = search.finish()
    return found, [holder.certain(span) for holder in found], search.unknown()


def hosts(text: bytes, at: int, **how: object) -> list[str]:
    return [holder.inside for holder in answer(text, at, **how)[0]]  # type: ignore[arg-type]


def whole(ct: NfConn, end: int, rule: str = "") -> bytes:
    return line("NEW", ct, ct.born, rule) + line("DESTROY", ct, end)


def test_from_its_first_to_its_last_ms() -> None:
    text = begun() + whole(translated(born=1000), 2000, "nat[0]") + END
    assert [len(hosts(text, at)) for at in (999, 1000, 1500, 2000, 2001)] == [0, 1, 1, 1, 0]
    ((holder,), certain, unknown) = answer(text, 1500)
    assert (holder.inside, holder.inside_port, holder.remote, holder.rule) == (HOST, 4711, (REMOTE, 80), "nat[0]")
    assert (holder.since, holder.until) == (BEGIN + 1000, BEGIN + 2000)
    assert (certain, unknown) == ([True], "")


def test_a_span_of_time_has_all_in_it() -> None:
    text = begun() + whole(translated(born=1000), 2000) + whole(translated("192.168.1.9", born=3000), 4000) + END
    assert hosts(text, 1999, until=3000) == [HOST, "192.168.1.9"]


def test_the_end_alone_tells_the_beginning() -> None:
    text = begun(5000) + line("DESTROY", translated(born=1000), 6000) + END
    assert hosts(text, 1000) == [HOST]
    assert hosts(text, 999) == []


def test_one_that_is_open_at_the_end() -> None:
    text = begun() + line("NEW", translated(born=1000), 1000) + END
    ((holder,), certain, unknown) = answer(text, 50_000)
    assert (holder.until, certain, unknown) == (None, [True], "")
    _, certain, unknown = answer(text, 100_001)
    assert certain == [False]
    assert unknown == "the log ends at 2026-11-22T10:04:40.000Z"


@pytest.mark.parametrize("asked", [("tcp", [HOST]), ("udp", ["192.168.1.9"]), ("", [HOST, "192.168.1.9"])])
def test_by_protocol(asked: tuple[str, list[str]]) -> None:
    other = translated("192.168.1.9", proto=IPPROTO_UDP, born=1000)
    text = begun() + whole(translated(born=1000), 2000) + whole(other, 2000) + END
    assert hosts(text, 1500, proto=asked[0]) == asked[1]


def test_hosts_that_share_a_port_are_told_apart_by_the_remote_end() -> None:
    other = translated("192.168.1.9", remote="198.51.100.81", born=1000)
    text = begun() + whole(translated(born=1000), 2000) + whole(other, 2000) + END
    assert hosts(text, 1500) == [HOST, "192.168.1.9"]
    assert hosts(text, 1500, remote=("198.51.100.81", 0)) == ["192.168.1.9"]
    assert hosts(text, 1500, remote=("198.51.100.81", 80)) == ["192.168.1.9"]
    assert hosts(text, 1500, remote=("198.51.100.81", 443)) == []


def test_icmp_by_its_identifier_and_without_a_remote_port() -> None:
    text = begun() + whole(translated(proto=IPPROTO_ICMP, port=77, outer_port=77, born=1000), 2000) + END
    text = text.replace(b'"id":80}', b'"id":77}')
    ((holder,), _, _) = answer(text, 1500, port=77)
    assert (holder.inside_port, holder.remote) == (77, (REMOTE, 0))


def test_a_forwarded_port() -> None:
    ct = translated()
    ct.original, ct.reply = ct.reply, ct.original
    ct.status = IPS_CONFIRMED | IPS_DST_NAT
    new = Connections([Event(IPCT_NEW, 10, 0, ct)], ["nat[1]"], BEGIN, False).lines(0, 1, Texts())
    ((holder,), _, _) = answer(begun() + new + END, 20)
    assert (holder.kind, holder.inside, holder.inside_port, holder.remote) == ("destination", HOST, 4711, (REMOTE, 80))


def test_nobody_only_if_the_log_covers_the_time() -> None:
    text = begun(1000) + END
    assert [answer(text, at)[2] == "" for at in (999, 1001, 100_000, 100_001)] == [False, True, True, False]
    assert "the log begins at 2026-11-22T10:03:01.000Z" in answer(text, 0)[2]
    assert answer(b"", 0)[2] == "the log is empty"


def test_a_log_that_begins_without_a_list_does_not_know_what_was_open() -> None:
    text = head("FILE", 0) + END
    assert "connections that were open then are not known" in answer(text, 50_000)[2]
    assert answer(text + note("LIST", 60_000) + note("LISTED", 60_001), 70_000)[2] == ""


def test_lost_lines_are_mended_by_a_list() -> None:
    lost = note("LOST", 5000, lines=3, since="2026-11-22T10:03:04.000Z")
    listed = note("LIST", 6000) + line("OPEN", translated(born=4500), 6001) + note("LISTED", 6002)
    text = begun() + lost + listed + END
    why = "3 lines were lost, between 2026-11-22T10:03:04.000Z and 2026-11-22T10:03:05.000Z"
    assert [answer(text, at)[2] for at in (3999, 4000, 5000, 5001, 7000)] == ["", why, why, "", ""]
    assert hosts(text, 4600) == [HOST]


def test_a_list_with_lost_lines_in_it_mends_nothing() -> None:
    text = begun() + note("LOST", 5000, lines=1) + note("LIST", 6000) + note("LOST", 6001, lines=1)
    assert answer(text + note("LISTED", 6002) + END, 7000)[2] != ""


def test_one_whose_end_was_lost_is_only_possible() -> None:
    text = begun() + line("NEW", translated(born=1000), 1000) + note("LOST", 5000, lines=3)
    listed = note("LIST", 6000) + note("LISTED", 6001)
    ((holder,), certain, _) = answer(text + listed + END, 5500)
    assert (holder.gone, certain) == (BEGIN + 6000, [False])
    assert answer(text + listed + END, 4000)[1] == [True]
    assert answer(text + listed + END, 6001)[0] == []
    assert answer(text + END, 50_000)[1] == [False]


def test_a_crash_is_a_gap_and_a_stop_is_none() -> None:
    crashed = begun() + note("MARK", 4000) + head("START", 6000, run="two") + note("LIST", 6000) + note("LISTED", 6000)
    stopped = begun() + note("STOP", 4000, run="one") + head("START", 6000, run="two")
    assert "without writing its last lines" in answer(crashed + END, 5000)[2]
    assert answer(crashed + END, 3000)[2] == ""
    assert answer(crashed + END, 7000)[2] == ""
    assert answer(stopped + END, 5000)[2] == ""


def test_after_a_reboot_nobody_is_open() -> None:
    text = begun() + line("NEW", translated(born=1000), 1000) + note("STOP", 4000, run="one")
    text += head("START", 60_000, run="two") + note("LIST", 60_000) + note("LISTED", 60_000) + END
    assert hosts(text, 70_000) == []
    assert answer(text, 3000)[1] == [True]
    assert answer(text, 50_000)[1] == [False]


def test_the_same_tuples_again() -> None:
    again = translated(born=5000)
    text = begun() + line("NEW", translated(born=1000), 1000) + whole(again, 6000) + END
    first, second = answer(text, 4000, until=5500)[0]
    assert (first.gone, second.since, second.until) == (BEGIN + 5000, BEGIN + 5000, BEGIN + 6000)


def test_while_connections_are_not_logged_nobody_is_not_known() -> None:
    text = begun() + head("RELOAD", 2000, connections=False) + head("RELOAD", 3000)
    text += note("LIST", 3000) + note("LISTED", 3000) + END
    assert [bool(answer(text, at)[2]) for at in (1000, 2500, 3001)] == [False, True, False]
    off = begun() + note("STOP", 2000, run="one", off=True) + head("START", 3000, run="one") + END
    assert "nothing was logged" in answer(off, 2500)[2]
    assert "no connections were logged" in answer(head("FILE", 0, connections=False) + END, 2500)[2]


def test_a_clock_that_was_set_is_noted() -> None:
    text = begun() + note("MARK", 50_000) + note("CLOCK", 10_000, step=-40.0) + END
    search = Search(Question(OUTER, 1024, Span(BEGIN + 20_000, BEGIN + 20_000)))
    for one in text.splitlines(keepends=True):
        search.line(one)
    assert search.notes == [
        "the router's clock was set by -40.000 s at 2026-11-22T10:03:10.000Z, so times near it are uncertain"
    ]


def test_damaged_lines_are_gaps() -> None:
    text = begun() + note("MARK", 4000) + b"\0\0\n" + note("MARK", 6000)
    assert [answer(text, at)[2] != "" for at in (3000, 5000)] == [False, True]
    assert answer(begun() + note("MARK", 4000) + line("NEW", translated(), 0)[:-40] + b"\n", 4000)[2] != ""
    search = Search(Question(OUTER, 1, Span(0, 0)))
    assert not search.line(line("NEW", translated(), 0).replace(b'"dport":1024', b'"dport":"x"'))


def test_a_newer_version_is_not_trusted() -> None:
    assert "newer version" in answer(begun() + head("START", 5000, version=2) + END, 50_000)[2]


def block(allocated: bool, inside: str, at: int) -> bytes:
    event = BlockEvent(allocated, packed_address(inside), packed_address(OUTER), 1024, 1535, "nat[2]", at)
    return block_line(event, BEGIN, Texts())


def test_blocks() -> None:
    text = (
        begun() + block(True, "100.64.0.1", 1000) + block(False, "100.64.0.1", 2000) + block(True, "100.64.0.2", 3000)
    )
    assert [hosts(text + END, at, port=1535) for at in (500, 1500, 2500, 4000)] == [
        *([], ["100.64.0.1"], [], ["100.64.0.2"])
    ]
    ((holder,), certain, _) = answer(text + END, 1500)
    assert (holder.kind, holder.outer, holder.rule, certain) == ("block", (OUTER, 1024, 1535), "nat[2]", [True])
    assert hosts(text + END, 4000, port=1536) == []


def test_the_host_of_a_block_or_slice_is_the_only_one() -> None:
    text = head("START", 0, connections=False) + note("LIST", 1) + note("LISTED", 2) + block(True, "100.64.0.1", 1000)
    text += block(False, "100.64.0.1", 2000) + END
    assert [answer(text, at, until)[2] for at, until in ((1500, 1600), (1500, 2001))] == [
        "",
        "no connections were logged",
    ]
    text = head("START", 0, connections=False, rules=[RULE]) + END
    assert answer(text, 1500, port=2000)[2] == ""
    assert answer(text, 1500, port=500)[2] == "no connections were logged"


def test_a_block_whose_beginning_is_not_in_the_log() -> None:
    ((holder,), _, _) = answer(begun() + block(False, "100.64.0.1", 2000) + END, 500)
    assert (holder.since, holder.until) == (0, BEGIN + 2000)


def test_a_block_that_is_allocated_at_the_end() -> None:
    text = head("START", 0, connections=False) + block(True, "100.64.0.1", 1000)
    assert answer(text + END, 50_000)[1:] == ([True], "")
    assert answer(text + head("RELOAD", 2000, connections=False, blocks=False) + END, 50_000)[1] == [False]


def test_a_block_that_another_host_has_was_released() -> None:
    text = begun() + block(True, "100.64.0.1", 1000) + block(True, "100.64.0.2", 3000) + END
    assert hosts(text, 4000) == ["100.64.0.2"]
    assert answer(text, 2000)[1] == [False]


RULE = {"rule": "nat[3]", "source": ["100.64.0.0", "100.64.0.255"], "to": [OUTER, OUTER], "ports": [1024, 65535]}


def test_deterministic_rules_of_that_time() -> None:
    text = begun() + head("RELOAD", 2000, rules=[RULE]) + head("FILE", 3000, rules=[RULE]) + head("RELOAD", 4000) + END
    assert [hosts(text, at, port=2000) for at in (1000, 2000, 3500, 4500)] == [[], ["100.64.0.3"], ["100.64.0.3"], []]
    ((holder,), certain, _) = answer(text, 1000, until=5000, port=2000)
    assert (holder.kind, holder.outer, certain) == ("deterministic", (OUTER, 1780, 2031), [True])
    assert hosts(text, 2500, port=500) == []


@pytest.mark.parametrize("rule", [RULE | {"to": ["x", "y"]}, RULE | {"ports": [5, 4]}, RULE | {"ports": [1024, 1025]}])
def test_a_rule_that_makes_no_sense_has_no_answer(rule: dict[str, object]) -> None:
    assert hosts(begun() + head("RELOAD", 2000, rules=[rule]) + END, 2500, port=2000) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    text = begun() + b"".join(line("NEW", translated(remote_port=port), 0) for port in range(1, 6)) + END
    found, _, unknown = answer(text, 1)
    assert (len(found), unknown) == (3, "more than 3 connections had it")


def test_it_stops_reading_when_nothing_can_change() -> None:
    search = Search(Question(OUTER, 1024, Span(BEGIN + 1500, BEGIN + 1500)))
    text = begun() + whole(translated(born=1000), 2000) + note("MARK", AHEAD)
    for one in text.splitlines(keepends=True):
        search.line(one)
        assert not search.answered()
    search.line(note("MARK", AHEAD + 1501))
    assert search.answered()

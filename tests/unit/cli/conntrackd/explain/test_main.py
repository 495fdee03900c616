"""`conntrackd-py explain` of captures made here: the figures in its output, and each problem by its name."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conntrackd_py.cli.conntrackd.explain.capture import Captured
from conntrackd_py.cli.conntrackd.explain.replay import Replay
from conntrackd_py.cli.conntrackd.explain.show import Screen
from conntrackd_py.cli.conntrackd.main import main
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from tests.support import captures, packets
from tests.support.captures import Timed
from tests.support.router import Router
from tests.support.stage import Stage, play

C, S = "192.168.1.2", "10.0.0.2"


def client(flags: str, seq: int = 101, ack: int = 301, data: bytes = b"", port: int = 40000) -> bytes:
    return packets.tcp(C, S, port, 80, flags, seq=seq, ack=ack, data=data)


def server(flags: str, seq: int = 301, ack: int = 101, data: bytes = b"") -> bytes:
    return packets.tcp(S, C, 80, 40000, flags, seq=seq, ack=ack, data=data)


HANDSHAKE: list[Timed] = [
    (0.00, client("S", seq=100, ack=0)),
    (0.01, server("SA", seq=300, ack=101)),
    (0.02, client("A")),
]


class Explained:
    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = tmp_path / "a.pcap"
        self.capsys = capsys

    def text(self, timed: list[Timed], *options: str, **how: Any) -> str:
        assert main(["explain", str(captures.pcap(self.path, timed, **how)), *options]) == 0
        out = self.capsys.readouterr().out
        assert all(len(line) == len(line.rstrip()) for line in out.splitlines())
        return out

    def json(self, timed: list[Timed], *options: str, **how: Any) -> tuple[list[Any], Any]:
        lines = [json.loads(line) for line in self.text(timed, "--json", *options, **how).splitlines()]
        return lines[:-1], lines[-1]["summary"]

    def reasons(self, timed: list[Timed], *options: str, **how: Any) -> list[str]:
        """The reasons and then the remarks of the last packet."""
        packet = self.json(timed, *options, **how)[0][-1]
        return [*(reason["why"] for reason in packet["reasons"]), *packet["remarks"]]


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explained:
    return Explained(tmp_path, capsys)


# --- the figures ----------------------------------------------------------------------------------------


def test_figure_8(explain: Explained) -> None:
    ping = [(0.0, packets.icmp(C, S, 8, 0, 42, 1)), (0.5, packets.icmp(S, C, 0, 0, 42, 1))]
    text = explain.text([*ping, (40.0, packets.udp(C, S, 1, 2))])
    assert text.startswith(
        """\
#1  0.000000  icmp 192.168.1.2 > 10.0.0.2 echo request id 42 seq 1
    PRE_ROUTING → FORWARD → POST_ROUTING +CONFIRMED
    ctinfo   NEW
    status   +CONFIRMED
    timeout  - → 30 s

#2  0.500000  icmp 10.0.0.2 > 192.168.1.2 echo reply id 42 seq 1
    PRE_ROUTING +SEEN_REPLY → FORWARD → POST_ROUTING
    ctinfo   ESTABLISHED_REPLY
    status   +SEEN_REPLY CONFIRMED
    timeout  29.5 s → 30 s

--  30.500000  icmp 192.168.1.2 > 10.0.0.2: timeout: +DYING, removed from the table
"""
    )


def facts(packet: Any) -> tuple[object, ...]:
    after = packet["after"]
    gained = {bit for bits in packet["gained"].values() for bit in bits}
    return packet["ctinfo"], after["state"], round(after["timeout"]), gained


def test_figure_10(explain: Explained) -> None:
    query, answer = packets.udp(C, S, 1000, 53, b"q"), packets.udp(S, C, 53, 1000, b"a")
    found, summary = explain.json([(0.0, query), (0.02, answer)])
    assert [facts(packet) for packet in found] == [
        ("NEW", "", 30, {"CONFIRMED"}),
        ("ESTABLISHED_REPLY", "", 30, {"SEEN_REPLY"}),
    ]
    assert summary["left"] == [{"connection": "udp 192.168.1.2:1000 > 10.0.0.2:53", "ends_after": 30.0}]


def test_figures_12_13_and_14(explain: Explained) -> None:
    rest = [
        client("PA", data=b"GET /"),
        server("A", ack=106),
        client("FA", seq=106),
        server("FA", ack=107),
        client("A", seq=107, ack=302),
    ]
    found, _ = explain.json([*HANDSHAKE, *((1.0 + at, data) for at, data in enumerate(rest))])
    assert [facts(packet) for packet in found] == [
        ("NEW", "SYN_SENT", 120, {"CONFIRMED"}),
        ("ESTABLISHED_REPLY", "SYN_RECV", 60, {"SEEN_REPLY"}),
        ("ESTABLISHED", "ESTABLISHED", 432000, {"ASSURED"}),
        ("ESTABLISHED", "ESTABLISHED", 300, set()),
        ("ESTABLISHED_REPLY", "ESTABLISHED", 432000, set()),
        ("ESTABLISHED", "FIN_WAIT", 120, set()),
        ("ESTABLISHED_REPLY", "LAST_ACK", 30, set()),
        ("ESTABLISHED", "TIME_WAIT", 120, set()),
    ]
    assert [packet["before"] and packet["before"]["state"] for packet in found][:4] == [
        None,
        "SYN_SENT",
        "SYN_RECV",
        "ESTABLISHED",
    ]


# --- each problem by its name ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (
            server("R", seq=5, ack=0),
            "INVALID: RST with SEQ 5, but its receiver has acknowledged up to 301: it is old",
        ),
        (client("A", seq=900_000), "INVALID: SEQ 900000 is over the upper bound 65636 by 834364"),
        (
            client("A", ack=5001),
            "INVALID: ACK 5001 is over the upper bound 301 by 4700: it acknowledges data that was not",
        ),
        (packets.broken(client("PA", data=b"x")), r"INVALID: checksum 0x\w{4} is wrong, 0x\w{4} would be right"),
        (client("S", seq=100, ack=0), "IGNORED: SYN in the original direction while ESTABLISHED"),
        (client("A", port=40001), "^$"),
    ],
)
def test_a_packet_after_the_handshake(explain: Explained, packet: bytes, words: str) -> None:
    found = "; ".join(explain.reasons([*HANDSHAKE, (1.0, packet)]))
    assert re.match(words, found), found


def test_a_retransmission(explain: Explained) -> None:
    data = client("PA", data=b"GET /")
    assert explain.reasons([*HANDSHAKE, (1.0, data), (1.3, data)]) == [
        "a retransmission: SEQ 101 to 106 was sent before, the highest so far is 106"
    ]
    assert explain.reasons([HANDSHAKE[0], (1.0, HANDSHAKE[0][1])]) == [
        "a retransmission: SYN was sent before, the highest so far is 101"
    ]
    assert explain.reasons([*HANDSHAKE, (60.0, client("A", seq=100))]) == ["a keepalive: it repeats the last byte"]


def test_a_one_sided_flow(explain: Explained) -> None:
    one_way = [(float(at), client("A", seq=101 + at)) for at in range(12)]
    assert explain.json(one_way)[1]["hints"] == [
        "tcp 192.168.1.2:40000 → 10.0.0.2:80: 12 packets, all client→server: one-sided, asymmetric routing?"
    ]
    answers = [(0.0, server("SA", seq=300)), (1.0, server("PA", data=b"x"))]
    assert "2 packets, all server→client" in explain.json(answers)[1]["hints"][0]
    assert "all SYN, no answer" in explain.json([HANDSHAKE[0]])[1]["hints"][0]
    silent = [(float(at), packets.udp(C, S, 1, 2)) for at in range(3)]
    assert "3 packets, all client→server: no answer" in explain.json(silent)[1]["hints"][0]
    assert explain.json(HANDSHAKE)[1]["hints"] == []


def test_a_connection_that_expired_in_use(explain: Explained) -> None:
    late = [*HANDSHAKE, (432_014.02, client("PA", data=b"still here"))]
    words = (
        "its tcp connection timed out after 432000 s without a packet, 14 s before this one; "
        "a keepalive every 216000 s would have saved it"
    )
    assert explain.reasons(late) == [words]
    found, summary = explain.json(late)
    assert found[-1]["ended"][0]["reason"] == "timeout"
    assert summary["reasons"] == {"expired_in_use": 1}
    assert summary["hints"][0].endswith(words)
    assert f"    hint     {words}" in explain.text(late)


# --- captures are not what a router sees ----------------------------------------------------------------


def test_a_capture_cut_short_is_not_accused_of_its_checksums(explain: Explained) -> None:
    data = client("PA", data=bytes(range(1, 200)))
    text = explain.text([*HANDSHAKE, (1.0, data)], snaplen=14 + 60)
    assert "capture  179 bytes were not captured; the checksum is not verified" in text
    assert "INVALID" not in text
    assert "cut by the capture  1" in text
    text = explain.text([*HANDSHAKE, (1.0, data)], snaplen=14 + 30)
    assert "its headers were not captured completely; it is not tracked" in text


def test_checksums_that_a_network_card_was_to_fill_in(explain: Explained) -> None:
    sent = [(at, packets.broken(data)) for at, data in ((0.0, client("S")), (1.0, client("S")), (2.0, client("S")))]
    hints = explain.json(sent)[1]["hints"]
    assert any(hint.startswith("every checksum of 192.168.1.2 is wrong (3 packets)") for hint in hints)
    found, _ = explain.json(sent, "--no-checksum")
    assert [packet["ctinfo"] for packet in found] == ["NEW"] * 3


def test_a_stuck_clock_never_runs_backwards(explain: Explained) -> None:
    found, _ = explain.json([(10.0, HANDSHAKE[0][1]), (9.0, HANDSHAKE[1][1])])
    assert found[1]["before"]["timeout"] == 120


# --- what is shown --------------------------------------------------------------------------------------


def test_only_problems_and_only_some(explain: Explained) -> None:
    timed = [*HANDSHAKE, (1.0, client("A", ack=5001)), (2.0, packets.udp(C, "10.0.0.9", 7, 8))]
    numbers = {
        options: [packet["number"] for packet in explain.json(timed, *options)[0]]
        for options in [("--only-problems",), ("--host", "10.0.0.9"), ("--port", "80"), ("--proto", "udp")]
    }
    assert list(numbers.values()) == [[4], [5], [1, 2, 3, 4], [5]]
    assert explain.text(timed, "--only-problems").startswith("#4  1.000000  tcp")


def test_a_configuration_with_nat(explain: Explained, tmp_path: Path) -> None:
    """Its tunables always; its rules with --inside."""
    config = tmp_path / "c.toml"
    config.write_text(
        '[tunables]\nnf_conntrack_udp_timeout = 7\n[[nat]]\naction = "MASQUERADE"\nout_interface = "wan0"\n'
    )
    query = [(0.0, packets.udp(C, S, 1000, 53, b"q"))]
    (plain,), _ = explain.json(query, "-c", str(config))
    assert (plain["after"]["timeout"], plain["gained"]["POST_ROUTING"]) == (7.0, ["CONFIRMED"])
    options = ("-c", str(config), "--inside", "192.168.1.0/24", "--address", "203.0.113.1")
    assert "leaves   udp 203.0.113.1:1000 > 10.0.0.2:53 len 1" in explain.text(query, *options)
    (translated,), _ = explain.json(query, *options)
    assert translated["gained"]["POST_ROUTING"] == ["CONFIRMED", "SRC_NAT", "SRC_NAT_DONE"]
    (dropped,), _ = explain.json(query, *options[:4])
    assert (dropped["verdict"], dropped["reasons"][0]["reason"]) == ("drop", "nat_no_address")


def test_what_a_step_changes_is_bold_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    replay = Replay(Engine(Tunables(), Repeatable(), mode="track"), [])
    out = io.StringIO()
    screen = Screen(Console(file=out, force_terminal=True, highlight=False), 0)
    for number, (at, data) in enumerate(HANDSHAKE, 1):
        screen.step(replay.step(Captured(number, int(at * 1000), data)))
    assert "SEEN_REPLY\x1b[1m +ASSURED\x1b[0m CONFIRMED" in out.getvalue()
    assert "SYN_RECV → \x1b[1mESTABLISHED\x1b[0m" in out.getvalue()


def test_of_a_daemon_what_it_refused_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    router = Router()
    router.established()

    def ask(*options: str) -> str:
        async def scene(stage: Stage) -> None:
            words = ["explain", "--recent", "--socket", str(stage.path), *options]
            assert await asyncio.to_thread(main, words) == 0

        play(tmp_path / "control.sock", scene, router=router)
        return capsys.readouterr().out

    assert ask() == "no packet was refused, ignored or dropped yet\n"
    for ack in (101, 102):
        refused = Skb(packets.tcp("10.0.0.1", "10.0.0.2", 40000, 80, "A", seq=2, ack=ack), indev=1)
        router.engine.handle(refused, PRE_ROUTING, router.now)
    lines = ask("--last", "1").splitlines()
    assert re.fullmatch(r"#2  \S+ \S+  PRE_ROUTING  tcp_ack_over_window", lines[0])
    assert lines[1:4] == [
        "    tcp 10.0.0.1:40000 > 10.0.0.2:80 [.] seq 2 ack 102 win 65535 len 0",
        "    INVALID: ACK 102 is over the upper bound 2 by 100: it acknowledges data that was not sent",
        "    connection 1 ESTABLISHED SEEN_REPLY ASSURED CONFIRMED, 432000 s left",
    ]
    found = [json.loads(line) for line in ask("--json").splitlines()]
    assert [note["numbers"] for note in found] == [[101, 2, 65535], [102, 2, 65535]]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 2), (["a.pcap", "--recent"], 2), (["absent.pcap"], 1), (["--recent", "--socket", "/absent"], 1)],
)
def test_what_cannot_be_explained(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == status
    assert capsys.readouterr().err.startswith("conntrackd-py explain: ")

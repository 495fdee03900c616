"""`conntrackd-py explain` of captures made here: the figures in its output, and each problem by its name."""

from __future__ import annotations

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
from conntrackd_py.cli.conntrackd.explain.sightings import Sighting
from conntrackd_py.cli.conntrackd.main import main
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.engine.engine import Engine
from conntrackd_py.settings.schema import TRACK, Settings
from tests.support import captures, packets
from tests.support.captures import Timed

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
        return [*(reason["why"] for reason in packet["reasons"]), *packet["hints"]]


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
    assert any(hint.startswith("3 of 3 checksums of 192.168.1.2 are wrong") for hint in hints)
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
    assert [packet["number"] for packet in explain.json(timed, "--host", "10.0.0.8/29", "--proto", "17")[0]] == [5]
    assert [packet["number"] for packet in explain.json(timed, "--reason", "tcp_ack_over_window")[0]] == [4]
    assert explain.json(timed, "--port", "80")[1]["not_shown"] == {"by": ["--port"], "packets": 1}
    assert "not shown           1 packets, because of --port --proto" in explain.text(
        timed, "--port", "80", "--proto", "tcp"
    )
    assert "not_shown" not in explain.json(timed, "--only-problems")[1]
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
    replay = Replay(Engine(Tunables(), Repeatable(), mode="track"), [], Settings(mode=TRACK), [])
    out = io.StringIO()
    screen = Screen(Console(file=out, force_terminal=True, highlight=False), 0)
    for number, (at, data) in enumerate(HANDSHAKE, 1):
        screen.step(replay.step(Sighting(Captured(number, int(at * 1000), data))))
    assert "SEEN_REPLY\x1b[1m +ASSURED\x1b[0m CONFIRMED" in out.getvalue()
    assert "SYN_RECV → \x1b[1mESTABLISHED\x1b[0m" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 2),
        (["a.pcap", "--recent"], 2),
        (["--follow", "--recent"], 2),
        (["--follow", "--only-problems"], 2),
        (["a.pcap", "--last", "3"], 2),
        (["absent.pcap"], 1),
        (["--recent", "--socket", "/absent"], 1),
        (["--follow", "--socket", "/absent"], 1),
    ],
)
def test_what_cannot_be_explained(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == status
    assert capsys.readouterr().err.startswith("conntrackd-py explain: ")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--host", "1.2.3", "Invalid IP address `1.2.3'"),
        ("--proto", "foo", "unknown protocol foo (known: icmp, tcp, udp, "),
        ("--proto", "256", "256 is not from 0 to 255"),
        ("--port", "65536", "65536 is not from 0 to 65535"),
        ("--reason", "foo", "invalid choice: 'foo'"),
    ],
)
def test_a_filter_that_can_match_nothing(
    option: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "a.pcap", option, value])
    assert f"argument {option}: {words}" in capsys.readouterr().err


# --- captures of a router -------------------------------------------------------------------------------

R = "203.0.113.1"
ANY_INTERFACE = 276
CLIENT_ENDS = ((C, 40000), (R, 61000))  # before and after source NAT


def on(data: bytes, interface: int, sent: bool) -> bytes:
    """The packet in a capture of all interfaces."""
    return captures.frame(data, ANY_INTERFACE, interface=interface, sent=sent)


def both_sides(at: float, inside: bytes, outside: bytes, *, inbound: bool = False) -> list[Timed]:
    """A packet as it arrives and as it leaves; a sent one has lost a hop."""
    if inbound:
        return [(at, on(outside, 3, sent=False)), (at + 0.001, on(packets.hop(inside), 2, sent=True))]
    return [(at, on(inside, 2, sent=False)), (at + 0.001, on(packets.hop(outside), 3, sent=True))]


def request(at: float, flags: str, seq: int, ack: int, data: bytes = b"") -> list[Timed]:
    """A packet of the client, as it arrives and as it leaves with source NAT."""
    inside, outside = (
        packets.tcp(source, S, port, 80, flags, seq=seq, ack=ack, data=data) for source, port in CLIENT_ENDS
    )
    return both_sides(at, inside, outside)


def answer(at: float, flags: str, seq: int, ack: int, data: bytes = b"") -> list[Timed]:
    inside, outside = (
        packets.tcp(S, target, 80, port, flags, seq=seq, ack=ack, data=data) for target, port in CLIENT_ENDS
    )
    return both_sides(at, inside, outside, inbound=True)


DOWNLOAD: list[Timed] = [
    *request(0.00, "S", 100, 0),
    *answer(0.01, "SA", 300, 101),
    *request(0.02, "A", 101, 301),
    *request(0.03, "PA", 101, 301, b"GET /"),
    *answer(0.04, "PA", 301, 106, b"x" * 1000),
    *request(0.05, "A", 106, 1301),
]


def test_a_healthy_download_on_both_sides_of_a_router(explain: Explained) -> None:
    """Each packet counts once; the connection is translated as the capture shows."""
    found, summary = explain.json(DOWNLOAD, linktype=ANY_INTERFACE, framed=True)
    first = found[::2]
    assert [packet["ctinfo"] for packet in first] == [
        "NEW",
        "ESTABLISHED_REPLY",
        "ESTABLISHED",
        "ESTABLISHED",
        "ESTABLISHED_REPLY",
        "ESTABLISHED",
    ]
    assert "SRC_NAT" in first[0]["gained"]["POST_ROUTING"]
    assert [packet["seen_before"] for packet in found[1::2]] == [1, 3, 5, 7, 9, 11]
    assert (summary["seen_again"], summary["reasons"], summary["hints"]) == (6, {}, [])
    assert [left["connection"] for left in summary["left"]] == [f"tcp {C}:40000 > {S}:80 ESTABLISHED"]
    text = explain.text(DOWNLOAD, linktype=ANY_INTERFACE, framed=True)
    assert f"leaves   tcp {R}:61000 > {S}:80 [S] seq 100 win 65535 len 0" in text
    assert "again    #1 seen again on interface 3, sent" in text


def test_a_capture_that_begins_in_the_middle(explain: Explained) -> None:
    """An answer comes first; and one whose arrival is missing."""
    for begin in (2, 3):
        found, summary = explain.json(DOWNLOAD[begin:], linktype=ANY_INTERFACE, framed=True)
        assert (summary["connections_left"], summary["hints"]) == (1, [])
        assert "ESTABLISHED" in found[-2]["after"]["state"]


def test_a_connection_from_outside(explain: Explained) -> None:
    """Destination NAT, and an ICMP error about the answer."""
    came = [packets.udp(S, target, 5000, port, b"query") for target, port in ((C, 53), (R, 8053))]
    went = [packets.udp(source, S, port, 5000, b"answer") for source, port in ((C, 53), (R, 8053))]
    errors = [packets.icmp(S, target, 3, 3, data=sent[:28]) for target, sent in zip((C, R), went, strict=True)]
    timed = both_sides(0.0, *came, inbound=True)
    timed += both_sides(0.1, *went)
    timed += both_sides(0.2, *errors, inbound=True)
    found, summary = explain.json(timed, linktype=ANY_INTERFACE, framed=True)
    assert [packet["ctinfo"] for packet in found[::2]] == ["NEW", "ESTABLISHED_REPLY", "RELATED"]
    assert "DST_NAT" in found[0]["gained"]["PRE_ROUTING"]
    assert (summary["seen_again"], summary["reasons"]) == (3, {})


def test_a_mapping_that_the_router_used_again(explain: Explained) -> None:
    """The router had ended the first connection: the capture shows its outer port with another client."""
    query = [packets.udp(source, S, port, 53, b"first") for source, port in ((C, 5000), (R, 61000))]
    other = [packets.udp(source, S, port, 53, b"second") for source, port in (("192.168.1.9", 7000), (R, 61000))]
    timed = [*both_sides(0.0, *query), *both_sides(1.5, *other)]
    found, summary = explain.json(timed, linktype=ANY_INTERFACE, framed=True)
    assert [packet["ctinfo"] for packet in found[::2]] == ["NEW", "NEW"]
    assert (found[2]["ended"][0]["reason"], summary["reasons"]) == ("reopened", {})


def test_a_segment_of_a_packet_seen_before_counts_as_seen(explain: Explained) -> None:
    """A network card without segmentation: the second sighting is several packets."""
    whole = packets.tcp(S, R, 80, 61000, "PA", seq=1301, ack=106, data=b"y" * 2000)
    halves = [packets.tcp(S, C, 80, 40000, "PA", seq=at, ack=106, data=b"y" * 1000) for at in (1301, 2301)]
    cut = [(1.0, on(whole, 3, sent=False)), *((1.001, on(packets.hop(half), 2, sent=True)) for half in halves)]
    found, summary = explain.json([*DOWNLOAD, *cut], linktype=ANY_INTERFACE, framed=True)
    assert [packet.get("seen_before", "first") for packet in found[-3:]] == ["first", None, None]
    assert summary["reasons"] == {}


def test_a_capture_of_the_inner_side_only(explain: Explained, tmp_path: Path) -> None:
    """Replies are captured translated back; they get the address with which they arrived."""
    config = tmp_path / "c.toml"
    config.write_text('[[nat]]\naction = "MASQUERADE"\nout_interface = "wan0"\n')
    options = ("-c", str(config), "--inside", "192.168.1.0/24", "--address", R)
    found, summary = explain.json(HANDSHAKE, *options)
    assert [packet["ctinfo"] for packet in found] == ["NEW", "ESTABLISHED_REPLY", "ESTABLISHED"]
    assert found[1]["arrived"]["dst"] == R
    assert summary["reasons"] == {}
    assert f"arrives  tcp {S}:80 > {R}:40000 [S.]" in explain.text(HANDSHAKE, *options)


def test_unfinished_checksums_are_not_verified(explain: Explained) -> None:
    sent = [(at, packets.unfinished(data)) for at, data in HANDSHAKE]
    found, summary = explain.json(sent)
    assert [packet["ctinfo"] for packet in found] == ["NEW", "ESTABLISHED_REPLY", "ESTABLISHED"]
    assert summary["hints"] == [
        "3 packets have an unfinished checksum: their sender left it to a network card; it is not verified"
    ]


def test_fragments_are_tracked_as_one_packet(explain: Explained) -> None:
    data = packets.udp(C, S, 1000, 53, bytes(range(200)))
    pieces = [(float(at), piece) for at, piece in enumerate(packets.fragments(data, 80))]
    found, summary = explain.json(pieces)
    assert [packet.get("judged", True) for packet in found] == [False, False, True]
    assert (found[2]["reassembled_from"], found[2]["ctinfo"]) == ([1, 2, 3], "NEW")
    assert (summary["fragments"], summary["reasons"]) == (2, {})
    text = explain.text(pieces)
    assert "fragment tracked when its packet is complete" in text
    assert "whole    reassembled from #1, #2, #3" in text

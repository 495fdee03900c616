"""Line ends, and how commands are read; what follows from them is in conversations/test_ftp.py."""

import pytest

from conntrackd_py.const import ORIGINAL, REPLY
from conntrackd_py.helpers.ftp import EPRT, EPSV, NOTHING, PASV, PORT, Lines, _command, _written
from tests.support.packets import address


def test_after_a_restart_the_first_segment_of_each_direction_begins_a_line() -> None:
    """Also when it comes again; no other does."""
    lines = Lines(unknown=True)
    assert [lines.begins(ORIGINAL, seq) for seq in (700, 710, 700)] == [True, False, True]
    assert [lines.begins(REPLY, seq) for seq in (9, 700)] == [True, False]


def test_two_line_ends_of_each_direction_are_remembered() -> None:
    lines = Lines()
    for seq in (10, 30, 20, 30, 40, 5):
        lines.ended(ORIGINAL, seq)
    assert [lines.begins(ORIGINAL, seq) for seq in (5, 10, 20, 30, 40)] == [False, False, False, True, True]
    assert not lines.begins(REPLY, 40)


def test_line_ends_around_the_wrap_of_numbers() -> None:
    lines = Lines()
    for seq in (0xFFFFFFF0, 0xFFFFFFFA, 4, 9):
        lines.ended(REPLY, seq)
    assert [lines.begins(REPLY, seq) for seq in (0xFFFFFFFA, 4, 9)] == [False, True, True]


@pytest.mark.parametrize(
    ("payload", "direction", "size", "found"),
    [
        (b"PORT 192,0,2,1,19,137\r\n", ORIGINAL, 4, (PORT, b"192,0,2,1,19,137", "192.0.2.1", 5001)),
        (b"port 192,0,2,1,19,137\r\n", ORIGINAL, 4, (PORT, b"192,0,2,1,19,137", "192.0.2.1", 5001)),
        (b"EPRT |1|192.0.2.1|5001|\r\n", ORIGINAL, 4, (EPRT, b"|1|192.0.2.1|5001|", "192.0.2.1", 5001)),
        (b"EPRT !2!fd00::1!1!\r\n", ORIGINAL, 16, (EPRT, b"!2!fd00::1!1!", "fd00::1", 1)),
        (b"227 Passive (192,0,2,1,0,21)\r\n", REPLY, 4, (PASV, b"192,0,2,1,0,21", "192.0.2.1", 21)),
        (b"227 =192,0,2,1,0,21 x\r\n", REPLY, 4, (PASV, b"192,0,2,1,0,21", "192.0.2.1", 21)),
        (b"229 go (|||65535|)\r\n", REPLY, 16, (EPSV, b"|||65535|", "", 65535)),
    ],
)
def test_commands(payload: bytes, direction: int, size: int, found: tuple[int, bytes, str, int]) -> None:
    command = _command(payload, direction, size)
    assert command is not None
    kind, part, text, port = found
    assert (command.kind, payload[command.at : command.at + command.length], command.port) == (kind, part, port)
    assert command.address == (address(text) if text else b"")


@pytest.mark.parametrize(
    ("payload", "direction", "size"),
    [
        (b"PORT 192,0,2,1,0,0\r\n", ORIGINAL, 4),
        (b"PORT 192,0,2,1,19,137\r\n", ORIGINAL, 16),
        (b"EPRT |2|fd00::1|1|\r\n", ORIGINAL, 4),
        (b"227 x (1,2,3,4,5,6)\r\n", ORIGINAL, 4),
        (b"PASV\r\n", ORIGINAL, 4),
        (b"226 done\r\n", REPLY, 4),
    ],
)
def test_what_means_nothing(payload: bytes, direction: int, size: int) -> None:
    assert _command(payload, direction, size) is NOTHING


@pytest.mark.parametrize(
    ("payload", "direction"),
    [
        (b"227 Passive (192,0,2,1,0,21", REPLY),
        (b"227 no numbers\r\n", REPLY),
        (b"227", REPLY),
        (b"229 go |||1|", REPLY),
        (b"229 go (|||1", REPLY),
        (b"229 go (11111)", REPLY),
        (b"229 go (||x1|)", REPLY),
        (b"EPRT |1|192.0.2.1|70000|\r\n", ORIGINAL),
        (b"EPRT |1|192.0.2.1", ORIGINAL),
        (b"EPRT |1|192.0.2|1|\r\n", ORIGINAL),
        (b"EPRT", ORIGINAL),
    ],
)
def test_what_is_cut_off_or_wrong(payload: bytes, direction: int) -> None:
    assert _command(payload, direction, 4) is None


def test_commands_are_written_as_the_kernel_does() -> None:
    v4, v6 = address("203.0.113.1"), address("2001:db8::1")
    assert _written(PORT, v4, 5001) == b"203,0,113,1,19,137"
    assert _written(PASV, v4, 255) == b"203,0,113,1,0,255"
    assert _written(EPRT, v4, 1) == b"|1|203.0.113.1|1|"
    assert _written(EPRT, v6, 1) == b"|2|2001:0db8:0000:0000:0000:0000:0000:0001|1|"
    assert _written(EPSV, v6, 7) == b"|||7|"

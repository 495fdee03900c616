"""Arguments of the subcommands: wrong values are usage errors, right ones are converted."""

import pytest

from conntrackd_py.cli.conntrackd.main import command_line


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("top -i 0.1", "0.1 is not from 0.5 to 60"),
        ("top -i 61", "61 is not from 0.5 to 60"),
        ("top -i nan", "nan is not from 0.5 to 60"),
        ("top -i soon", "invalid seconds value: 'soon'"),
        ("top --count 0", "0 is not from 1 to 1000000"),
        ("top --hosts 101", "101 is not from 0 to 100"),
        ("top --sort age", "invalid choice: 'age'"),
        ("top -4 -6", "not allowed with argument -4"),
        ("explain --last -1", "-1 is negative"),
        ("explain --inside 10.0.0.0/33", "Invalid netmask `33'"),
        ("explain --address bogus", "bogus"),
    ],
)
def test_wrong_usage(line: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command_line().parse_args(line.split())
    captured = capsys.readouterr()
    assert (left.value.code, captured.out) == (2, "")
    assert why in captured.err


def test_networks_and_addresses_are_packed() -> None:
    args = command_line().parse_args(
        ["explain", "--inside", "10.0.0.0/8", "--inside", "fd00::1", "--address", "192.0.2.1"]
    )
    first, second = args.inside
    assert [first.has(bytes((10, 9, 9, 9))), first.has(bytes((11, 9, 9, 9)))] == [True, False]
    assert [second.has(b"\xfd" + bytes(14) + last) for last in (b"\1", b"\2")] == [True, False]
    assert args.address == b"\xc0\0\2\1"

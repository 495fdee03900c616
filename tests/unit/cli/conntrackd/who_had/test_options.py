"""The arguments of who-had, as values."""

import argparse
from pathlib import Path

import pytest

from conntrackd_py.cli.conntrackd.who_had.options import endpoint, protocol_name, who_had
from conntrackd_py.cli.conntrackd.who_had.times import span
from conntrackd_py.match.address import packed_address


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    who_had(parser)
    return parser.parse_args(words)


def test_the_question() -> None:
    args = parsed("203.0.113.1", "1024", "2026-11-22 10:03", "--log", "a", "--log", "b")
    assert (args.address, args.port) == (packed_address("203.0.113.1"), 1024)
    assert args.time == span("2026-11-22 10:03")
    assert (args.proto, args.destination, args.log, args.json) == (None, None, [Path("a"), Path("b")], False)


@pytest.mark.parametrize(("text", "name"), [("tcp", "tcp"), ("6", "tcp"), ("132", "sctp"), ("99", "99")])
def test_a_protocol_is_named_as_in_the_log(text: str, name: str) -> None:
    assert protocol_name(text) == name


def test_a_remote_end() -> None:
    assert endpoint("198.51.100.7") == (packed_address("198.51.100.7"), None)
    assert endpoint("[2001:db8::1]:80") == (packed_address("2001:db8::1"), 80)
    with pytest.raises(argparse.ArgumentTypeError, match="Invalid"):
        endpoint("198.51.100.7:80x")

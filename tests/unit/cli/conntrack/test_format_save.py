"""-o save: the command that makes the connection, which -R reads back as the same connection."""

from __future__ import annotations

from conntrackd_py.cli.conntrack import request
from conntrackd_py.cli.conntrack.format_save import save_line
from conntrackd_py.cli.conntrack.parse import parse
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.control import view
from conntrackd_py.control.server import ControlServer
from conntrackd_py.engine.engine import Engine

ENDS = "-s 10.0.0.1 -d 10.0.0.2"
ENDS6 = "-s fd00::1 -d fd00::2"

# After -A.
LINES = (
    (f"-t 9 -u UNSET {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p udp --sport 1 --dport 2 --reply-port-src 2 --reply-port-dst 1"),
    (
        f"-t 9 -u SEEN_REPLY,ASSURED,FIXED_TIMEOUT {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p udp --sport 3 --dport 2 "
        "--reply-port-src 2 --reply-port-dst 3"
    ),
    (
        f"-t 9 -u UNSET -w 5 {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p udp --sport 1 --dport 2 --reply-port-src 2 "
        "--reply-port-dst 1"
    ),
    (
        f"-t 9 -u UNSET --orig-zone 5 {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p udp --sport 4 --dport 2 --reply-port-src 2 "
        "--reply-port-dst 4"
    ),
    (
        f"-t 9 -u UNSET {ENDS} -r 10.0.0.2 -n 192.0.2.1 -p udp --sport 5 --dport 2 --reply-port-src 2 "
        "--reply-port-dst 99"
    ),
    (
        f"-t 9 -u UNSET {ENDS} -g 192.0.2.2 -q 10.0.0.1 -p tcp --sport 6 --dport 2 --reply-port-src 98 "
        "--reply-port-dst 6 --state SYN_SENT"
    ),
    (
        f"-t 9 -u UNSET {ENDS} -g 192.0.2.2 -n 192.0.2.1 -p udp --sport 7 --dport 2 --reply-port-src 98 "
        "--reply-port-dst 97"
    ),
    (f"-t 9 -u UNSET {ENDS6} -r fd00::2 -n fd00::9 -p udp --sport 5 --dport 2 --reply-port-src 2 --reply-port-dst 99"),
    (
        f"-t 9 -u UNSET {ENDS} -r 192.0.2.3 -q 192.0.2.4 -p udp --sport 8 --dport 2 --reply-port-src 9 "
        "--reply-port-dst 10"
    ),
    f"-t 9 -u UNSET {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 3",
    f"-t 9 -u UNSET {ENDS6} -r fd00::2 -q fd00::1 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 3",
    f"-t 9 -u UNSET {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p gre --srckey 1 --dstkey 2 --reply-key-src 2 --reply-key-dst 1",
    (
        f"-t 9 -u UNSET {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p sctp --sport 1 --dport 2 --reply-port-src 2 "
        "--reply-port-dst 1 --state ESTABLISHED --orig-vtag 16777216 --reply-vtag 4278190080"
    ),
    f"-t 9 -u UNSET {ENDS} -r 10.0.0.2 -q 10.0.0.1 -p 2",
)


class Table:
    """An empty one that translates, and the orders of a client to it."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.engine = Engine(Tunables(), Repeatable())
        self.orders = ControlServer(self.engine, lambda: self.now, path="unused").commands.editor

    def saved(self, line: str) -> str:
        ct = self.orders.create(request.creation(parse(["-A", *line.split()]).values))
        assert ct is not None
        return save_line(view.connection(ct, self.now, False))


def test_what_is_read_back_is_saved_alike() -> None:
    table = Table()
    for line in LINES:
        assert table.saved(line) == f"-A {line}"


def test_a_mark_and_labels_are_not_saved_as_by_conntrack8() -> None:
    table = Table()
    made = table.saved(f"-t 9 {ENDS} -p udp --sport 1 --dport 2 -m 7 --label-add 3")
    assert "-m" not in made.split()
    assert "label" not in made


def test_the_command_of_an_event() -> None:
    table = Table()
    ct = table.orders.create(request.creation(parse(["-A", *LINES[0].split()]).values))
    assert ct is not None
    assert save_line(view.connection(ct, table.now, False), "-D").startswith("-D -t 9 ")

"""Command lines with another exit status than in conntrack(8), on purpose: for the manual page and the tests."""

from typing import Final, NamedTuple


class Difference(NamedTuple):
    """The exit statuses of conntrack(8) and of conntrack-py."""

    line: str
    conntrack_status: int
    status: int
    why: str


DIFFERENCES: Final = tuple(
    Difference(*fields)
    for fields in (
        ("-L -p udp --sport bogus", 0, 2, "reports an invalid number; conntrack(8) silently uses 0"),
        ("-L -w 70000", 0, 2, "reports a number that is too large; conntrack(8) truncates it"),
        ("-L -m 1/", 0, 2, "reports an empty mask; conntrack(8) silently uses 0"),
        ("-D -p udp --dport bogus", 1, 2, "reports an invalid number and deletes nothing"),
        ("-D -t 5", 0, 1, "a timeout is a filter, also without other filters"),
        ("-L conntrack bogus", 0, 2, "reports an extra word"),
        ("-L --sport 1 -p tcp", 2, 0, "options may come before -p"),
        ("-L -u UNSET", 1, 0, "UNSET matches as -o save prints it"),
        ("-U -m 5", 1, 0, "an update needs no -f"),
        ("-U -f ipv4 -p udp -n 192.0.2.1 -m 9", 1, 0, "updates translated connections too"),
        (
            "-U -s 10.1.1.1 -p udp --sport 13 -t 5",
            0,
            1,
            "a fixed timeout cannot be updated and is not counted as updated",
        ),
        (
            "-U -s 10.1.1.1 -p udp --sport 1 -u EXPECTED",
            0,
            1,
            "a status that only packets set is not counted as updated",
        ),
        ("-U -s 10.1.1.1 -p udp --sport 1 -u OFFLOAD", 0, 1, "an unchanged connection is not counted as updated"),
        ("-L -o json", 2, 0, "json is not in conntrack(8)"),
        ("-C -o json", 2, 0, "json is not in conntrack(8)"),
    )
)

"""Lines that conntrack-py answers otherwise than conntrack(8), on purpose: for the manual page, and to be tested."""

from typing import Final, NamedTuple


class Departure(NamedTuple):
    """theirs, ours: the exit statuses."""

    line: str
    theirs: int
    ours: int
    why: str


DEPARTURES: Final = tuple(
    Departure(*fields)
    for fields in (
        ("-L -p udp --sport bogus", 0, 2, "a number that is none is told, not taken for 0"),
        ("-L -w 70000", 0, 2, "a number that is too large is told, not cut off"),
        ("-L -m 1/", 0, 2, "a mask that is empty is told, not taken for 0"),
        ("-D -p udp --dport bogus", 1, 2, "a number that is none is told, above all where it decides what is deleted"),
        ("-D -t 5", 0, 1, "a timeout filters, also when nothing else does"),
        ("-L conntrack bogus", 0, 2, "a word too many is a mistake"),
        ("-L --sport 1 -p tcp", 2, 0, "the order of the options does not matter"),
        ("-L -u UNSET", 1, 0, "UNSET means what -o save calls so"),
        ("-U -m 5", 1, 0, "an update needs no -f"),
        ("-U -f ipv4 -p udp -n 192.0.2.1 -m 9", 1, 0, "what is translated can be updated"),
        ("-U -s 10.1.1.1 -p udp --sport 13 -t 5", 0, 1, "a fixed timeout was not updated, so it is not said to be"),
        ("-U -s 10.1.1.1 -p udp --sport 1 -u EXPECTED", 0, 1, "what only packets may set was not updated either"),
        ("-U -s 10.1.1.1 -p udp --sport 1 -u OFFLOAD", 0, 1, "what did not change was not updated"),
        ("-L -o json", 2, 0, "our own form"),
        ("-C -o json", 2, 0, "our own form"),
    )
)

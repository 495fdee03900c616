"""docs/trackers.md, drawn from the tables of the trackers: `.venv/bin/python -m tests.support.diagrams` writes it.

An arrow of a diagram gathers everything that leads from one state to another. Packets that change nothing have none,
and what ends in one state from wherever it is allowed (a RST, an ABORT) is drawn once, from "any state".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.proto import rfc7857, sctp, tcp, tcp_states
from conntrackd_py.wire import sctp as chunks

PAGE = Path(__file__).parent.parent.parent / "docs" / "trackers.md"
COMMAND = ".venv/bin/python -m tests.support.diagrams"
DIRECTIONS = ("original", "reply")
ANY = -1

Move = tuple[int, int, int, str]  # old state, new state, direction, kind of packet

HEAD = f"""# The trackers' state machines

<!-- Written by `{COMMAND}` from the tables in conntrackd_py/proto; tests/test_docs.py compares. -->

A tracker keeps one state for each connection. The router sees packets that one end may never receive. So a state means:
the packets so far allow both ends to be in it. The diagrams leave out arrows to the same state. An arrow from "any
state" holds unless the table below refuses the packet. The timeouts are the defaults; each is a key of `[tunables]`.
"""

TCP = """
## TCP: `netfilter`

The default: states and transitions of nf_conntrack. *Original* is the direction of the first packet, *reply* the other
one. The flags of a packet give its kind. The window check can still refuse a packet that the table accepts. The timeout
can be shorter than that of the state: after a RST it is that of CLOSE; without a reply, or while data is not
acknowledged, at most `unacknowledged`; after retransmissions or with a zero window at most `max_retrans`.
"""

RFC7857 = """
## TCP: `rfc7857`

The state machine of RFC 7857 and RFC 6146 for endpoint-dependent NAT44. I2O is a packet from inside to outside, O2I one
from outside to inside. Only SYN (S), FIN (F) and RST (R) count: `SF` is a packet with SYN and FIN, `-` one with none of
them. VPP had this machine on its main branch from January to March 2022; its releases since 22.06 have three states.

- Only a SYN starts a session.
- A SYN in FIN_TRANS opens the session again. Otherwise its ports would be refused until the timeout.
- A packet after a RST opens the session again, because the RST may be forged.
- In the last four states a packet that changes nothing does not refresh the timeout.
"""

SCTP = """
## SCTP

The states of nf_conntrack. A packet holds several chunks; each changes the state in turn. INIT, INIT_ACK, COOKIE_ECHO
and COOKIE_ACK open an association. A HEARTBEAT starts one on a new path. SHUTDOWN closes it, ABORT ends it at once. The
tracker also checks the verification tag, and refuses ABORT, SHUTDOWN_COMPLETE or COOKIE_ACK as the first packet. Chunks
without a row (DATA, SACK and others) change nothing.
"""


def tcp_moves() -> list[Move]:
    return [
        (old, tcp_states.next_state(direction, kind, old), direction, tcp_states.KIND_NAMES[kind])
        for old in range(tcp_states.TCP_CONNTRACK_MAX)
        for direction in (0, 1)
        for kind in range(tcp_states.KINDS)
    ]


def sctp_moves() -> list[Move]:
    """Only chunks that ever move a state: the rows of the table."""
    names = {value: name for name, value in vars(chunks).items() if name.isupper() and isinstance(value, int)}
    states = range(sctp.SCTP_CONNTRACK_MAX)
    moving = [kind for kind in range(15) if any(sctp.next_state(0, kind, old) != old for old in states)]
    return [
        (old, sctp.next_state(direction, kind, old), direction, names[kind])
        for old in states
        for direction in (0, 1)
        for kind in moving
    ]


def rfc7857_moves() -> list[Move]:
    return [
        (old, rfc7857.next_state(way, kind, old), way, flags_text(kind))
        for old in range(rfc7857.RFC7857_STATES)
        for way in (0, 1)
        for kind in range(rfc7857.SETS)
    ]


def flags_text(kind: int) -> str:
    flags = ((rfc7857.SYN, "S"), (rfc7857.FIN, "F"), (rfc7857.RST, "R"))
    return "".join(letter for bit, letter in flags if kind & bit) or "-"


def gathered(moves: list[Move], states: int) -> list[Move]:
    """What leads from more than half of the states to one and the same, and nowhere else, comes from ANY."""
    legal = [move for move in moves if move[1] < states]
    found: list[Move] = []
    for direction, kind in dict.fromkeys(move[2:] for move in legal):
        targets = [new for _, new, *packet in legal if packet == [direction, kind]]
        if len(targets) > states // 2 and len(set(targets)) == 1:
            found.append((ANY, targets[0], direction, kind))
            legal = [move for move in legal if move[2:] != (direction, kind)]
    return legal + found


def label(packets: list[tuple[int, str]], directions: tuple[str, ...], separator: str) -> str:
    """`original syn`, `reply ack, fin`, `either rst`: one line of the label for each."""
    ways: dict[str, list[str]] = {"either": [], directions[0]: [], directions[1]: []}
    for direction, kind in packets:
        if (1 - direction, kind) not in packets:
            ways[directions[direction]].append(kind)
        elif kind not in ways["either"]:
            ways["either"].append(kind)
    return "<br/>".join(f"{way} {separator.join(kinds)}" for way, kinds in ways.items() if kinds)


def diagram(
    moves: list[Move], names: tuple[str, ...], first: str, directions: tuple[str, ...], separator: str = ", "
) -> Iterator[str]:
    """first: what stands for state 0, `[*]` where no connection is in it."""
    arrows: dict[tuple[int, int], list[tuple[int, str]]] = {}
    for old, new, direction, kind in gathered(moves, len(names)):
        if old != new:
            arrows.setdefault((old, new), []).append((direction, kind))
    shown = (first, *names[1:], "ANY")
    yield "```mermaid"
    yield "stateDiagram-v2"
    if any(old == ANY for old, _ in arrows):
        yield '    state "any state" as ANY'
    if first != "[*]":
        yield f"    [*] --> {first}"
    for (old, new), packets in arrows.items():
        yield f"    {shown[old]} --> {shown[new]}: {label(packets, directions, separator)}"
    yield "```"


def states_table(names: tuple[str, ...], codes: list[str], seconds: Callable[[int], tuple[int, str]]) -> Iterator[str]:
    """With codes, state 0 is NONE: the connection before its first packet, which has no timeout."""
    yield f"| {'code | ' if codes else ''}state | timeout | key |"
    yield f"|{'---|' if codes else ''}---|---|---|"
    for state, name in enumerate(names):
        value, key = seconds(state)
        shown = (
            f"{name} | | before the first packet |" if codes and state == 0 else f"{name} | {duration(value)} | {key} |"
        )
        yield f"| {f'{codes[state]} | ' if codes else ''}{shown}"


def duration(seconds: int) -> str:
    """`7440 s (2 h 4 min)`; less than two minutes as they are."""
    if seconds < 120 or seconds % 60:
        return f"{seconds} s"
    parts = ((seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"))
    return f"{seconds} s ({' '.join(f'{count} {unit}' for count, unit in parts if count)})"


def matrix(moves: list[Move], codes: list[str], special: tuple[str, ...]) -> Iterator[str]:
    """Rows are packets, columns old states; `.` is the old state again."""
    rows: dict[tuple[int, str], list[str]] = {}
    for old, new, direction, kind in moves:
        rows.setdefault((direction, kind), []).append("." if old == new else (*codes, *special)[new])
    width = max(len(kind) for _, kind in rows) + 6
    yield "```"
    yield " " * width + " ".join(codes)
    for way, name in enumerate(DIRECTIONS):
        yield name
        for (direction, kind), cells in rows.items():
            if direction == way:
                yield (f"    {kind:<{width - 4}}" + " ".join(f"{cell:<2}" for cell in cells)).rstrip()
    yield "```"


def arrows_table(moves: list[Move], names: tuple[str, ...], directions: tuple[str, ...]) -> Iterator[str]:
    """One line for each arrow and direction, as in the table of the tracker."""
    lines: dict[tuple[int, int, int], list[str]] = {}
    for old, new, way, kind in moves:
        if old != new:
            lines.setdefault((old, way, new), []).append(kind)
    yield "```"
    for (old, way, new), kinds in lines.items():
        yield f"{names[old]:<16}{directions[way]:<6}{' '.join(kinds):<20}{names[new]}"
    yield "```"


def key_of(t: Tunables, prefix: str, name: str) -> tuple[int, str]:
    key = f"{prefix}_timeout_{name.lower()}"
    return getattr(t, key), f"`{key}`"


def tcp_seconds(state: int) -> tuple[int, str]:
    value = tcp.Tcp(Tunables()).timeouts[state] // 1000
    if state == tcp_states.TCP_CONNTRACK_SYN_SENT2:
        return value, "fixed, as in the kernel"
    name = tcp_states.STATE_NAMES[max(state, tcp_states.TCP_CONNTRACK_SYN_SENT)]
    default, key = key_of(Tunables(), "nf_conntrack_tcp", name)
    assert default == value, f"{name}: {value} s in the tracker, {default} s in {key}"
    return value, key


def sctp_seconds(state: int) -> tuple[int, str]:
    value = sctp.Sctp(Tunables()).timeouts[state] // 1000
    name = sctp.STATE_NAMES[max(state, sctp.SCTP_CONNTRACK_CLOSED)]
    default, key = key_of(Tunables(), "nf_conntrack_sctp", name)
    assert default == value, f"{name}: {value} s in the tracker, {default} s in {key}"
    return value, key


def rfc7857_seconds(state: int) -> tuple[int, str]:
    established = rfc7857.RFC7857_ESTABLISHED <= state <= rfc7857.RFC7857_FIN_O2I
    return key_of(Tunables(), "rfc7857_tcp", "established" if established else "transitory")


def page() -> str:
    """The whole text of docs/trackers.md."""
    tcp_codes = tcp_states.TABLE.split()[: tcp_states.TCP_CONNTRACK_MAX]
    sctp_codes = sctp.TABLE.split()[: sctp.SCTP_CONNTRACK_MAX]
    ways = rfc7857.DIRECTIONS
    return "\n".join(
        [
            HEAD + TCP,
            *diagram(tcp_moves(), tcp_states.STATE_NAMES, "[*]", DIRECTIONS),
            "",
            *states_table(tcp_states.STATE_NAMES, tcp_codes, tcp_seconds),
            "",
            "Rows are packets, columns old states. `.` stays; `IV`: refused as INVALID; `IG`: passes, changes nothing.",
            "",
            *matrix(tcp_moves(), tcp_codes, ("IV", "IG")),
            RFC7857,
            *diagram(rfc7857_moves(), rfc7857.STATE_NAMES, rfc7857.STATE_NAMES[0], ways, " "),
            "",
            *states_table(rfc7857.STATE_NAMES, [], rfc7857_seconds),
            "",
            "Old state, way, flags, new state; what is not listed changes nothing.",
            "",
            *arrows_table(rfc7857_moves(), rfc7857.STATE_NAMES, ways),
            SCTP,
            *diagram(sctp_moves(), sctp.STATE_NAMES, "[*]", DIRECTIONS),
            "",
            *states_table(sctp.STATE_NAMES, sctp_codes, sctp_seconds),
            "",
            "Rows are chunks, columns old states. `.` stays; `IV`: refused as INVALID.",
            "",
            *matrix(sctp_moves(), sctp_codes, ("IV",)),
            "",
        ]
    )


def main() -> None:
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

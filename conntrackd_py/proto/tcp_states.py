"""The TCP transition table: direction, kind of packet and old state give the new state.

No transition is anywhere else. The window check may refuse a packet, but makes no transition. The layout is the
kernel's: a row a kind of packet, a column an old state, the same two letters.

    NO none         SS SYN_SENT    SR SYN_RECV   ES ESTABLISHED   FW FIN_WAIT
    CW CLOSE_WAIT   LA LAST_ACK    TW TIME_WAIT  CL CLOSE         S2 SYN_SENT2
    IV the packet is INVALID                   IG ignore: the packet changes nothing

The tracker also sees packets that the other end may never receive. So a state is one that the packets allow both ends
to be in; neither end need be in it.
"""

from typing import Final

from conntrackd_py.wire.tcp import ACK, FIN, RST, SYN

TCP_CONNTRACK_NONE: Final = 0
TCP_CONNTRACK_SYN_SENT: Final = 1
TCP_CONNTRACK_SYN_RECV: Final = 2
TCP_CONNTRACK_ESTABLISHED: Final = 3
TCP_CONNTRACK_FIN_WAIT: Final = 4
TCP_CONNTRACK_CLOSE_WAIT: Final = 5
TCP_CONNTRACK_LAST_ACK: Final = 6
TCP_CONNTRACK_TIME_WAIT: Final = 7
TCP_CONNTRACK_CLOSE: Final = 8
TCP_CONNTRACK_SYN_SENT2: Final = 9
TCP_CONNTRACK_MAX: Final = 10
IV: Final = 10
IG: Final = 11

STATE_NAMES: Final = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)

KIND_SYN: Final = 0
KIND_SYNACK: Final = 1
KIND_FIN: Final = 2
KIND_ACK: Final = 3
KIND_RST: Final = 4
KIND_NONE: Final = 5
KINDS: Final = 6
KIND_NAMES: Final = ("syn", "synack", "fin", "ack", "rst", "none")

TABLE: Final = """
              NO SS SR ES FW CW LA TW CL S2
original
    syn       SS SS IG IG IG IG IG SS SS S2
    synack    IV IV SR IV IV IV IV IV IV SR
    fin       IV IV FW FW LA LA LA TW CL IV
    ack       ES IV ES ES CW CW TW TW CL IV
    rst       IV CL CL CL CL CL CL CL CL CL
    none      IV IV IV IV IV IV IV IV IV IV
reply
    syn       IV S2 IV IV IV IV IV SS IV S2
    synack    IV SR IG IG IG IG IG IG IG SR
    fin       IV IV FW FW LA LA LA TW CL IV
    ack       IV IG SR ES CW CW TW TW CL IG
    rst       IV CL CL CL CL CL CL CL CL CL
    none      IV IV IV IV IV IV IV IV IV IV
"""
# The reason for each row:
#   syn, original     opens, and reopens after the close; in between it may be a new attempt, which the server decides:
#                     ignored
#   synack, original  only the second half of a simultaneous open
#   fin               starts the close, and finishes it from the other side; before SYN_RECV there is nothing to close
#   ack, original     completes the handshake; NO -> ES picks up a connection in mid-stream
#   rst               ends a connection, never starts one
#   none              data or urgent bits without ACK: no TCP sends this
#   syn, reply        a simultaneous open; in TIME_WAIT, the server opens on the same ports
#   synack, reply     answers the SYN; later a retransmission, or the answer to an ignored SYN
#   ack, reply        before a SYN+ACK possibly a challenge ACK (RFC 5961): ignored

_NAMES: Final = ("NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2", "IV", "IG")


def _flat(text: str) -> bytes:
    cells = [word for word in text.split() if word in _NAMES][TCP_CONNTRACK_MAX:]
    return bytes([_NAMES.index(cell) for cell in cells])


TRANSITIONS: Final = _flat(TABLE)
"""The same cells in a row: [(direction * KINDS + kind) * TCP_CONNTRACK_MAX + old state]."""


def kind_of(flags: int) -> int:
    """RST before SYN before FIN before ACK."""
    if flags & RST:
        return KIND_RST
    if flags & SYN:
        return KIND_SYNACK if flags & ACK else KIND_SYN
    if flags & FIN:
        return KIND_FIN
    return KIND_ACK if flags & ACK else KIND_NONE


def next_state(direction: int, kind: int, old: int) -> int:
    return TRANSITIONS[(direction * KINDS + kind) * TCP_CONNTRACK_MAX + old]

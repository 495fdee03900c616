"""THE TCP transition table: old state, direction and kind of packet give the new state.

Nothing else knows a transition; the window check and the timeouts may veto one, never make one. Read it
beside the kernel's: rows are kinds of packet, columns old states, the same two letters.

    NO none         SS SYN_SENT    SR SYN_RECV   ES ESTABLISHED   FW FIN_WAIT
    CW CLOSE_WAIT   LA LAST_ACK    TW TIME_WAIT  CL CLOSE         S2 SYN_SENT2
    IV invalid: the packet is refused          IG ignore: it passes and changes nothing

The tracker sits in the middle: it sees packets that one end may never get, so a state is what the
packets allow both ends to be in, not what either is in.
"""

from typing import Final

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
# Why each row reads as it does, per direction:
#   syn, original     opens; repeated while opening; once both ends talk it may be a new attempt that the
#                     server refuses or answers, so it passes unjudged; after the end it opens again
#   synack, original  only the second half of a simultaneous open
#   fin               starts the close, then finishes it from the other side; nothing to close before SYN_RECV
#   ack, original     completes the handshake; NO -> ES is a connection picked up in mid-stream
#   rst               ends whatever there is; never starts anything
#   none              data or urgent bits without ACK: no TCP sends that
#   syn, reply        a simultaneous open; or, in TIME_WAIT, the server calling back on the same ports
#   synack, reply     answers the SYN; later a retransmission, or news of a SYN that was ignored
#   ack, reply        before any SYN+ACK possibly a challenge ACK (RFC 5961): pass it, believe nothing

_NAMES: Final = ("NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2", "IV", "IG")


def _flat(text: str) -> bytes:
    cells = [word for word in text.split() if word in _NAMES][TCP_CONNTRACK_MAX:]
    return bytes([_NAMES.index(cell) for cell in cells])


TRANSITIONS: Final = _flat(TABLE)
"""The same cells in a row: [(direction * KINDS + kind) * STATES + old state]."""


def next_state(direction: int, kind: int, old: int) -> int:
    return TRANSITIONS[(direction * KINDS + kind) * TCP_CONNTRACK_MAX + old]

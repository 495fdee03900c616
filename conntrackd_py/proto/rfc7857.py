"""The ten-state TCP tracker of RFC 7857 and RFC 6146 for endpoint-dependent NAT44: `tcp_tracker = "rfc7857"`.

It has an inside and an outside (I2O: in to out, O2I), reads only SYN, FIN and RST, and checks no window.
After a FIN from both ends, or one RST, a session stays for four minutes. The next data packet undoes a forged RST, and
a new SYN on the same ports reopens the session at once.
VPP had this state machine on its main branch from January to March 2022; its releases have three states.

All transitions; any other packet leaves the state. `-` is a packet with none of the three flags.
"""

from typing import Final, cast, final

from conntrackd_py.conntrack.conn import REFUSED, REOPENED, TRACKED, NfConn, ProtoInfo
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPCT_PROTOINFO, IPS_ASSURED, ORIGINAL
from conntrackd_py.proto.tcp_header import TcpHeader
from conntrackd_py.reasons import TCP_NOT_SYN
from conntrackd_py.wire import tcp
from conntrackd_py.wire.packet import Packet

STATE_NAMES: Final = (
    "CLOSED",
    "SYN_I2O",
    "SYN_O2I",
    "ESTABLISHED",
    "FIN_I2O",
    "FIN_O2I",
    "RST_TRANS",
    "FIN_TRANS",
    "REOPEN_SYN_I2O",
    "REOPEN_SYN_O2I",
)
RFC7857_CLOSED: Final = 0
RFC7857_ESTABLISHED: Final = 3
RFC7857_FIN_O2I: Final = 5
RFC7857_RST_TRANS: Final = 6
RFC7857_STATES: Final = 10
RFC7857_LAYOUT: Final = 4

I2O: Final = 0
O2I: Final = 1
DIRECTIONS: Final = ("I2O", "O2I")

# from            way   flags of the packet        to
TABLE: Final = """
CLOSED            I2O   S SF SFR                   SYN_I2O
CLOSED            O2I   S SF SFR                   SYN_O2I
SYN_I2O           O2I   S SF SFR                   ESTABLISHED
SYN_O2I           I2O   S SF SFR                   ESTABLISHED
ESTABLISHED       I2O   R SR FR SFR                RST_TRANS
ESTABLISHED       O2I   R SR FR SFR                RST_TRANS
ESTABLISHED       I2O   F SF                       FIN_I2O
ESTABLISHED       O2I   F SF                       FIN_O2I
FIN_I2O           O2I   F SF FR SFR                FIN_TRANS
FIN_O2I           I2O   F SF FR SFR                FIN_TRANS
RST_TRANS         I2O   - S F SF                   ESTABLISHED
RST_TRANS         O2I   - S F SF                   ESTABLISHED
FIN_TRANS         I2O   S SR SF SFR                REOPEN_SYN_I2O
FIN_TRANS         O2I   S SR SF SFR                REOPEN_SYN_O2I
REOPEN_SYN_I2O    O2I   S SR SF SFR                ESTABLISHED
REOPEN_SYN_O2I    I2O   S SR SF SFR                ESTABLISHED
"""

SYN: Final = 1
FIN: Final = 2
RST: Final = 4
SETS: Final = 8


def _flat(text: str) -> bytes:
    cells = bytearray([state for state in range(RFC7857_STATES) for _ in range(2 * SETS)])
    for line in text.split("\n"):
        words = line.split()
        if not words:
            continue
        old, way, to = STATE_NAMES.index(words[0]), DIRECTIONS.index(words[1]), STATE_NAMES.index(words[-1])
        for flags in words[2:-1]:
            kind = (SYN if "S" in flags else 0) | (FIN if "F" in flags else 0) | (RST if "R" in flags else 0)
            cells[(old * 2 + way) * SETS + kind] = to
    return bytes(cells)


TRANSITIONS: Final = _flat(TABLE)


def next_state(way: int, kind: int, old: int) -> int:
    return TRANSITIONS[(old * 2 + way) * SETS + kind]


@final
class Rfc7857Info(ProtoInfo):
    def __init__(self, from_inside: bool) -> None:
        self.from_inside = from_inside  # whether the original direction is I2O


@final
class Rfc7857(TcpHeader):
    """outside: indexes of the interfaces that lead outside; the engine updates it."""

    state_names: tuple[str, ...] = STATE_NAMES
    layout = RFC7857_LAYOUT

    def __init__(self, tunables: Tunables) -> None:
        super().__init__(tunables)
        self.outside: dict[int, bool] = {}

    def tune(self, tunables: Tunables) -> None:
        self.established = tunables.rfc7857_tcp_timeout_established * 1000
        self.transitory = tunables.rfc7857_tcp_timeout_transitory * 1000

    def closing(self, state: int) -> bool:
        return state >= RFC7857_RST_TRANS

    def adopt(self, ct: NfConn) -> None:
        ct.proto = Rfc7857Info(True)

    def pack_info(self, ct: NfConn) -> bytes:
        return b"i" if cast(Rfc7857Info, ct.proto).from_inside else b"o"

    def unpack_info(self, ct: NfConn, data: bytes) -> bool:
        ct.proto = Rfc7857Info(data == b"i")
        return data == b"i" or data == b"o"

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        if new:
            ct.proto = Rfc7857Info(ct.iif not in self.outside)
        from_inside = cast(Rfc7857Info, ct.proto).from_inside
        way = I2O if (direction == ORIGINAL) == from_inside else O2I
        flags = packet.data[packet.dataoff + 13]
        kind = (SYN if flags & tcp.SYN else 0) | (FIN if flags & tcp.FIN else 0) | (RST if flags & tcp.RST else 0)
        old = ct.state
        state = next_state(way, kind, old)
        if state == RFC7857_CLOSED:
            packet.reason = TCP_NOT_SYN  # only a SYN starts a session
            packet.numbers = (flags,)
            return REFUSED
        if state != old:
            self._enter(ct, state)
        if state != old or state < RFC7857_RST_TRANS:  # no packet refreshes the last four states
            ct.refresh(now, self.established if RFC7857_ESTABLISHED <= state <= RFC7857_FIN_O2I else self.transitory)
        return REOPENED if state == RFC7857_ESTABLISHED and old > RFC7857_RST_TRANS else TRACKED

    def in_use(self, ct: NfConn) -> bool:
        return ct.state == RFC7857_ESTABLISHED

    def lifetime(self, ct: NfConn) -> int:
        return self.established if RFC7857_ESTABLISHED <= ct.state <= RFC7857_FIN_O2I else self.transitory

    def _enter(self, ct: NfConn, state: int) -> None:
        ct.state = state
        ct.pending_events |= IPCT_PROTOINFO
        if state == RFC7857_ESTABLISHED and not ct.status & IPS_ASSURED:
            ct.assure()

"""The SCTP tracker: chunks change the state, if the verification tag is right (nf_conntrack_proto_sctp).

A packet carries several chunks and each changes the state in turn; one wrong chunk makes the packet INVALID. The
packets of a direction must carry the tag that the INIT of the other side announced.
The table is as in tcp_states: a row a chunk, a column an old state.
"""

from struct import Struct
from typing import Final, cast, final

from conntrackd_py.conntrack.conn import REFUSED, TRACKED, UNCOUNTED, NfConn, ProtoInfo
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPCT_PROTOINFO, IPPROTO_SCTP, IPS_ASSURED, IPS_CONFIRMED, ORIGINAL, REPLY
from conntrackd_py.proto.header import PortProto, truncated
from conntrackd_py.reasons import COPY_TRUNCATED, L4_CHECKSUM, OK, SCTP_CHUNKS, SCTP_NOT_NEW, SCTP_STATE, SCTP_VTAG
from conntrackd_py.wire import sctp
from conntrackd_py.wire.packet import Packet, u16, u32

SCTP_LAYOUT: Final = 2  # L4Proto.layout
SCTP_CONNTRACK_NONE: Final = 0
SCTP_CONNTRACK_CLOSED: Final = 1
SCTP_CONNTRACK_ESTABLISHED: Final = 4
SCTP_CONNTRACK_SHUTDOWN_SENT: Final = 5
SCTP_CONNTRACK_SHUTDOWN_ACK_SENT: Final = 7
SCTP_CONNTRACK_MAX: Final = 9
IV: Final = 9
STATE_NAMES: Final = (
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
)

TABLE: Final = """
                     NO CL CW CE ES SS SR SA HS
original
    INIT             CL CL CW CE ES CL CL SA CW
    INIT_ACK         CL CL CW CE ES SS SR SA CL
    ABORT            CL CL CL CL CL CL CL CL CL
    SHUTDOWN         CL CL CW CE SS SS SR SA CL
    SHUTDOWN_ACK     SA CL CW CE ES SA SA SA SA
    ERROR            CL CL CW CE ES SS SR SA CL
    COOKIE_ECHO      CL CL CE CE ES SS SR SA CL
    COOKIE_ACK       CL CL CW ES ES SS SR SA CL
    SHUTDOWN_COMPL   CL CL CW CE ES SS SR CL CL
    HEARTBEAT        HS CL CW CE ES SS SR SA HS
    HEARTBEAT_ACK    CL CL CW CE ES SS SR SA HS
reply
    INIT             IV CL CW CE ES SS SR SA IV
    INIT_ACK         IV CW CW CE ES SS SR SA IV
    ABORT            IV CL CL CL CL CL CL CL IV
    SHUTDOWN         IV CL CW CE SR SS SR SA IV
    SHUTDOWN_ACK     IV CL CW CE ES SA SA SA IV
    ERROR            IV CL CW CL ES SS SR SA IV
    COOKIE_ECHO      IV CL CE CE ES SS SR SA IV
    COOKIE_ACK       IV CL CW ES ES SS SR SA IV
    SHUTDOWN_COMPL   IV CL CW CE ES SS SR CL IV
    HEARTBEAT        IV CL CW CE ES SS SR SA HS
    HEARTBEAT_ACK    IV CL CW CE ES SS SR SA ES
"""
# INIT opens, and reopens a closing connection; INIT_ACK, COOKIE_ECHO and COOKIE_ACK continue; SHUTDOWN from either
# side starts the end, SHUTDOWN_ACK and SHUTDOWN_COMPLETE finish it; ABORT ends at once. HEARTBEAT may come first, over
# a new path of an existing association, and its answer establishes the connection.

_NAMES: Final = ("NO", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS", "IV")
_ROWS: Final = (
    sctp.INIT,
    sctp.INIT_ACK,
    sctp.ABORT,
    sctp.SHUTDOWN,
    sctp.SHUTDOWN_ACK,
    sctp.ERROR,
    sctp.COOKIE_ECHO,
    sctp.COOKIE_ACK,
    sctp.SHUTDOWN_COMPLETE,
    sctp.HEARTBEAT,
    sctp.HEARTBEAT_ACK,
)
_ROW_OF: Final = bytes([_ROWS.index(kind) if kind in _ROWS else 255 for kind in range(256)])
KINDS_NAMED: Final = 16
ALONE: Final = 1 << sctp.INIT | 1 << sctp.INIT_ACK | 1 << sctp.SHUTDOWN_COMPLETE
FIRST_ONLY: Final = ALONE | 1 << sctp.COOKIE_ACK | 1 << sctp.COOKIE_ECHO
NEVER_FIRST: Final = 1 << sctp.ABORT | 1 << sctp.SHUTDOWN_COMPLETE | 1 << sctp.COOKIE_ACK
OWN_TAG_RULE: Final = (  # chunks with a rule of their own for the tag (RFC 9260 section 8.5.1)
    1 << sctp.INIT
    | 1 << sctp.ABORT
    | 1 << sctp.SHUTDOWN_COMPLETE
    | 1 << sctp.COOKIE_ECHO
    | 1 << sctp.SHUTDOWN_ACK
    | 1 << sctp.HEARTBEAT
    | 1 << sctp.HEARTBEAT_ACK
)
PACKED: Final = Struct("<II???B")  # SctpInfo: vtag, init, heartbeat_failed, last_direction
TAG_RIGHT: Final = 0
TAG_WRONG: Final = 1
TAG_PASS: Final = 2  # accept the packet, but do not apply the chunk

TRANSITIONS: Final = bytes([_NAMES.index(word) for word in TABLE.split() if word in _NAMES][SCTP_CONNTRACK_MAX:])


def next_state(direction: int, kind: int, old: int) -> int:
    """DATA, SACK and the rest leave the state as it is."""
    row = _ROW_OF[kind]
    if row == 255:
        return old
    return TRANSITIONS[(direction * len(_ROWS) + row) * SCTP_CONNTRACK_MAX + old]


@final
class SctpInfo(ProtoInfo):
    def __init__(self) -> None:
        self.vtag = [0, 0]  # by direction: the tag its packets must carry
        self.init = [False, False]  # by direction: an INIT was sent and is not acknowledged
        self.heartbeat_failed = False  # a heartbeat with another tag was passed; its answer may follow
        self.last_direction = ORIGINAL


@final
class Chunks:
    """A packet's verification tag and its chunks, one at a time: kind and flags of the chunk at offset `at`.

    count: number of chunks; 0 when they may not stand together like this (do_basic_checks), with packet.numbers set.
    seen: their kinds as bits, those below KINDS_NAMED. cut: a copy ends before a chunk that may be a control chunk.
    After a DATA chunk only other DATA chunks follow (RFC 9260 6.10), so a copy that ends there shows all of them.
    """

    def __init__(self, packet: Packet, direction: int) -> None:
        data, end = packet.data, packet.end
        at = packet.dataoff + sctp.HEADER
        self.packet = packet
        self.direction = direction
        self.vtag = u32(data, at - 8)
        self.following = at
        self.at = self.kind = self.flags = self.count = self.seen = 0
        self.cut = False
        count = seen = 0
        while at + sctp.CHUNK_HEADER <= end:
            kind = data[at]
            bit = 1 << kind if kind < KINDS_NAMED else 0
            if (count and (seen & ALONE or bit & FIRST_ONLY)) or not (data[at + 2] or data[at + 3]):
                packet.numbers = (kind, count, u16(data, at + 2))
                return
            seen |= bit
            count += 1
            at = sctp.next_chunk(data, at)
        self.seen = seen
        self.count = count
        self.cut = at + sctp.CHUNK_HEADER <= packet.length and not seen & 1 << sctp.DATA

    def next(self) -> None:
        """Move to the next chunk; the first call, to the first."""
        data = self.packet.data
        at = self.at = self.following
        self.kind = data[at]
        self.flags = data[at + 1]
        self.following = sctp.next_chunk(data, at)

    def rewind(self) -> None:
        self.following = self.packet.dataoff + sctp.HEADER

    def init_tag(self) -> int:
        """The initiate tag of an INIT or INIT_ACK chunk; -1 when the chunk is cut off."""
        if self.at + sctp.INIT_HEADER > self.packet.end:
            return -1
        return u32(self.packet.data, self.at + sctp.CHUNK_HEADER)


@final
class Sctp(PortProto):
    name = "sctp"
    protonum = IPPROTO_SCTP
    state_names: tuple[str, ...] = STATE_NAMES
    shows_state = True
    layout = SCTP_LAYOUT

    def tune(self, tunables: Tunables) -> None:
        seconds = (
            tunables.nf_conntrack_sctp_timeout_closed,
            tunables.nf_conntrack_sctp_timeout_closed,
            tunables.nf_conntrack_sctp_timeout_cookie_wait,
            tunables.nf_conntrack_sctp_timeout_cookie_echoed,
            tunables.nf_conntrack_sctp_timeout_established,
            tunables.nf_conntrack_sctp_timeout_shutdown_sent,
            tunables.nf_conntrack_sctp_timeout_shutdown_recd,
            tunables.nf_conntrack_sctp_timeout_shutdown_ack_sent,
            tunables.nf_conntrack_sctp_timeout_heartbeat_sent,
        )
        self.timeouts = [value * 1000 for value in seconds]

    def check(self, packet: Packet, verify: bool) -> int:
        at = packet.dataoff
        if at + sctp.HEADER > packet.end:
            return truncated(packet, sctp.HEADER)
        if verify:
            field, right = sctp.checksum(packet.data, at), sctp.crc32c(packet.data, at, packet.end)
            if field != right:
                packet.numbers = (field, right)
                return L4_CHECKSUM
        return OK

    def starts_or_ends(self, packet: Packet) -> bool:
        at = packet.dataoff + sctp.HEADER
        return packet.end > at and packet.data[at] in (sctp.INIT, sctp.ABORT)

    def in_use(self, ct: NfConn) -> bool:
        return ct.state == SCTP_CONNTRACK_ESTABLISHED

    def lifetime(self, ct: NfConn) -> int:
        return self.timeouts[ct.state]

    def closing(self, state: int) -> bool:
        return state == SCTP_CONNTRACK_CLOSED or (
            SCTP_CONNTRACK_SHUTDOWN_SENT <= state <= SCTP_CONNTRACK_SHUTDOWN_ACK_SENT
        )

    def adopt(self, ct: NfConn) -> None:
        ct.proto = SctpInfo()

    def set_protoinfo(self, ct: NfConn, values: tuple[int, ...]) -> None:
        """values: the verification tags, by direction (CTA_PROTOINFO_SCTP_VTAG_*)."""
        cast(SctpInfo, ct.proto).vtag = list(values)

    def pack_info(self, ct: NfConn) -> bytes:
        info = cast(SctpInfo, ct.proto)
        return PACKED.pack(*info.vtag, *info.init, info.heartbeat_failed, info.last_direction)

    def unpack_info(self, ct: NfConn, data: bytes) -> bool:
        ct.proto = info = SctpInfo()
        if len(data) == PACKED.size:
            original, reply, first, second, info.heartbeat_failed, info.last_direction = PACKED.unpack(data)
            info.vtag, info.init = [original, reply], [first, second]
        return len(data) == PACKED.size

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        chunks = Chunks(packet, direction)
        if chunks.cut or (packet.end < packet.length and _cut_init(chunks)):
            packet.numbers = (packet.end, packet.length)
            packet.reason = COPY_TRUNCATED
            return REFUSED
        if not chunks.count:
            packet.reason = SCTP_CHUNKS
            return REFUSED
        info = SctpInfo() if new else cast(SctpInfo, ct.proto)
        if new:
            ct.proto = info
            packet.reason = self._begin(info, chunks)
            if packet.reason:
                return REFUSED
        if not chunks.seen & OWN_TAG_RULE and chunks.vtag != info.vtag[direction]:
            packet.reason = SCTP_VTAG
            packet.numbers = (chunks.vtag, info.vtag[direction])
            return REFUSED
        return self._walk(ct, info, chunks, now)

    def _begin(self, info: SctpInfo, chunks: Chunks) -> int:
        """Initialise info from the first packet (sctp_new); OK or why it cannot start a connection."""
        packet = chunks.packet
        if chunks.seen & NEVER_FIRST:
            packet.numbers = (packet.data[chunks.following],)
            return SCTP_NOT_NEW
        for _ in range(chunks.count):
            chunks.next()
            kind = chunks.kind
            if next_state(ORIGINAL, kind, SCTP_CONNTRACK_NONE) in (SCTP_CONNTRACK_NONE, IV):
                packet.numbers = (kind,)
                return SCTP_NOT_NEW
            if kind == sctp.INIT:
                if chunks.vtag:
                    packet.numbers = (chunks.vtag, 0)
                    return SCTP_VTAG
                tag = chunks.init_tag()
                if tag < 0:
                    return truncated(packet, sctp.HEADER + sctp.INIT_HEADER)
                info.vtag[REPLY] = tag
                info.init[ORIGINAL] = True
            elif kind == sctp.HEARTBEAT:
                info.vtag[ORIGINAL] = chunks.vtag  # of an existing association, over a new path
            elif kind == sctp.SHUTDOWN_ACK:
                info.vtag[REPLY] = chunks.vtag  # of an unknown association: its answer carries the same tag
        chunks.rewind()
        return OK

    def _walk(self, ct: NfConn, info: SctpInfo, chunks: Chunks, now: int) -> int:
        """Apply each chunk in turn; the timeout is that of the last state."""
        packet, direction = chunks.packet, chunks.direction
        ignore = False
        for _ in range(chunks.count):
            chunks.next()
            kind = chunks.kind
            judgement = _judge_tag(info, chunks, ignore)
            if judgement == TAG_WRONG:
                packet.reason = SCTP_VTAG
                packet.numbers = (chunks.vtag, 0 if kind == sctp.INIT else info.vtag[direction])
                return REFUSED
            if judgement == TAG_PASS:
                ignore = True
                continue
            old = ct.state
            state = next_state(direction, kind, old)
            if state == IV:
                packet.reason = SCTP_STATE
                packet.numbers = (direction, kind, old)
                return REFUSED
            if not _save_init_tag(info, chunks):
                packet.reason = SCTP_VTAG
                packet.numbers = (chunks.init_tag(), info.vtag[1 - direction])
                return REFUSED
            self._enter(ct, old, state)
            if kind == sctp.INIT and old == state == SCTP_CONNTRACK_CLOSED and ct.status & IPS_CONFIRMED:
                ignore = True  # repeated: it must not refresh a closed association
        if ignore:
            return UNCOUNTED
        ct.refresh(now, self.timeouts[ct.state])
        return TRACKED

    def _enter(self, ct: NfConn, old: int, state: int) -> None:
        ct.state = state
        if old == state:
            return
        ct.pending_events |= IPCT_PROTOINFO
        if state == SCTP_CONNTRACK_ESTABLISHED and not ct.status & IPS_ASSURED:
            ct.assure()


def _cut_init(chunks: Chunks) -> bool:
    """Whether a copy ends within the INIT or INIT_ACK chunk of the packet, which stands alone."""
    first = chunks.packet.dataoff + sctp.HEADER
    init = chunks.seen & (1 << sctp.INIT | 1 << sctp.INIT_ACK)
    return init != 0 and chunks.packet.end < first + sctp.INIT_HEADER <= chunks.packet.length


def _judge_tag(info: SctpInfo, chunks: Chunks, ignore: bool) -> int:
    """TAG_* for the current chunk. ignore: an earlier chunk of the packet was passed."""
    kind, direction = chunks.kind, chunks.direction
    expected = info.vtag[direction]
    if kind == sctp.INIT:
        expected = 0
    elif kind == sctp.ABORT or kind == sctp.SHUTDOWN_COMPLETE:
        if chunks.flags & sctp.FLAG_T:
            expected = info.vtag[1 - direction]
    elif kind == sctp.COOKIE_ACK:
        info.init[0] = info.init[1] = False
        return TAG_RIGHT
    elif kind == sctp.HEARTBEAT or kind == sctp.HEARTBEAT_ACK:
        return _judge_heartbeat(info, chunks, ignore)
    elif kind != sctp.COOKIE_ECHO:
        return TAG_RIGHT
    return TAG_RIGHT if chunks.vtag == expected else TAG_WRONG


def _judge_heartbeat(info: SctpInfo, chunks: Chunks, ignore: bool) -> int:
    """TAG_*. A restarted end has other tags: accept its heartbeat; an answer to it makes the tags valid."""
    direction, vtag = chunks.direction, chunks.vtag
    expected = info.vtag[direction]
    if expected == 0:
        info.vtag[direction] = vtag
        return TAG_RIGHT
    if vtag == expected:
        info.heartbeat_failed = False
        return TAG_RIGHT
    if ignore or chunks.seen & 1 << sctp.DATA:
        return TAG_WRONG
    if chunks.kind == sctp.HEARTBEAT:
        info.heartbeat_failed = True
        info.last_direction = direction
        return TAG_PASS
    if not info.heartbeat_failed or info.last_direction == direction:
        return TAG_WRONG
    info.heartbeat_failed = False
    info.vtag[direction] = vtag
    info.vtag[1 - direction] = 0
    return TAG_RIGHT


def _save_init_tag(info: SctpInfo, chunks: Chunks) -> bool:
    """Save the other direction's tag from INIT or INIT_ACK; False when it contradicts the known one."""
    if chunks.kind != sctp.INIT and chunks.kind != sctp.INIT_ACK:
        return True
    tag = chunks.init_tag()
    if tag < 0:
        return False
    direction, other, known = chunks.direction, 1 - chunks.direction, info.vtag[1 - chunks.direction]
    if chunks.kind == sctp.INIT:
        if tag == known:
            return True  # repeated
        if info.init[direction] and info.init[other]:
            info.init[other] = False
        info.init[direction] = True
    else:
        if not info.init[other] and known and known != tag:
            return False
        if info.init[direction] and info.init[other] and known != tag:
            return False
    info.vtag[other] = tag
    return True

"""The SCTP tracker: chunks move the state, verification tags say whether they may (nf_conntrack_proto_sctp).

A packet carries several chunks and each moves the state in turn; one chunk that may not be there refuses the
packet. The tag of a direction is what its packets must carry: the INIT of the other side announced it.

Read the table as in tcp_states: rows are chunks, columns old states.
"""

from typing import Final, cast, final

from conntrackd_py.conntrack.conn import NfConn, ProtoInfo
from conntrackd_py.conntrack.l4proto import REFUSED, TRACKED, UNCOUNTED, PortProto, truncated
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPCT_ASSURED, IPCT_PROTOINFO, IPPROTO_SCTP, IPS_ASSURED, IPS_CONFIRMED, ORIGINAL, REPLY
from conntrackd_py.reasons import L4_CHECKSUM, OK, SCTP_CHUNKS, SCTP_NOT_NEW, SCTP_STATE, SCTP_VTAG
from conntrackd_py.wire import sctp
from conntrackd_py.wire.packet import u16, u32

SCTP_CONNTRACK_NONE: Final = 0
SCTP_CONNTRACK_CLOSED: Final = 1
SCTP_CONNTRACK_ESTABLISHED: Final = 4
SCTP_CONNTRACK_SHUTDOWN_SENT: Final = 5
SCTP_CONNTRACK_SHUTDOWN_RECD: Final = 6
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
# Why: INIT opens, and in a connection that is closing opens anew; INIT_ACK, COOKIE_ECHO and COOKIE_ACK go on from
# there; either side's SHUTDOWN starts the end, SHUTDOWN_ACK and SHUTDOWN_COMPLETE finish it; ABORT is the end at
# once. HEARTBEAT may come first, over a new path of an association that already exists, and its answer
# establishes it here too.

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
        self.vtag = [0, 0]  # by direction: what its packets must carry
        self.init = [False, False]  # by direction: an INIT went this way and was not acknowledged yet
        self.heartbeat_failed = False  # a heartbeat with another tag was let pass, its answer may follow
        self.last_direction = ORIGINAL


@final
class Sctp(PortProto):
    name = "sctp"
    protonum = IPPROTO_SCTP
    state_names: tuple[str, ...] = STATE_NAMES
    shows_state = True

    def __init__(self, tunables: Tunables) -> None:
        super().__init__()
        self.timeouts: list[int] = []
        self.tune(tunables)

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

    def check(self, skb: Skb, verify: bool) -> int:
        at = skb.dataoff
        if at + sctp.HEADER > skb.end:
            return truncated(skb, sctp.HEADER)
        if verify:
            field, right = sctp.checksum(skb.data, at), sctp.crc32c(skb.data, at, skb.end)
            if field != right:
                skb.numbers = (field, right)
                return L4_CHECKSUM
        return OK

    def lifetime(self, ct: NfConn) -> int:
        return self.timeouts[ct.state]

    def closing(self, state: int) -> bool:
        return state in (
            SCTP_CONNTRACK_CLOSED,
            SCTP_CONNTRACK_SHUTDOWN_SENT,
            SCTP_CONNTRACK_SHUTDOWN_RECD,
            SCTP_CONNTRACK_SHUTDOWN_ACK_SENT,
        )

    def adopt(self, ct: NfConn) -> None:
        ct.proto = SctpInfo()

    def set_tags(self, ct: NfConn, tags: tuple[int, int]) -> None:
        cast(SctpInfo, ct.proto).vtag = list(tags)

    def packet(self, ct: NfConn, skb: Skb, direction: int, now: int, new: bool) -> int:
        kinds = _chunk_kinds(skb)
        if not kinds:
            skb.reason = SCTP_CHUNKS
            return REFUSED
        if new:
            ct.proto = SctpInfo()
        info = cast(SctpInfo, ct.proto)
        vtag = u32(skb.data, skb.dataoff + 4)
        if new:
            skb.reason = self._begin(info, skb, kinds, vtag)
            if skb.reason:
                return REFUSED
        if not _tag_is_special(kinds) and vtag != info.vtag[direction]:
            skb.reason = SCTP_VTAG
            skb.numbers = (vtag, info.vtag[direction])
            return REFUSED
        return self._walk(ct, info, skb, kinds, vtag, direction, now)

    def _begin(self, info: SctpInfo, skb: Skb, kinds: list[int], vtag: int) -> int:
        """The first packet of a connection (sctp_new); OK or the reason it cannot be."""
        if sctp.ABORT in kinds or sctp.SHUTDOWN_COMPLETE in kinds or sctp.COOKIE_ACK in kinds:
            skb.numbers = (kinds[0],)
            return SCTP_NOT_NEW
        for kind in kinds:
            if next_state(ORIGINAL, kind, SCTP_CONNTRACK_NONE) in (SCTP_CONNTRACK_NONE, IV):
                skb.numbers = (kind,)
                return SCTP_NOT_NEW
            if kind == sctp.INIT:
                if vtag:
                    skb.numbers = (vtag, 0)
                    return SCTP_VTAG
                tag = _init_tag(skb, skb.dataoff + sctp.HEADER)
                if tag < 0:
                    return truncated(skb, sctp.HEADER + sctp.INIT_HEADER)
                info.vtag[REPLY] = tag
                info.init[ORIGINAL] = True
            elif kind == sctp.HEARTBEAT:
                info.vtag[ORIGINAL] = vtag  # of an association that exists, over a new path
            elif kind == sctp.SHUTDOWN_ACK:
                info.vtag[REPLY] = vtag  # of nobody knows what: its answer carries the same
        return OK

    def _walk(self, ct: NfConn, info: SctpInfo, skb: Skb, kinds: list[int], vtag: int, direction: int, now: int) -> int:
        """Each chunk in turn; the timeout is that of the state after the last."""
        at = skb.dataoff + sctp.HEADER
        ignore = False
        with_data = sctp.DATA in kinds
        for kind in kinds:
            judgement = _judge_tag(info, kind, skb.data[at + 1], vtag, direction, ignore, with_data)
            if judgement == TAG_WRONG:
                skb.reason = SCTP_VTAG
                skb.numbers = (vtag, 0 if kind == sctp.INIT else info.vtag[direction])
                return REFUSED
            if judgement == TAG_PASS:
                ignore = True
                at = sctp.next_chunk(skb.data, at)
                continue
            old = ct.state
            state = next_state(direction, kind, old)
            if state == IV:
                skb.reason = SCTP_STATE
                skb.numbers = (direction, kind, old)
                return REFUSED
            if not _note_init(info, skb, at, kind, direction):
                skb.reason = SCTP_VTAG
                skb.numbers = (_init_tag(skb, at), info.vtag[1 - direction])
                return REFUSED
            self._enter(ct, old, state)
            if (
                kind == sctp.INIT
                and old == SCTP_CONNTRACK_CLOSED
                and state == SCTP_CONNTRACK_CLOSED
                and ct.status & IPS_CONFIRMED
            ):
                ignore = True  # repeated: it must not keep a dead entry alive
            at = sctp.next_chunk(skb.data, at)
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
            ct.status |= IPS_ASSURED
            ct.pending_events |= IPCT_ASSURED


def _chunk_kinds(skb: Skb) -> list[int]:
    """The chunk types in order; empty when they may not stand together like this (do_basic_checks)."""
    kinds: list[int] = []
    data = skb.data
    at = skb.dataoff + sctp.HEADER
    alone = False
    while at + sctp.CHUNK_HEADER <= skb.end:
        kind = data[at]
        alone = alone or kind in (sctp.INIT, sctp.INIT_ACK, sctp.SHUTDOWN_COMPLETE)
        first_only = alone or kind in (sctp.COOKIE_ACK, sctp.COOKIE_ECHO)
        if (first_only and kinds) or not (data[at + 2] or data[at + 3]):
            skb.numbers = (kind, len(kinds), u16(data, at + 2))
            return []
        kinds.append(kind)
        at = sctp.next_chunk(data, at)
    return kinds


def _tag_is_special(kinds: list[int]) -> bool:
    """Whether a chunk has a rule of its own about the tag (RFC 9260 section 8.5.1)."""
    for kind in kinds:
        if kind in (sctp.INIT, sctp.SHUTDOWN_COMPLETE, sctp.COOKIE_ECHO, sctp.ABORT, sctp.SHUTDOWN_ACK):
            return True
        if kind == sctp.HEARTBEAT or kind == sctp.HEARTBEAT_ACK:
            return True
    return False


TAG_RIGHT: Final = 0
TAG_WRONG: Final = 1
TAG_PASS: Final = 2  # let it pass and believe nothing


def _judge_tag(info: SctpInfo, kind: int, flags: int, vtag: int, direction: int, ignore: bool, data: bool) -> int:
    mine = info.vtag[direction]
    if kind == sctp.INIT:
        return TAG_WRONG if vtag else TAG_RIGHT
    if kind == sctp.ABORT or kind == sctp.SHUTDOWN_COMPLETE:
        expected = info.vtag[1 - direction] if flags & sctp.FLAG_T else mine
        return TAG_RIGHT if vtag == expected else TAG_WRONG
    if kind == sctp.COOKIE_ECHO:
        return TAG_RIGHT if vtag == mine else TAG_WRONG
    if kind == sctp.COOKIE_ACK:
        info.init[0] = info.init[1] = False
        return TAG_RIGHT
    if kind == sctp.HEARTBEAT or kind == sctp.HEARTBEAT_ACK:
        return _judge_heartbeat(info, kind, vtag, direction, ignore or data)
    return TAG_RIGHT


def _judge_heartbeat(info: SctpInfo, kind: int, vtag: int, direction: int, not_alone: bool) -> int:
    """An end that restarted has other tags: its heartbeat passes, and an answer to it makes the tags new."""
    mine = info.vtag[direction]
    if mine == 0:
        info.vtag[direction] = vtag
        return TAG_RIGHT
    if vtag == mine:
        info.heartbeat_failed = False
        return TAG_RIGHT
    if not_alone:
        return TAG_WRONG
    if kind == sctp.HEARTBEAT:
        info.heartbeat_failed = True
        info.last_direction = direction
        return TAG_PASS
    if not info.heartbeat_failed or info.last_direction == direction:
        return TAG_WRONG
    info.heartbeat_failed = False
    info.vtag[direction] = vtag
    info.vtag[1 - direction] = 0
    return TAG_RIGHT


def _note_init(info: SctpInfo, skb: Skb, at: int, kind: int, direction: int) -> bool:
    """INIT and INIT_ACK announce the other direction's tag; False when that contradicts what is known."""
    if kind != sctp.INIT and kind != sctp.INIT_ACK:
        return True
    tag = _init_tag(skb, at)
    if tag < 0:
        return False
    other = 1 - direction
    if kind == sctp.INIT:
        if tag == info.vtag[other]:
            return True  # repeated: it says nothing that is not known
        if info.init[direction] and info.init[other]:
            info.init[other] = False
        info.init[direction] = True
    else:
        known = info.vtag[other]
        if not info.init[other] and known and known != tag:
            return False
        if info.init[direction] and info.init[other] and known != tag:
            return False
    info.vtag[other] = tag
    return True


def _init_tag(skb: Skb, at: int) -> int:
    """The initiate tag of the INIT or INIT_ACK chunk at `at`; -1 when the chunk is cut off."""
    if at + sctp.INIT_HEADER > skb.end:
        return -1
    return u32(skb.data, at + sctp.CHUNK_HEADER)

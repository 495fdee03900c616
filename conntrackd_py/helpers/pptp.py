"""PPTP: the control connection says which GRE packets belong to a call (RFC 2637).

The client (PNS) opens the control connection. Each end of a call chooses a call id, and each GRE packet has that of its
receiver. Two clients behind NAT may choose the same one for one server. So the server learns another one: the port that
the control connection has outside, or any free one for further calls. IPv4 only, as in the kernel.
Source: nf_conntrack_pptp.c, nf_nat_pptp.c.
"""

from typing import Final, cast, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import IPPROTO_TCP, ORIGINAL
from conntrackd_py.helpers.helper import PASS, REFUSED, ControlPacket, Helper, State
from conntrackd_py.wire.packet import put16, u16, u32

COOKIE: Final = 0x1A2B3C4D
CONTROL: Final = 1  # type of a message
MESSAGE_AT: Final = 8
BODY_AT: Final = 12
MOST_MESSAGES: Final = 16  # of one segment
MOST_CALLS: Final = 8  # of one control connection; then the oldest is forgotten
ATTEMPTS: Final = 128

START_REPLY: Final = 2
OUT_REQUEST: Final = 7
OUT_REPLY: Final = 8
IN_REQUEST: Final = 9
IN_REPLY: Final = 10
IN_CONNECTED: Final = 11
CLEAR: Final = 12
DISCONNECTED: Final = 13
WAN_ERROR: Final = 14
LINK_INFO: Final = 15
# length of the body by message; shorter ones are not read
LENGTHS: Final = (0, 144, 144, 4, 4, 4, 8, 156, 20, 208, 12, 16, 4, 136, 28, 12)
SUCCESS: Final = 1


@final
class Call:
    """inner: the client's call id; outer: as the server knows it; server: its own, 0 before it has told."""

    def __init__(self, inner: int, outer: int) -> None:
        self.inner = inner
        self.outer = outer
        self.server = 0


@final
class Calls(State):
    """started: the server accepted the control connection. incoming: the ids of calls that the server offered."""

    def __init__(self, *, started: bool = False) -> None:
        self.started = started
        self.calls: list[Call] = []
        self.incoming: list[int] = []

    def of_client(self, inner: int) -> Call | None:
        for call in self.calls:
            if call.inner == inner:
                return call
        return None

    def of_server(self, outer: int) -> Call | None:
        for call in self.calls:
            if call.outer == outer:
                return call
        return None


@final
class Pptp(Helper):
    name = "pptp"
    protonum = IPPROTO_TCP
    policies = ((2, 300),)

    def state(self) -> State | None:
        return Calls()

    def resumed(self) -> State | None:
        return Calls(started=True)

    def help(self, packet: ControlPacket) -> int:
        if len(packet.sender) != 4:
            return PASS
        payload, at = packet.payload, 0
        for _ in range(MOST_MESSAGES):
            if at + BODY_AT > len(payload) or u16(payload, at + 2) != CONTROL or u32(payload, at + 4) != COOKIE:
                break
            length, message = u16(payload, at), u16(payload, at + MESSAGE_AT)
            known = 0 < message < len(LENGTHS) and length >= BODY_AT + LENGTHS[message]
            if at + length > len(payload) or length < BODY_AT:
                break
            if known and not self._message(packet, message, at + BODY_AT):
                return REFUSED
            at += length
        return PASS

    def _message(self, packet: ControlPacket, message: int, at: int) -> bool:
        """Read a message whose body begins there; False if its call cannot be expected."""
        calls = cast(Calls, packet.state)
        if packet.direction == ORIGINAL:
            return _of_client(packet, calls, message, at)
        return _of_server(packet, calls, message, at)


def _of_client(packet: ControlPacket, calls: Calls, message: int, at: int) -> bool:
    own = u16(packet.payload, at)
    call = calls.of_client(own)
    accepts = message == IN_REPLY and u16(packet.payload, at + 2) in calls.incoming
    if (message == OUT_REQUEST and calls.started) or (accepts and packet.payload[at + 4] == SUCCESS):
        if call is None:
            call = _new(packet, calls, own)
        if call is None:
            return False
        if accepts:
            call.server = u16(packet.payload, at + 2)
    if call is not None and message in (OUT_REQUEST, IN_REPLY, CLEAR):
        _put(packet, at, call.outer)
    return True


def _of_server(packet: ControlPacket, calls: Calls, message: int, at: int) -> bool:
    payload = packet.payload
    if message == START_REPLY:
        calls.started = payload[at + 2] == SUCCESS
    elif message == IN_REQUEST and calls.started:
        calls.incoming = [*calls.incoming[1 - MOST_CALLS :], u16(payload, at)]
    elif message == DISCONNECTED:
        packet.ended.append(payload[at : at + 2])
        calls.calls = [call for call in calls.calls if call.server != u16(payload, at)]
    elif message in (OUT_REPLY, IN_CONNECTED, WAN_ERROR, LINK_INFO):
        peer = at + 2 if message == OUT_REPLY else at
        call = calls.of_server(u16(payload, peer))
        if call is None:
            return True
        _put(packet, peer, call.inner)
        if message == OUT_REPLY:
            if payload[at + 4] != SUCCESS:
                calls.calls.remove(call)
                return True
            call.server = u16(payload, at)
        if message in (OUT_REPLY, IN_CONNECTED) and call.server:
            return packet.expect_call(call.inner, call.outer, call.server)
    return True


def _new(packet: ControlPacket, calls: Calls, own: int) -> Call | None:
    """A call of the client; None if no id is free outside."""
    outer = tuples.l4dst(packet.ct.reply) if packet.translated else own
    pair = tuples.src(packet.ct.reply) + tuples.dst(packet.ct.reply)
    for _ in range(ATTEMPTS if packet.translated else 0):
        if calls.of_server(outer) is None and pair + put16(outer) not in packet.keymap:
            break
        outer = 1 + packet.randomness.below(0xFFFF)
    if calls.of_server(outer) is not None:
        return None
    call = Call(own, outer)
    calls.calls = [*calls.calls[1 - MOST_CALLS :], call]
    return call


def _put(packet: ControlPacket, at: int, number: int) -> None:
    if packet.translated and u16(packet.payload, at) != number:
        packet.replace(at, 2, put16(number))

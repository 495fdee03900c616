"""The public interface: a helper reads the payload of a control connection and expects the connections it announces.

A helper is a class with a name, a protocol, its limits and one method. It has no clock, no I/O and no table: everything
it may know or do is in the ControlPacket. docs/helpers.md has an example and its test.

Payload comes from the network. A helper must end in a time that the length of the payload bounds, and raise nothing;
what it cannot read it lets pass. An exception is an error of the packet: queue.on_error decides.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import ClassVar, Final, final

from mypy_extensions import mypyc_attr

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import INACTIVE, PERMANENT, Expectation, Expectations
from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_GRE, IPPROTO_TCP, IPS_NAT_MASK, ORIGINAL, REPLY
from conntrackd_py.reasons import HELPER_PARTIAL, HELPER_REFUSED, OK

# what Helper.help returns
PASS: Final = OK
PARTIAL: Final = HELPER_PARTIAL  # drop the packet: the sender repeats it, perhaps with the rest of the command
REFUSED: Final = HELPER_REFUSED  # drop the packet: what it announces cannot be expected

ATTEMPTS: Final = 128  # ports tried for one expectation
LOWEST: Final = 1024  # port tried at random
HIGHEST: Final = 65535
MOST_CHANGES: Final = 64  # of one packet
REMEMBERED: Final = 16  # announcements of one connection


@mypyc_attr(allow_interpreted_subclasses=True)
class State:
    """What a helper keeps of one connection; a helper derives its own."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Helper(ABC):
    """policies: for each class of expectations, how many a master may have and their timeout in s.

    other_protonum: of a helper for two protocols.
    """

    name: ClassVar[str] = ""
    protonum: ClassVar[int] = IPPROTO_TCP
    other_protonum: ClassVar[int] = 0
    policies: ClassVar[tuple[tuple[int, int], ...]] = ((1, 300),)

    def __init__(self, tunables: Tunables) -> None:
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        """Use these switches from now on."""
        return

    def state(self) -> State | None:
        """The state of a new connection."""
        return None

    def resumed(self) -> State | None:
        """The state of a connection that goes on after a restart: packets have passed, what they said is unknown."""
        return self.state()

    @abstractmethod
    def help(self, packet: "ControlPacket") -> int:
        """Read a packet of a connection, TCP only when established; PASS, PARTIAL or REFUSED."""


@final
class Helped:
    """A connection with a helper (nf_conn_help).

    ports: direction, protocol and port of an announcement -> the port outside. A repeated announcement gets the same
    one, also after its connection has come.
    """

    def __init__(self, helper: Helper, state: State | None) -> None:
        self.helper = helper
        self.state = state
        self.ports: OrderedDict[tuple[int, int, int], int] = OrderedDict()

    def remember(self, direction: int, protonum: int, port: int, outer: int) -> None:
        """Beyond REMEMBERED the oldest is forgotten."""
        key = (direction, protonum, port)
        self.ports[key] = outer
        self.ports.move_to_end(key)
        if len(self.ports) > REMEMBERED:
            self.ports.popitem(last=False)


@final
class Announced:
    """Where the peer must connect to: address and port, as the announcement must say it."""

    def __init__(self, expectation: Expectation) -> None:
        self.address = tuples.dst(expectation.tuple)
        self.port = tuples.l4dst(expectation.tuple)


@final
class ControlPacket:
    """One packet of a connection with a helper.

    payload: of layer 4. direction: ORIGINAL or REPLY. seq: of TCP, as the sender counts. now: ms.
    sender, receiver: both ends, as they are behind NAT. state: what Helper.state made.
    translated: NAT changes an address or port of the connection. Only then should the payload change.
    keymap: of the GRE tracker; ended: the call ids of the calls that this packet ends.
    low, high: ports outside that are tried at random. confined: no other ones are given: the host has port blocks.
    network: the netmask, if the router itself sent the packet to the broadcast address of a network; else empty.
    """

    def __init__(
        self,
        ct: NfConn,
        helped: Helped,
        direction: int,
        payload: bytes,
        seq: int,
        now: int,
        expectations: Expectations,
        randomness: Randomness,
    ) -> None:
        self.ct = ct
        self.helped = helped
        self.helper = helped.helper
        self.state = helped.state
        self.network = b""
        self.low, self.high = LOWEST, HIGHEST
        self.confined = False
        self.keymap: dict[bytes, bytes] = {}
        self.ended: list[bytes] = []
        self.direction = direction
        self.payload = payload
        self.seq = seq
        self.now = now
        self.translated = ct.status & IPS_NAT_MASK != 0
        self.expectations = expectations
        self.randomness = randomness
        self.changes: list[tuple[int, int, bytes]] = []
        self.made: list[Expectation] = []

    @property
    def sender(self) -> bytes:
        return tuples.src(self.ct.tuple(self.direction))

    @property
    def receiver(self) -> bytes:
        return tuples.src(self.ct.tuple(1 - self.direction))

    @property
    def outside(self) -> bytes:
        """The sender's address as its peer sees it."""
        return tuples.dst(self.ct.tuple(1 - self.direction))

    @property
    def sport(self) -> int:
        """The sender's own port."""
        return tuples.l4src(self.ct.tuple(self.direction))

    def replace(self, at: int, length: int, new: bytes) -> None:
        """Replace these bytes of the payload by others. Changes must not overlap."""
        if len(self.changes) < MOST_CHANGES:
            self.changes.append((at, length, new))

    def refresh(self, seconds: int) -> None:
        """Keep the control connection for so long without another packet, at least."""
        if self.ct.remaining(self.now) < seconds * 1000:
            self.ct.refresh(self.now, seconds * 1000)

    def expect(
        self,
        address: bytes,
        port: int,
        *,
        kind: int = 0,
        protonum: int = 0,
        fixed: bool = False,
        anyone: bool = False,
        span: int = 1,
        flags: int = 0,
        seconds: int = 0,
        child: str = "",
    ) -> Announced | None:
        """Expect a connection from the peer to this address and port, from any port; None if that is impossible.

        address: of the sender, or another one, for which nothing is translated. With NAT the port outside is the same
        if it is free, otherwise a random one; for the port of the control connection, that of the control connection.
        fixed: the port outside is that of the control connection. anyone: not only from the peer. protonum: 0 for that
        of the control connection. kind: the class. span: as many connections, to ports in a row. seconds: 0 for the
        timeout of the class. child: the helper of the expected connection.
        """
        back = self.ct.tuple(1 - self.direction)
        own = address == self.sender
        outer = tuples.dst(back) if own else address
        search = self.translated and own
        room = self.high - self.low + 1 if search and self.confined else HIGHEST
        if len(outer) != tuples.address_length(back) or not 0 < port <= HIGHEST - span + 1 or span > room:
            return None
        proto = protonum or tuples.protonum(back)
        first = tuples.l4dst(back) if fixed else self._first(port, proto, span) if search else port
        for attempt in range(ATTEMPTS if search and not fixed else 1):
            number = first if not attempt else self._other(first, attempt, span)
            row = [self._wanted(outer, number + n, proto, anyone, kind) for n in range(span)]
            if not any(self.expectations.clashes(wanted) for wanted in row):
                for n, wanted in enumerate(row):
                    wanted.until, wanted.port = self.now + (seconds or self.helper.policies[kind][1]) * 1000, port + n
                    wanted.flags, wanted.child_helper, wanted.follows = flags, child, search
                return self._add(row)
        return None

    def _first(self, port: int, protonum: int, span: int) -> int:
        """The port outside to try first."""
        first = self._same(port, protonum)
        if self.confined and not self.low <= first <= self.high - span + 1:
            return self._other(first, 0, span)
        return first

    def _other(self, first: int, attempt: int, span: int) -> int:
        """The port to try next: any one, but the next free ones for several in a row (nf_nat_sdp_media)."""
        if attempt and span > 1 and first + attempt * span + span - 1 <= self.high:
            return first + attempt * span
        return self.low + self.randomness.below(self.high - self.low - span + 2)

    def _same(self, port: int, protonum: int) -> int:
        """The port outside to try first. A retransmission must get the same as before."""
        if protonum == tuples.protonum(self.ct.original) and port == self.sport:
            return tuples.l4dst(self.ct.tuple(1 - self.direction))
        return outer_port(self.helped, self.expectations, self.ct, self.direction, protonum, port) or port

    def _wanted(self, outer: bytes, number: int, protonum: int, anyone: bool, kind: int) -> Expectation:
        back = self.ct.tuple(1 - self.direction)
        length = tuples.address_length(back)
        source, significant = (bytes(length), bytes(length)) if anyone else (tuples.src(back), b"\xff" * length)
        t = tuples.make(source + outer, b"\0\0" + number.to_bytes(2, "big"), protonum)
        t = tuples.with_zone(t, tuples.zone(self.ct.original))
        wanted = Expectation(self.ct, t, tuples.with_src(b"\xff" * len(t), significant, 0), self.now, kind=kind)
        wanted.helper = self.helper.name
        wanted.direction = 1 - self.direction
        return wanted

    def expect_call(self, caller: int, outer: int, callee: int) -> bool:
        """Expect the GRE packets of a PPTP call, from either end first.

        caller, callee: the call ids of the ends of the control connection; outer: that of the caller as the callee
        knows it.
        """
        inner, outside, other = [number.to_bytes(2, "big") for number in (caller, outer, callee)]
        row = []
        for direction, l4, number in ((ORIGINAL, inner + other, outer), (REPLY, other + outside, caller)):
            end = self.ct.tuple(direction)
            t = tuples.make(tuples.src(end) + tuples.dst(end), l4, IPPROTO_GRE)
            t = tuples.with_zone(t, tuples.zone(end))
            wanted = Expectation(self.ct, t, b"\xff" * len(t), self.now + self.helper.policies[0][1] * 1000)
            wanted.helper, wanted.direction = self.helper.name, direction
            wanted.follows, wanted.port = self.translated, number
            if self.expectations.clashes(wanted):
                return False
            row.append(wanted)
        return self._add(row) is not None

    def expect_answers(self, port: int) -> bool:
        """Expect answers to a broadcast, from this port of any host of the network, until the timeout of the class."""
        t = tuples.with_src(self.ct.reply, tuples.src(self.ct.reply), port)
        mask = tuples.with_src(b"\xff" * len(t), self.network, 0xFFFF)
        until = self.now + self.helper.policies[0][1] * 1000
        wanted = Expectation(self.ct, t, mask, until, flags=PERMANENT)
        wanted.helper = self.helper.name
        return self._add([wanted]) is not None

    def _add(self, row: list[Expectation]) -> Announced | None:
        for wanted in row:
            if not self.expectations.expect(wanted, self.helper.policies[wanted.kind][0], self.now):
                return None  # withdraw removes the others
            self.made.append(wanted)
            if wanted.follows and not wanted.calls:
                t = wanted.tuple
                self.helped.remember(self.direction, tuples.protonum(t), wanted.port, tuples.l4dst(t))
        return Announced(row[0])

    def expected(self, kind: int) -> list[Expectation]:
        """What the control connection expects of this class."""
        return [known for known in self.expectations.by_master.get(self.ct.slot, []) if known.kind == kind]

    def forget(self, kind: int, *, others: bool = False) -> None:
        """Expect nothing of this class any more; or nothing of the others."""
        for known in list(self.expectations.by_master.get(self.ct.slot, [])):
            if (known.kind == kind) != others:
                self.expectations.remove(known, self.now)

    def activate(self, known: Expectation, seconds: int) -> None:
        """What was expected as INACTIVE is effective, for so long."""
        known.flags &= ~INACTIVE
        self.expectations.extend(known, self.now + seconds * 1000)

    def withdraw(self) -> None:
        """Remove what this packet made the helper expect: the packet does not leave."""
        for made in self.made:
            if made in self.expectations.by_master.get(self.ct.slot, []):
                self.expectations.remove(made, self.now)
        self.made = []

    def changed(self) -> bytes:
        """The payload with all changes."""
        payload = self.payload
        for at, length, new in sorted(self.changes, reverse=True):
            payload = payload[:at] + new + payload[at + length :]
        return payload


def outer_port(
    helped: Helped | None, expectations: Expectations, master: NfConn, direction: int, protonum: int, port: int
) -> int:
    """The port outside that the end which sends in this direction announced for its port; 0 if it announced none.

    After a restart only what is still expected is known.
    """
    outer = helped.ports.get((direction, protonum, port), 0) if helped is not None else 0
    if outer:
        return outer
    for known in expectations.by_master.get(master.slot, []):
        if known.follows and (known.port, known.direction) == (port, 1 - direction):
            if tuples.protonum(known.tuple) == protonum:
                return tuples.l4dst(known.tuple)
    return 0

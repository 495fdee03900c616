"""The public interface: a helper reads the payload of a control connection and expects the connections it announces.

A helper is a class with a name, a protocol, its limits and one method. It has no clock, no I/O and no table: everything
it may know or do is in the ControlPacket. docs/helpers.md has an example and its test.

Payload comes from the network. A helper must end in a time that the length of the payload bounds, and raise nothing;
what it cannot read it lets pass. An exception is an error of the packet: queue.on_error decides.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final, final

from mypy_extensions import mypyc_attr

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import Expectation, Expectations
from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_TCP, IPS_NAT_MASK
from conntrackd_py.reasons import HELPER_PARTIAL, HELPER_REFUSED, OK

# what Helper.help returns
PASS: Final = OK
PARTIAL: Final = HELPER_PARTIAL  # drop the packet: the sender repeats it, perhaps with the rest of the command
REFUSED: Final = HELPER_REFUSED  # drop the packet: what it announces cannot be expected

ATTEMPTS: Final = 128  # ports tried for one expectation
LOWEST: Final = 1024  # port tried at random
HIGHEST: Final = 65535
MOST_CHANGES: Final = 64  # of one packet


@mypyc_attr(allow_interpreted_subclasses=True)
class State:
    """What a helper keeps of one connection; a helper derives its own."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Helper(ABC):
    """policies: for each class of expectations, how many a master may have and their timeout in s."""

    name: ClassVar[str] = ""
    protonum: ClassVar[int] = IPPROTO_TCP
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
    """A connection with a helper (nf_conn_help)."""

    def __init__(self, helper: Helper, state: State | None) -> None:
        self.helper = helper
        self.state = state


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
        self.helper = helped.helper
        self.state = helped.state
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
        self, address: bytes, port: int, *, kind: int = 0, protonum: int = 0, fixed: bool = False, anyone: bool = False
    ) -> Announced | None:
        """Expect a connection from the peer to this address and port, from any port; None if that is impossible.

        address: of the sender, or another one, for which nothing is translated. With NAT the port outside is the same
        if it is free, otherwise a random one. fixed: the port outside is that of the control connection.
        anyone: not only from the peer. protonum: 0 for that of the control connection. kind: the class.
        """
        back = self.ct.tuple(1 - self.direction)
        own = address == self.sender
        outer = tuples.dst(back) if own else address
        if len(outer) != tuples.address_length(back) or not 0 < port <= HIGHEST:
            return None
        first = tuples.l4dst(back) if fixed else self._same(port, kind) or port
        proto = tuples.PROTO_BYTE[protonum or tuples.protonum(back)]
        search = self.translated and own and not fixed
        number = first
        for attempt in range(ATTEMPTS if search else 1):
            if attempt:
                number = LOWEST + self.randomness.below(HIGHEST - LOWEST + 1)
            l4 = b"\0\0" + number.to_bytes(2, "big")
            t = tuples.with_zone(tuples.make(tuples.src(back) + outer, l4, proto[0]), tuples.zone(self.ct.original))
            wanted = self._wanted(t, kind, anyone)
            if not self.expectations.clashes(wanted):
                wanted.follows = self.translated and own
                wanted.direction = 1 - self.direction
                wanted.port = port
                return self._add(wanted)
        return None

    def _same(self, port: int, kind: int) -> int:
        """The port outside that this announcement got before: a retransmission must not change; 0 if there is none."""
        for known in self.expectations.by_master.get(self.ct.slot, []):
            if known.follows and known.port == port and known.kind == kind and known.direction != self.direction:
                return tuples.l4dst(known.tuple)
        return 0

    def _wanted(self, t: bytes, kind: int, anyone: bool) -> Expectation:
        mask = tuples.with_src(b"\xff" * len(t), b"\xff" * tuples.address_length(t), 0)
        if anyone:
            zeros = bytes(tuples.address_length(t))
            t, mask = tuples.with_src(t, zeros, 0), tuples.with_src(mask, zeros, 0)
        _, timeout = self.helper.policies[kind]
        wanted = Expectation(self.ct, t, mask, self.now + timeout * 1000, kind=kind)
        wanted.helper = self.helper.name
        return wanted

    def _add(self, wanted: Expectation) -> Announced | None:
        most, _ = self.helper.policies[wanted.kind]
        if not self.expectations.expect(wanted, most, self.now):
            return None
        self.made.append(wanted)
        return Announced(wanted)

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

"""The daemon's tables, one a family: recognition (recognition.py), and the maps that rewrite packets by their mark.

    prerouting   -250   destination, after the first visit (raw, -300) and before the kernel's tracking (-200)
    postrouting  -145   source, after the last visit (mangle, -150) and before the leak table (-140)

There are more places (recognition.py, flows.py). At one hook and priority there is one chain, because each costs.
The tables belong to a socket of the daemon (steering/nftables.py): no other program can change or flush them, and they
end with the socket. Where it outlives the process (service/fd_store.py), the kernel goes on with them, and the next
process takes them over: it keeps the elements of restored connections and deletes all others
(engine/takeover/kernel_maps.py). If its tables differ, it replaces them in one transaction. An empty chain whose name
is a digest of the text says whether they differ.
"""

import errno
import hashlib
import select
import socket
from typing import Final, NamedTuple, final

import structlog

from conntrackd_py.engine.mark_codec import done_bit, not_a_field, valid_bit
from conntrackd_py.engine.mark_maps import FLOWS, LEAVES, MOST_CONNECTIONS, SOURCES, Element, Maps
from conntrackd_py.kernel.maps import NAME, flows, recognition
from conntrackd_py.kernel.maps.elements import (
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWSETELEM,
    counters,
    key_and_value,
    questions,
    renewal,
    transaction,
)
from conntrackd_py.kernel.maps.listing import ANSWER_WITHIN, NFGENMSG, ROOM, listed, raise_error
from conntrackd_py.kernel.maps.recognition import ALL_BITS, chain
from conntrackd_py.kernel.netlink import NFNL_SUBSYS_NFTABLES, NLMSG_ERROR, messages
from conntrackd_py.kernel.receive_buffer import grow_buffer
from conntrackd_py.kernel.steering.nftables import Nftables, NftablesError

log = structlog.get_logger()

FAMILIES: Final = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
VERSIONS: Final = {"ip": 4, "ip6": 6}
TRANSLATING: Final = ("saddr", "daddr", "sport", "dport")
AFTER_FIRST_VISIT: Final = -250
AFTER_LAST_VISIT: Final = -145
BUFFER: Final = 1 << 20  # bytes of reports that may wait
REPORTS: Final = {NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM)}
HELP: Final = "the daemon forwards and rewrites every packet from now on"

CREATED: Final = "".join(f"create table {family} {NAME} {{ flags owner; }}\n" for family in FAMILIES)
# An added table is there to be deleted, whether it was there before or not.
REMOVED: Final = "".join(
    f"add table {family} {NAME} {{ flags owner; }}\ndelete table {family} {NAME}\n" for family in FAMILIES
)

Counted = dict[bytes, tuple[int, int]]  # packets and bytes, by the key of an element


class Parts(NamedTuple):
    """What the tables hold. mask: steering.mark_mask, not 0. excluded: interfaces that are not recognised."""

    mask: int
    excluded: tuple[str, ...] = ()
    translate: bool = False
    spare: bool = False  # with `translate` or `offload`: the chain `leave`
    offload: bool = False


def ruleset(parts: Parts) -> str:
    """The tables as nft text."""
    texts = {family: _table(family, address, parts) for family, address in FAMILIES.items()}
    return "".join(
        f"table {family} {NAME} {{\nflags owner\n{text}chain {digest(parts)} {{\n}}\n}}\n"
        for family, text in texts.items()
    )


def digest(parts: Parts) -> str:
    """The name of the chain that tells these tables from others."""
    texts = "".join(_table(family, address, parts) for family, address in FAMILIES.items())
    return f"made_{hashlib.sha256(texts.encode()).hexdigest()[:16]}"


def remove(former: socket.socket) -> None:
    """End the tables of a former process, whoever else has a duplicate of its socket. Raises NftablesError."""
    nftables = Nftables(former)
    try:
        nftables.run(REMOVED)
    finally:
        nftables.close()


def _table(family: str, address: str, parts: Parts) -> str:
    text = _maps(address) if parts.translate else ""
    if parts.spare:
        text += flows.sets(family, address, offload=parts.offload)
    text += recognition.known_set(address)
    if parts.translate:
        text += _translation(family, parts.mask)
    if parts.spare:
        text += flows.chains(family, parts.mask, translate=parts.translate, offload=parts.offload)
    text += recognition.chains(family, parts.mask, parts.excluded, offload=parts.offload)
    return text + _after_first_visit(family, parts) + _after_last_visit(family, parts)


def _maps(address: str) -> str:
    return "".join(
        f"map {name} {{\ntype mark : {kind}\nsize {2 * MOST_CONNECTIONS}\n}}\n"
        for name, kind in zip(TRANSLATING, (address, address, "inet_service", "inet_service"), strict=True)
    )


def _translation(family: str, mask: int) -> str:
    """The chains that translate the source after the last visit, and ports."""
    done = done_bit(mask)
    source = f"{family} saddr set meta mark & {mask:#x} map @saddr meta mark set meta mark | {done:#x} goto sports"
    ports = "".join(
        f"chain {name}s {{\ntcp {name} set {key} map @{name}\nudp {name} set {key} map @{name}\n}}\n"
        for name, key in (("sport", _key(mask)), ("dport", _key(mask)))
    )
    return f"{ports}chain source {{\nudp checksum 0 return\n{source}\n}}\n"


def _key(mask: int) -> str:
    """At PREROUTING the steering rules cleared a "done" from elsewhere; at POSTROUTING the address sets it first."""
    return f"meta mark & {mask ^ done_bit(mask):#x}"


def _after_first_visit(family: str, parts: Parts) -> str:
    rules = [recognition.unqueued(parts.mask)]
    if parts.translate:
        rules += ["udp checksum 0 return", f"{family} daddr set {_key(parts.mask)} map @daddr goto dports"]
    return chain("destination", "prerouting", AFTER_FIRST_VISIT, rules)


def _after_last_visit(family: str, parts: Parts) -> str:
    mask, text, rules = parts.mask, "", []
    done, valid, field = done_bit(mask), valid_bit(mask), not_a_field(mask)
    if parts.spare:
        passed = f"meta mark & {mask:#x} . {family} saddr @{SOURCES} meta mark set meta mark | {valid:#x}"
        if not parts.offload:  # each update costs about 80 ns
            passed += f" {recognition.remembered(family)}"
        own = f"meta mark & {mask:#x} == {done:#x} fib saddr type local return"
        text = f"chain left {{\n{passed} return\n{own}\nmeta mark set meta mark & {ALL_BITS ^ field:#x}\n}}\n"
        rules.append(f"meta mark & {field:#x} == {done:#x} goto left")
    if parts.translate:
        rules.append(f"meta mark & {field:#x} == {valid:#x} jump source")
    return text + chain("last", "postrouting", AFTER_LAST_VISIT, [*rules, recognition.remember(family, mask)])


@final
class MapTables(Maps):
    """Made at construction. Raises NftablesError, for example if a table of this name exists.

    former: the socket of a former process, which is closed. adopted: its tables are these, with their elements.
    """

    def __init__(self, parts: Parts, former: socket.socket | None = None, *, adopt: bool = True) -> None:
        self.parts = parts
        self.nftables = Nftables(former)
        self.renewed = 0  # ms
        try:
            self.adopted = former is not None and adopt and self._are_these()
            if not self.adopted:
                self.nftables.run((REMOVED if former is not None else "") + CREATED + ruleset(parts))
            self.sock = self.nftables.owner()
        except Exception:
            self.nftables.close()
            raise
        grow_buffer(self.sock, BUFFER)
        self.sequence = 0

    def _are_these(self) -> bool:
        chain = digest(self.parts)
        try:
            for family in FAMILIES:
                self.nftables.run(f"list chain {family} {NAME} {chain}\n")
        except NftablesError:
            return False
        return True

    def replace(self) -> bool:
        """Begin anew with empty maps; False: there are none any more."""
        try:
            self.nftables.run(REMOVED + CREATED + ruleset(self.parts))
        except NftablesError as error:
            log.error("maps_failed", error=str(error), help=HELP)
            self.end()
            return False
        return True

    def held(self) -> list[Element] | None:
        """All elements, those of `flows` with their counters; None if they cannot be read."""
        names = (
            *((FLOWS,) if self.parts.offload else ()),
            *((LEAVES, SOURCES) if self.parts.spare else ()),
            *(TRANSLATING if self.parts.translate else ()),
        )
        found: list[Element] = []
        try:
            for family in VERSIONS.values():
                for name in names:
                    found += listed(self.sock, NAME, family, name, self._next)
        except OSError as error:
            log.warning("maps_unreadable", error=str(error))
            return None
        return found

    @property
    def ended(self) -> bool:
        return self.sock.fileno() < 0

    def renew(self, now: int) -> None:
        """Tell the kernel that the daemon is there, if it is time."""
        if not self.ended and self.parts.offload and now - self.renewed >= flows.RENEW:
            self.renewed = now
            self._asked([renewal(NAME, self._next())])

    def add(self, elements: list[Element]) -> bool:
        return self._done(NFT_MSG_NEWSETELEM, elements)

    def delete(self, elements: list[Element]) -> bool:
        return self._done(NFT_MSG_DELSETELEM, elements)

    def delete_counted(self, elements: list[Element]) -> list[int]:
        asked = [transaction(NAME, NFT_MSG_DELSETELEM, elements, self._next(), echo=True)]
        return self._counted([element for element in elements if element.map == FLOWS], asked)

    def counters(self, elements: list[Element]) -> list[int]:
        return self._counted(elements, questions(NAME, elements, self._next()))

    def recognise(self, on: bool) -> bool:
        return self._replace(FLOWS, {family: flows.lookup(family) if on else [] for family in FAMILIES})

    def spare(self, on: bool) -> bool:
        return self._replace(
            flows.LEAVE, {family: flows.leave(family, self.parts.mask, spare=on) for family in FAMILIES}
        )

    def _replace(self, name: str, rules: dict[str, list[str]]) -> bool:
        """Replace the rules of a chain, by family."""
        lines = [f"flush chain {family} {NAME} {name}" for family in rules]
        lines += [f"add rule {family} {NAME} {name} {rule}" for family in rules for rule in rules[family]]
        try:
            self.nftables.run("\n".join((*lines, "")))
        except NftablesError as error:
            log.error("maps_failed", error=str(error), help=HELP)
            return False
        return True

    def _next(self) -> int:
        self.sequence = self.sequence % 0x7FFFFFFF + 1
        return self.sequence

    def _done(self, kind: int, elements: list[Element]) -> bool:
        return self._asked([transaction(NAME, kind, elements, self._next())]) is not None

    def _counted(self, flows: list[Element], asked: list[bytes]) -> list[int]:
        """Packets and bytes of each; empty if the kernel did not report all of them."""
        found = self._asked(asked)
        keys = [key_and_value(element)[0] for element in flows]
        if found is None:
            return []
        if not all(key in found for key in keys):
            log.error("maps_failed", error="the kernel did not report all counters", help=HELP)
            return []
        return [number for key in keys for number in found[key]]

    def _asked(self, asked: list[bytes]) -> Counted | None:
        """The counters that the kernel reported; None if it refused."""
        found: Counted = {}
        try:
            for one in asked:
                self.sock.send(one)
                self._acknowledged(found)
        except OSError as error:
            log.error("maps_failed", error=str(error), help=HELP)
            return None
        return found

    def _acknowledged(self, found: Counted) -> None:
        """Read answers up to the acknowledgement. Raises OSError unless the kernel did as asked."""
        while select.select([self.sock], [], [], ANSWER_WITHIN)[0]:
            for kind, sequence, body in messages(self.sock.recv(ROOM)):
                if kind in REPORTS:  # of a deletion, without the sequence number
                    found.update((key, (packets, size)) for key, packets, size in counters(body[NFGENMSG:]))
                elif kind == NLMSG_ERROR and sequence == self.sequence:
                    raise_error(body)
                    return
        raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer")

    def close(self) -> None:
        """Keep the recognition: it clears marks from elsewhere, which the steering rules believe."""
        self.parts = self.parts._replace(translate=False, spare=False, offload=False)
        gone = "".join(f"delete table {family} {NAME}\n" for family in FAMILIES)
        try:
            self.nftables.run(gone + CREATED + ruleset(self.parts))
        except NftablesError as error:
            log.error("maps_failed", error=str(error), help=HELP)
            self.end()

    def end(self) -> None:
        """The tables end with their socket, if nobody else has it. May be called again."""
        if not self.ended:
            self.sock.close()
            self.nftables.close()

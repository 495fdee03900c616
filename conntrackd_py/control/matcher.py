"""The matcher of a request's filter. conntrack-py builds one too, to report mistakes without a daemon."""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from msgspec import UNSET

from conntrackd_py import const
from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.control.protocol.requests import Filter, RequestError, StatusName, UpdateFilter
from conntrackd_py.explain.stale import CURRENT, Stale
from conntrackd_py.match.address import FAMILIES, AddressError, MaskedNetwork, address_and_port
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.proto import rfc7857, sctp, tcp_states

Parsed = TypeVar("Parsed")

NO_NAMES: Final[Mapping[int, str]] = {}
Test = Callable[[NfConn, NfConn | Event], bool]
Field = Callable[[bytes], int]
ADDRESSES: Final = {
    "src": (const.ORIGINAL, tuples.src),
    "dst": (const.ORIGINAL, tuples.dst),
    "reply_src": (const.REPLY, tuples.src),
    "reply_dst": (const.REPLY, tuples.dst),
}
L4_FIELDS: Final = (
    (const.ORIGINAL, tuples.l4src),
    (const.ORIGINAL, tuples.l4dst),
    (const.REPLY, tuples.l4src),
    (const.REPLY, tuples.l4dst),
)
PORTS: Final = dict(zip(("sport", "dport", "reply_sport", "reply_dport"), L4_FIELDS, strict=True))
GRE_KEYS: Final = dict(zip(("srckey", "dstkey", "reply_srckey", "reply_dstkey"), L4_FIELDS, strict=True))
ICMP_FIELDS: Final[dict[str, tuple[int, Field]]] = {
    "icmp_type": (const.ORIGINAL, lambda t: tuples.l4dst(t) >> 8),
    "icmp_code": (const.ORIGINAL, lambda t: tuples.l4dst(t) & 0xFF),
    "icmp_id": (const.ORIGINAL, tuples.l4src),
}
LAYER4: Final = (
    (PORTS, const.WITH_PORTS, "a protocol with ports (tcp, udp, udplite, sctp, dccp)"),
    (ICMP_FIELDS, const.ICMP_PROTOCOLS, "the protocol icmp or icmpv6"),
    (GRE_KEYS, (const.IPPROTO_GRE,), "the protocol gre"),
)
NAT_SIDES: Final = {"src_nat": (True, False), "dst_nat": (False, True), "any_nat": (True, True)}
STATES: Final = {
    const.IPPROTO_TCP: (*tcp_states.STATE_NAMES, *(name for name in rfc7857.STATE_NAMES if name != "ESTABLISHED")),
    const.IPPROTO_SCTP: sctp.STATE_NAMES,
    const.IPPROTO_DCCP: ("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT"),
}
U32: Final = 0xFFFFFFFF


class Matcher:
    """Raises RequestError for fields that contradict each other or that the protocol does not have.

    names: interfaces by index, read at each match. now: ms, for ages and timeouts. stale: None: only check the filter.
    """

    def __init__(
        self,
        wanted: UpdateFilter,
        names: Mapping[int, str] = NO_NAMES,
        now: int = 0,
        stale: Stale | None = None,
    ) -> None:
        self.tests: list[Test] = []
        self._length = 0  # of an address, 0 while the family is open
        self._proto = -1 if wanted.proto is UNSET else wanted.proto
        self._family(wanted)
        self._layer4(wanted)
        self._zones(wanted)
        self._translation(wanted)
        if wanted.labels is not UNSET:
            labels = label_bits(wanted.labels)
            self.tests.append(lambda ct, seen: seen.labels & labels == labels)
        if isinstance(wanted, Filter):
            self._condition(wanted)
            self._ends(wanted, names)
            self._age(wanted, now, stale)

    def matches(self, ct: NfConn, seen: NfConn | Event) -> bool:
        """seen: ct itself or an event of it; its status, state, mark and labels are compared."""
        return all(test(ct, seen) for test in self.tests)

    def _set_length(self, length: int) -> None:
        if self._length not in (0, length):
            raise RequestError("mismatched address family")
        self._length = length

    def _family(self, wanted: UpdateFilter) -> None:
        if wanted.family is not UNSET:
            length = FAMILIES[wanted.family]
            self._set_length(length)
            self.tests.append(lambda ct, seen: tuples.address_length(ct.original) == length)
        if wanted.proto is not UNSET:
            proto = self._proto
            self.tests.append(lambda ct, seen: tuples.protonum(ct.original) == proto)
        for key, (direction, field) in ADDRESSES.items():
            text = getattr(wanted, key)
            if text is not UNSET:
                self.tests.append(_address_test(direction, field, self._network(text)))

    def _network(self, text: str) -> MaskedNetwork:
        network = checked(MaskedNetwork, text)
        self._set_length(network.length)
        return network

    def _layer4(self, wanted: UpdateFilter) -> None:
        for fields, protocols, needed in LAYER4:
            for key, (direction, field) in fields.items():
                value = getattr(wanted, key)
                if value is UNSET:
                    continue
                if self._proto not in protocols:
                    raise RequestError(f"{key} needs {needed}")
                self.tests.append(_field_test(direction, field, value))

    def _zones(self, wanted: UpdateFilter) -> None:
        for key in ("zone", "orig_zone", "reply_zone"):
            zone = getattr(wanted, key)
            if zone is not UNSET:
                self.tests.append(_zone_test(key, zone))

    def _translation(self, wanted: UpdateFilter) -> None:
        for key, (source, destination) in NAT_SIDES.items():
            value = getattr(wanted, key, UNSET)
            if value is UNSET:
                continue
            if value is False:
                raise RequestError(f"{key} must be an address, an address with a port, or true, not false")
            address, port = (b"", None) if value is True else checked(address_and_port, value)
            if address:
                self._set_length(len(address))
            self.tests.append(_nat_test(source, destination, address, port))

    def _condition(self, wanted: Filter) -> None:
        if wanted.state is not UNSET:
            self._state(wanted.state)
        if wanted.status is not UNSET:
            bits = status_bits(wanted.status)
            compared = bits | UNSET_STATUS if "UNSET" in wanted.status else bits
            self.tests.append(lambda ct, seen: seen.status & compared == bits)
        if wanted.mark is not UNSET:
            mark, mask = wanted.mark, U32 if wanted.mark_mask is UNSET else wanted.mark_mask
            self.tests.append(lambda ct, seen: seen.mark & mask == mark)
        elif wanted.mark_mask is not UNSET:
            raise RequestError("mark_mask needs mark")
        for direction, tag in enumerate((wanted.orig_vtag, wanted.reply_vtag)):
            if tag is not UNSET:
                if self._proto != const.IPPROTO_SCTP:
                    raise RequestError("a verification tag needs the protocol sctp")
                self.tests.append(_tag_test(direction, tag))

    def _state(self, state: str) -> None:
        if self._proto not in STATES:
            raise RequestError("state needs a protocol that has states (tcp, sctp, dccp)")
        if state not in STATES[self._proto]:
            raise RequestError(f"unknown state {state[:60]!r}, one of {', '.join(STATES[self._proto])}")
        self.tests.append(lambda ct, seen: ct.l4proto.shows_state and ct.l4proto.state_names[seen.state] == state)

    def _ends(self, wanted: Filter, names: Mapping[int, str]) -> None:
        if wanted.host is not UNSET:
            network = self._network(wanted.host)
            self.tests.append(lambda ct, seen: any(network.has(end) for end in _addresses(ct)))
        if wanted.interface is not UNSET:
            interface = InterfaceNames([wanted.interface])
            self.tests.append(lambda ct, seen: any(interface.has(names.get(index, "")) for index in (ct.iif, ct.oif)))

    def _age(self, wanted: Filter, now: int, stale: Stale | None) -> None:
        for seconds, older in ((wanted.older_than, True), (wanted.younger_than, False)):
            if seconds is not UNSET:
                self.tests.append(_age_test(older, now - seconds * 1000))
        if wanted.timeout is not UNSET:
            left = wanted.timeout
            self.tests.append(lambda ct, seen: ct.remaining(now) // 1000 == left)
        if wanted.stale is False:
            raise RequestError("stale must be true, not false")
        if wanted.stale is True:
            self.tests.append(lambda ct, seen: stale is not None and stale.why(ct, now) != CURRENT)


def expectation_family(wanted: Filter) -> int:
    """The length of an address, 0 for both families. Raises RequestError for any other field."""
    if wanted != Filter(family=wanted.family):
        raise RequestError("expectations can be filtered by their family only")
    return 0 if wanted.family is UNSET else FAMILIES[wanted.family]


def _addresses(ct: NfConn) -> tuple[bytes, ...]:
    return tuples.src(ct.original), tuples.dst(ct.original), tuples.src(ct.reply), tuples.dst(ct.reply)


def _age_test(older: bool, since: int) -> Test:
    return lambda ct, seen: (seen.born <= since) == older


def _tag_test(direction: int, wanted: int) -> Test:
    return lambda ct, seen: isinstance(ct.proto, sctp.SctpInfo) and ct.proto.vtag[direction] == wanted


def _address_test(direction: int, field: Callable[[bytes], bytes], network: MaskedNetwork) -> Test:
    return lambda ct, seen: network.has(field(ct.tuple(direction)))


def _field_test(direction: int, field: Field, wanted: int) -> Test:
    return lambda ct, seen: field(ct.tuple(direction)) == wanted


def _zone_test(key: str, wanted: int) -> Test:
    def test(ct: NfConn, seen: NfConn | Event) -> bool:
        original, reply = tuples.zone(ct.original), tuples.zone(ct.reply)
        both = original == reply
        if key == "zone":
            return (original if both else 0) == wanted
        return (0 if both else original if key == "orig_zone" else reply) == wanted

    return test


def _nat_test(source: bool, destination: bool, address: bytes, port: int | None) -> Test:
    def fits(candidate: bytes, candidate_port: int) -> bool:
        return (not address or candidate == address) and (port is None or candidate_port == port)

    def test(ct: NfConn, seen: NfConn | Event) -> bool:
        reply = ct.reply
        if source and seen.status & const.IPS_SRC_NAT and fits(tuples.dst(reply), tuples.l4dst(reply)):
            return True
        return bool(destination and seen.status & const.IPS_DST_NAT and fits(tuples.src(reply), tuples.l4src(reply)))

    return test


def status_bits(names: tuple[StatusName, ...]) -> int:
    """IPS_* bits of these names; UNSET is none."""
    return sum(1 << bit for bit, name in enumerate(const.STATUS_NAMES) if name in names)


UNSET_STATUS: Final = status_bits(("SEEN_REPLY", "ASSURED", "FIXED_TIMEOUT", "EXPECTED", "OFFLOAD", "HW_OFFLOAD"))


def label_bits(labels: tuple[int, ...]) -> int:
    return sum(1 << bit for bit in set(labels))


def checked(parse: Callable[[str], Parsed], text: str) -> Parsed:
    """What parse makes of an address. Raises RequestError."""
    try:
        return parse(text)
    except AddressError as error:
        raise RequestError(str(error)) from error

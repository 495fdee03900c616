"""Query: the filter of a request, checked once, then asked about every connection or event.

The same checks run in conntrack-py, so that an operator's mistake is told before a daemon is needed.
Keys of a filter, all optional and all of which must hold:

    family "ipv4"|"ipv6"     proto 0..255     src dst reply_src reply_dst "address[/bits]" or "address/mask"
    sport dport reply_sport reply_dport 0..65535 (protocols with ports)
    icmp_type icmp_code 0..255, icmp_id 0..65535 (icmp and icmpv6)     state (tcp, sctp, dccp)
    srckey dstkey reply_srckey reply_dstkey 0..65535 (gre)     orig_vtag reply_vtag 0..2^32-1 (sctp)
    status ["ASSURED", ...]: all of these bits; UNSET: none that conntrack -u can tell     mark 0..2^32-1, mark_mask
    labels [bits]: all of these     secmark: there are none to compare
    zone orig_zone reply_zone 0..65535: of both directions, or of one that the other is not in; else it is 0
    src_nat dst_nat any_nat: true, or "address", "address:port", "[address]:port" it was translated to
    host "address[/bits]": at either end, whoever called, before or behind translation
    interface "name" or "begin+": its first packet came in or left by
    older_than, younger_than seconds: since its first packet     timeout: just so many seconds left
    stale: true: today's rules would translate its first packet otherwise, or the filter would not let it pass
"""

from collections.abc import Callable, Mapping
from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.const import (
    ICMP_PROTOCOLS,
    IPPROTO_DCCP,
    IPPROTO_GRE,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPS_ASSURED,
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_FIXED_TIMEOUT,
    IPS_HW_OFFLOAD,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    ORIGINAL,
    REPLY,
    STATUS_NAMES,
    WITH_PORTS,
)
from conntrackd_py.explain.stale import CURRENT, Stale
from conntrackd_py.match.address import AddressError, MaskedNetwork, address_and_port
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.proto import rfc7857, sctp, tcp_states

NO_NAMES: Final[Mapping[int, str]] = {}
Test = Callable[[NfConn, NfConn | Event], bool]
UNSET: Final = IPS_SEEN_REPLY | IPS_ASSURED | IPS_FIXED_TIMEOUT | IPS_EXPECTED | IPS_OFFLOAD | IPS_HW_OFFLOAD
FAMILIES: Final = {"ipv4": 4, "ipv6": 16}
ADDRESSES: Final = {
    "src": (ORIGINAL, tuples.src),
    "dst": (ORIGINAL, tuples.dst),
    "reply_src": (REPLY, tuples.src),
    "reply_dst": (REPLY, tuples.dst),
}
PORTS: Final = {
    "sport": (ORIGINAL, tuples.l4src),
    "dport": (ORIGINAL, tuples.l4dst),
    "reply_sport": (REPLY, tuples.l4src),
    "reply_dport": (REPLY, tuples.l4dst),
}
GRE_KEYS: Final = {
    "srckey": (ORIGINAL, tuples.l4src),
    "dstkey": (ORIGINAL, tuples.l4dst),
    "reply_srckey": (REPLY, tuples.l4src),
    "reply_dstkey": (REPLY, tuples.l4dst),
}
ICMP_FIELDS: Final = {"icmp_type": 255, "icmp_code": 255, "icmp_id": 65535}
NAT_SIDES: Final = {"src_nat": (True, False), "dst_nat": (False, True), "any_nat": (True, True)}
ZONES: Final = ("zone", "orig_zone", "reply_zone")
STATES: Final = {
    IPPROTO_TCP: (*tcp_states.STATE_NAMES, *(name for name in rfc7857.STATE_NAMES if name != "ESTABLISHED")),
    IPPROTO_SCTP: sctp.STATE_NAMES,
    IPPROTO_DCCP: ("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT"),
}
TAGS: Final = ("orig_vtag", "reply_vtag")
AGES: Final = ("older_than", "younger_than")
U32: Final = 0xFFFFFFFF
KEYS: Final = frozenset(
    {
        "family",
        "proto",
        "state",
        "status",
        "mark",
        "mark_mask",
        "labels",
        "secmark",
        "host",
        "interface",
        "timeout",
        "stale",
    }
    | {*ADDRESSES, *PORTS, *ICMP_FIELDS, *GRE_KEYS, *TAGS, *ZONES, *NAT_SIDES, *AGES}
)


class FilterError(ValueError):
    """What is wrong with a filter, in words for the one who wrote it."""


class Query:
    """Raises FilterError for a key or a value that is not in the table above.

    names: of the interfaces by index, as they are when something is asked; now: ms, from where ages are counted.
    stale: the judge by today's rules; without one the filter is only checked.
    """

    def __init__(
        self,
        spec: Mapping[str, object],
        names: Mapping[int, str] = NO_NAMES,
        now: int = 0,
        stale: Stale | None = None,
    ) -> None:
        for key in spec:
            if key not in KEYS:
                raise FilterError(f"unknown filter key {shown(key)}")
        self.spec = spec
        self.tests: list[Test] = []
        self._length = 0  # of an address, once something has said which family
        self._proto = self._number("proto", 255) if "proto" in spec else -1
        self._family()
        self._protocol()
        self._addresses()
        self._ports()
        self._icmp()
        self._keys_and_tags()
        self._condition()
        self._zones()
        self._translation()
        self._whereabouts(names)
        self._age(now)
        if "stale" in spec:
            if spec["stale"] is not True:
                raise FilterError(f"stale must be true, not {shown(spec['stale'])}")
            self.tests.append(lambda ct, seen: stale is not None and stale.why(ct, now) != CURRENT)

    def matches(self, ct: NfConn, seen: NfConn | Event) -> bool:
        """Whether ct is meant, with status, state and mark as `seen` has them (ct itself, or an event of it)."""
        return all(test(ct, seen) for test in self.tests)

    def _number(self, key: str, most: int) -> int:
        value = self.spec[key]
        if type(value) is not int or not 0 <= value <= most:
            raise FilterError(f"{key} must be a number from 0 to {most}, not {shown(value)}")
        return value

    def _set_length(self, length: int) -> None:
        if self._length not in (0, length):
            raise FilterError("mismatched address family")
        self._length = length

    def _family(self) -> None:
        if "family" not in self.spec:
            return
        family = self.spec["family"]
        if not isinstance(family, str) or family not in FAMILIES:
            raise FilterError(f"family must be ipv4 or ipv6, not {shown(family)}")
        self._set_length(FAMILIES[family])
        length = 4 if family == "ipv4" else 16
        self.tests.append(lambda ct, seen: tuples.address_length(ct.original) == length)

    def _protocol(self) -> None:
        proto = self._proto
        if proto >= 0:
            self.tests.append(lambda ct, seen: tuples.protonum(ct.original) == proto)

    def _addresses(self) -> None:
        for key, (direction, field) in ADDRESSES.items():
            if key not in self.spec:
                continue
            self.tests.append(_address_test(direction, field, self._network(key)))

    def _network(self, key: str) -> MaskedNetwork:
        text = self.spec[key]
        if not isinstance(text, str):
            raise FilterError(f"{key} must be an address, not {shown(text)}")
        try:
            network = MaskedNetwork(text)
        except AddressError as error:
            raise FilterError(str(error)) from error
        self._set_length(network.length)
        return network

    def _ports(self) -> None:
        for key, (direction, field) in PORTS.items():
            if key not in self.spec:
                continue
            if self._proto not in WITH_PORTS:
                raise FilterError(f"{key} needs a protocol with ports (tcp, udp, udplite, sctp, dccp)")
            self.tests.append(_port_test(direction, field, self._number(key, 65535)))

    def _keys_and_tags(self) -> None:
        for key, (direction, field) in GRE_KEYS.items():
            if key not in self.spec:
                continue
            if self._proto != IPPROTO_GRE:
                raise FilterError(f"{key} needs the protocol gre")
            self.tests.append(_port_test(direction, field, self._number(key, 65535)))
        for direction, key in enumerate(TAGS):
            if key in self.spec:
                if self._proto != IPPROTO_SCTP:
                    raise FilterError(f"{key} needs the protocol sctp")
                self.tests.append(_tag_test(direction, self._number(key, U32)))

    def _icmp(self) -> None:
        for key, most in ICMP_FIELDS.items():
            if key not in self.spec:
                continue
            if self._proto not in ICMP_PROTOCOLS:
                raise FilterError(f"{key} needs the protocol icmp or icmpv6")
            self.tests.append(_icmp_test(key, self._number(key, most)))

    def _condition(self) -> None:
        if "state" in self.spec:
            self._state(self.spec["state"])
        if "status" in self.spec:
            wanted, absent = _status_bits(self.spec["status"])
            self.tests.append(lambda ct, seen: seen.status & (wanted | absent) == wanted)
        if "mark" in self.spec:
            mask = self._number("mark_mask", U32) if "mark_mask" in self.spec else U32
            mark = self._number("mark", U32)
            self.tests.append(lambda ct, seen: seen.mark & mask == mark)
        elif "mark_mask" in self.spec:
            raise FilterError("mark_mask needs mark")
        if "labels" in self.spec:
            labels = _label_bits(self.spec["labels"])
            self.tests.append(lambda ct, seen: seen.labels & labels == labels)
        if "secmark" in self.spec:
            self._number("secmark", U32)

    def _state(self, state: object) -> None:
        if self._proto not in STATES:
            raise FilterError("state needs a protocol that has states (tcp, sctp, dccp)")
        if state not in STATES[self._proto]:
            raise FilterError(f"unknown state {shown(state)}, one of {', '.join(STATES[self._proto])}")
        self.tests.append(lambda ct, seen: ct.l4proto.shows_state and ct.l4proto.state_names[seen.state] == state)

    def _zones(self) -> None:
        for key in ZONES:
            if key in self.spec:
                self.tests.append(_zone_test(key, self._number(key, 65535)))

    def _translation(self) -> None:
        for key, (source, destination) in NAT_SIDES.items():
            if key not in self.spec:
                continue
            value = self.spec[key]
            if value is True:
                address, port = b"", None
            elif isinstance(value, str):
                try:
                    address, port = address_and_port(value)
                except AddressError as error:
                    raise FilterError(str(error)) from error
                self._set_length(len(address))
            else:
                raise FilterError(f"{key} must be an address, an address with a port, or true, not {shown(value)}")
            self.tests.append(_nat_test(source, destination, address, port))

    def _whereabouts(self, names: Mapping[int, str]) -> None:
        if "host" in self.spec:
            network = self._network("host")
            self.tests.append(lambda ct, seen: any(network.has(end) for end in _ends(ct)))
        if "interface" in self.spec:
            text = self.spec["interface"]
            if not isinstance(text, str) or not text:
                raise FilterError(f"interface must be a name, not {shown(text)}")
            interface = InterfaceNames([text])
            self.tests.append(lambda ct, seen: any(interface.has(names.get(index, "")) for index in (ct.iif, ct.oif)))

    def _age(self, now: int) -> None:
        for key in AGES:
            if key in self.spec:
                since = now - self._number(key, U32) * 1000
                self.tests.append(_age_test(key == "older_than", since))
        if "timeout" in self.spec:
            left = self._number("timeout", U32)
            self.tests.append(lambda ct, seen: ct.remaining(now) // 1000 == left)


def _ends(ct: NfConn) -> tuple[bytes, ...]:
    return tuples.src(ct.original), tuples.dst(ct.original), tuples.src(ct.reply), tuples.dst(ct.reply)


def _age_test(older: bool, since: int) -> Test:
    return lambda ct, seen: (seen.born <= since) == older


def _tag_test(direction: int, wanted: int) -> Test:
    return lambda ct, seen: isinstance(ct.proto, sctp.SctpInfo) and ct.proto.vtag[direction] == wanted


def _address_test(direction: int, field: Callable[[bytes], bytes], network: MaskedNetwork) -> Test:
    return lambda ct, seen: network.has(field(ct.tuple(direction)))


def _port_test(direction: int, field: Callable[[bytes], int], port: int) -> Test:
    return lambda ct, seen: field(ct.tuple(direction)) == port


def _icmp_test(key: str, wanted: int) -> Test:
    if key == "icmp_id":
        return lambda ct, seen: tuples.l4src(ct.original) == wanted
    shift = 8 if key == "icmp_type" else 0
    return lambda ct, seen: tuples.l4dst(ct.original) >> shift & 0xFF == wanted


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
        if source and seen.status & IPS_SRC_NAT and fits(tuples.dst(reply), tuples.l4dst(reply)):
            return True
        return bool(destination and seen.status & IPS_DST_NAT and fits(tuples.src(reply), tuples.l4src(reply)))

    return test


def _status_bits(status: object) -> tuple[int, int]:
    """The bits that must be set, and those that must not."""
    if not isinstance(status, list) or not status:
        raise FilterError("status must be a list of flag names")
    wanted = 0
    for name in status:
        if name == "UNSET":
            continue
        if name not in STATUS_NAMES:
            raise FilterError(f"unknown status {shown(name)}")
        wanted |= 1 << STATUS_NAMES.index(name)
    return wanted, UNSET & ~wanted if "UNSET" in status else 0


def _label_bits(labels: object) -> int:
    if not isinstance(labels, list) or not all(type(bit) is int and 0 <= bit < 128 for bit in labels):
        raise FilterError(f"labels must be a list of numbers from 0 to 127, not {shown(labels)}")
    return sum(1 << bit for bit in set(labels))


def shown(value: object) -> str:
    """A value of unknown origin, short enough for an error line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

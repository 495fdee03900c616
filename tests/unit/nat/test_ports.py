"""The choice of a tuple in the kernel's order, and the bounds of the search."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.table import Table
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import MANIP_DST, MANIP_SRC
from conntrackd_py.nat.ports import ATTEMPTS, Ports, port_class
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.usage.mappings import CANDIDATES
from conntrackd_py.proto.standard import standard_protos
from tests.support.packets import address

PROTOS = standard_protos(Tunables())
UDP, ICMP, OSPF = 17, 1, 89
CLIENT, SERVER, OUTSIDE = address("192.168.1.2"), address("198.51.100.2"), address("203.0.113.1")


def to(low: bytes = OUTSIDE, high: bytes = b"", ports: tuple[int, int] = (0, 0), *, random: bool = False) -> Range:
    return Range(low, high or low, ports[0], ports[1], random, False)


def make(
    sport: int, dport: int = 53, *, source: bytes = CLIENT, destination: bytes = SERVER, proto: int = UDP
) -> bytes:
    """A tuple; for ICMP sport is the identifier and the rest an echo request."""
    l4 = b"\x08\0" if proto == ICMP else dport.to_bytes(2, "big")
    return tuples.make(source + destination, sport.to_bytes(2, "big") + l4, proto)


def inverse(t: bytes) -> bytes:
    return tuples.swapped(t, PROTOS[tuples.protonum(t)].invert(tuples.l4(t)))


class Desk:
    """A table and its Ports, with the steps that Nat takes around them."""

    def __init__(self, seed: int = 3) -> None:
        self.table = Table()
        self.ports = Ports(self.table, Repeatable(seed))

    def ask(self, current: bytes, wanted: Range, way: int = MANIP_SRC, original: bytes = b"") -> bytes:
        """What a new connection would get. original: its tuple before its destination was translated to current."""
        ct = NfConn(original or current, inverse(current), PROTOS[tuples.protonum(current)], 0)
        self.table.allocate(ct)
        chosen = self.ports.unique(current, wanted, ct, way)
        self.table.remove(ct)
        self.table.release(ct)
        return chosen

    def bind(self, current: bytes, wanted: Range) -> NfConn:
        ct = NfConn(current, inverse(current), PROTOS[tuples.protonum(current)], 0)
        self.table.allocate(ct)
        chosen = self.ports.unique(current, wanted, ct, MANIP_SRC)
        assert chosen
        self.table.alter_reply(ct, inverse(chosen))
        assert self.table.insert(ct)
        self.ports.keep_mapping(ct, wanted)
        return ct


# --- the order of choice -------------------------------------------------------------------------------


@pytest.mark.parametrize("proto", [UDP, ICMP, OSPF])
def test_a_tuple_that_fits_stays(proto: int) -> None:
    t = make(1000 if proto != OSPF else 0, source=OUTSIDE, proto=proto)
    assert Desk().ask(t, to()) == t


def test_the_port_stays_if_it_can() -> None:
    assert Desk().ask(make(1000), to()) == make(1000, source=OUTSIDE)


def test_a_taken_port_is_replaced_within_its_class() -> None:
    desk = Desk()
    for port in (80, 700, 5000):
        desk.bind(make(port, source=OUTSIDE), to())
        chosen = desk.ask(make(port), to())
        low, high = port_class(port)
        assert low <= tuples.l4src(chosen) <= high
        assert tuples.l4src(chosen) != port


def test_random_never_keeps_the_port_on_purpose() -> None:
    chosen = {tuples.l4src(Desk(seed).ask(make(5000), to(random=True))) for seed in range(1, 50)}
    assert len(chosen) > 45


def test_a_port_range_is_kept_to() -> None:
    desk = Desk()
    assert tuples.l4src(desk.ask(make(2005), to(ports=(2000, 2010)))) == 2005
    chosen = {tuples.l4dst(desk.bind(make(1000 + i), to(ports=(2000, 2010))).reply) for i in range(11)}
    assert chosen == set(range(2000, 2011))
    assert desk.ask(make(99), to(ports=(2000, 2010))) == b""


def test_a_source_keeps_its_mapping() -> None:
    """Also another address of the range than the hash would choose."""
    desk = Desk()
    pool = to(address("203.0.113.1"), address("203.0.113.200"), (2000, 2999))
    first = desk.bind(make(1000), pool)
    for last in range(1, 20):
        chosen = desk.ask(make(1000, destination=address(f"198.51.100.{last}")), pool)
        if last == 2:
            continue  # the same destination: that mapping is in use there
        assert tuples.src(chosen) == tuples.dst(first.reply)
        assert tuples.l4src(chosen) == tuples.l4dst(first.reply)


def test_a_dropped_mapping_is_not_used() -> None:
    desk = Desk()
    ct = desk.bind(make(1000), to(ports=(2000, 2999)))
    assert [key for key, _ in desk.ports.mappings.by_source.items()] == [tuples.source_key(ct.original)]
    desk.ports.drop_mapping(ct)
    desk.ports.drop_mapping(ct)
    assert len(desk.ports.mappings.by_source) == 0


def test_the_mappings_of_a_source_are_bounded() -> None:
    """A new connection tries them all."""
    desk = Desk()
    pool = to(ports=(2000, 2999), random=True)
    made = [desk.bind(make(1000, destination=address(f"198.51.100.{last}")), pool) for last in range(1, 100)]
    assert len(desk.ports.mappings.of(tuples.source_key(make(1000)), 4)) == CANDIDATES
    for ct in made:
        desk.ports.drop_mapping(ct)
    assert len(desk.ports.mappings.by_source) == 0


def test_connections_share_a_mapping_until_the_last_ends() -> None:
    desk = Desk()
    pool = to(ports=(2000, 2999))
    made = [desk.bind(make(1000, destination=address(f"198.51.100.{last}")), pool) for last in range(1, 4)]
    assert len(desk.ports.mappings.of(tuples.source_key(make(1000)), 4)) == 1
    for ct in made[:2]:
        desk.ports.drop_mapping(ct)
    chosen = desk.ask(make(1000, destination=address("198.51.100.9")), pool)
    assert tuples.l4src(chosen) == tuples.l4dst(made[2].reply)


def test_a_mapping_that_keeps_the_port_is_not_kept() -> None:
    """One address and the same port: the common case costs no memory."""
    desk = Desk()
    desk.bind(make(1000), to())
    assert len(desk.ports.mappings.by_source) == 0


# --- protocols -------------------------------------------------------------------------------------------


def test_an_identifier_is_chosen_like_a_port() -> None:
    desk = Desk()
    desk.bind(make(7, proto=ICMP), to())
    chosen = desk.ask(make(7, proto=ICMP, source=address("192.168.1.3")), to())
    assert tuples.l4src(chosen) != 7
    assert tuples.l4dst(chosen) == 8 << 8, "type and code stay"


def test_without_ports_there_is_one_connection() -> None:
    desk = Desk()
    desk.bind(make(0, 0, proto=OSPF), to())
    assert desk.ask(make(0, 0, proto=OSPF, source=address("192.168.1.3")), to()) == b""


# --- destinations ------------------------------------------------------------------------------------------


def test_a_destination_gets_address_and_port() -> None:
    inside = to(address("192.168.1.80"), ports=(80, 80))
    t = make(5555, 8080, source=SERVER, destination=OUTSIDE)
    assert Desk().ask(t, inside, MANIP_DST) == make(5555, 80, source=SERVER, destination=address("192.168.1.80"))


def test_a_destination_keeps_its_port_without_a_range() -> None:
    t = make(5555, 8080, source=SERVER, destination=OUTSIDE)
    chosen = Desk().ask(t, to(address("192.168.1.80")), MANIP_DST)
    assert tuples.l4dst(chosen) == 8080


def test_a_destination_is_never_refused() -> None:
    """The source binding will keep the two connections apart."""
    desk = Desk()
    inside = to(address("192.168.1.80"), ports=(80, 80))
    target = make(5555, 80, source=SERVER, destination=address("192.168.1.80"))
    desk.bind(target, to(SERVER))
    asked = make(5555, 8080, source=SERVER, destination=OUTSIDE)
    assert desk.ask(asked, inside, MANIP_DST) == target
    assert tuples.l4src(desk.ask(target, to(SERVER), original=asked)) != 5555


@pytest.mark.parametrize("wanted", [to(CLIENT), to(CLIENT, random=True)], ids=["plain", "random"])
def test_both_ends_send_first(wanted: Range) -> None:
    """Its connection is confirmed: this one's packet will be its reply and keeps the port."""
    desk = Desk()
    t = make(500, 500)
    desk.bind(inverse(t), to(SERVER))
    assert desk.ask(t, wanted) == t


def test_both_ends_send_first_through_a_port_forward() -> None:
    """The client's source is translated to what the server's connection already goes to."""
    desk = Desk()
    server_first = NfConn(make(500, 500, source=SERVER, destination=OUTSIDE), make(500, 500), PROTOS[UDP], 0)
    desk.table.adopt(server_first)
    assert desk.ask(make(500, 500), to()) == make(500, 500, source=OUTSIDE)
    assert desk.ask(make(500, 500), to(random=True)) == make(500, 500, source=OUTSIDE)
    assert desk.ask(make(500, 500), to(SERVER)) != make(500, 500, source=OUTSIDE), "another address is asked for"


# --- bounds ------------------------------------------------------------------------------------------------


def test_the_search_gives_up_in_bounded_time() -> None:
    """The kernel's schedule: 128 tries, then half as many from elsewhere, down to 8: 248 of 64512 ports."""
    desk = Desk()
    table = Table()
    for port in range(1024, 65536):
        table.hash[inverse(make(port, source=OUTSIDE))] = NfConn(b"", b"", PROTOS[UDP], 0)
    desk.table = table
    randomness = Repeatable(3)
    desk.ports = Ports(table, randomness)
    assert desk.ask(make(5000), to()) == b""
    fresh = Repeatable(3)
    for _ in range(1 + 4):  # one offset to begin with and one for each halving
        fresh.below(65536)
    assert randomness.state == fresh.state
    assert ATTEMPTS == 128


@pytest.mark.parametrize(
    ("port", "low", "high"),
    [(1, 1, 511), (511, 1, 511), (512, 600, 1023), (1023, 600, 1023), (1024, 1024, 65535), (65535, 1024, 65535)],
)
def test_port_classes(port: int, low: int, high: int) -> None:
    assert port_class(port) == (low, high)


@pytest.mark.parametrize("proto", [UDP, ICMP])
def test_a_range_of_every_size_is_used_up(proto: int) -> None:
    for size in (1, 2, 17, 64, ATTEMPTS):
        desk = Desk()
        wanted = to(ports=(3000, 3000 + size - 1))
        replies = {desk.bind(make(1000 + i, proto=proto), wanted).reply for i in range(size)}
        assert len(replies) == size
        assert desk.ask(make(999, proto=proto), wanted) == b""


def test_a_range_of_port_1_has_ports() -> None:
    low, high = address("203.0.113.1"), address("203.0.113.9")
    one = Range(low, high, 1, 1, False, False)
    assert one.has_ports
    assert [one.holds(low, port) for port in (0, 1, 2)] == [False, True, False]
    assert not Range(low, high, 0, 0, False, False).has_ports
    assert [one.holds(address(text), 1) for text in ("203.0.113.0", "203.0.113.9", "203.0.113.10")] == [
        False,
        True,
        False,
    ]

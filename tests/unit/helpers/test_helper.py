"""What a helper may ask of a ControlPacket."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_SRC_NAT, ORIGINAL, REPLY
from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.helpers.helper import ATTEMPTS, HIGHEST, LOWEST, MOST_CHANGES, REMEMBERED, ControlPacket, Helped
from tests.support.packets import address
from tests.support.router import CLIENT, SERVER, Router

HERE, THERE = address(CLIENT), address(SERVER)


def packet(router: Router, direction: int = ORIGINAL, sport: int = 40000, *, translated: bool = False) -> ControlPacket:
    ct = router.established(sport, 21)
    if translated:
        ct.status |= IPS_SRC_NAT
    core = router.engine.core
    helped = Helped(Ftp(Tunables()), None)
    return ControlPacket(ct, helped, direction, b"abc", 5, router.now, core.expectations, Repeatable(1))


def test_both_ends() -> None:
    here, there = packet(Router()), packet(Router(), REPLY)
    assert (here.sender, here.receiver, here.sport) == (HERE, THERE, 40000)
    assert (there.sender, there.receiver, there.sport) == (THERE, HERE, 21)


def test_expect() -> None:
    router = Router()
    asked = packet(router)
    announced = asked.expect(HERE, 5001)
    assert announced is not None
    assert (announced.address, announced.port) == (HERE, 5001)
    (known,) = router.engine.core.expectations.all()
    assert (tuples.src(known.tuple), tuples.dst(known.tuple), tuples.l4(known.tuple)) == (THERE, HERE, b"\0\0\x13\x89")
    asked.withdraw()
    assert router.engine.core.expectations.count == 0
    asked.withdraw()


@pytest.mark.parametrize(("to", "port"), [(HERE, 0), (HERE, 65536), (HERE, -1), (address("fd00::1"), 80), (b"", 80)])
def test_what_cannot_be_expected(to: bytes, port: int) -> None:
    assert packet(Router()).expect(to, port) is None


def test_a_port_that_is_taken() -> None:
    """With NAT another one, at most ATTEMPTS times; without NAT it is refused."""
    router = Router()
    assert packet(router).expect(HERE, 5001) is not None
    assert packet(router, sport=40001).expect(HERE, 5001) is None
    announced = packet(router, sport=40002, translated=True).expect(HERE, 5001)
    assert announced is not None
    assert announced.port >= LOWEST
    fixed = packet(router, sport=40003, translated=True)
    assert fixed.expect(HERE, 69, fixed=True) is not None
    assert [tuples.l4dst(known.tuple) for known in fixed.made] == [40003]
    assert ATTEMPTS > 1


def test_several_ports_in_a_row() -> None:
    """With NAT the next free ones; at the end of the range there is no room."""
    router = Router()
    assert packet(router, sport=40001).expect(HERE, 5003) is not None
    announced = packet(router, sport=40002, translated=True).expect(HERE, 5002, span=2)
    assert announced is not None
    assert announced.port == 5004
    assert packet(router, sport=40003, translated=True).expect(HERE, HIGHEST, span=2) is None
    assert packet(router, sport=40004).expect(HERE, 5004, span=2) is None


def test_remembered_ports_are_bounded() -> None:
    helped = packet(Router()).helped
    for port in range(REMEMBERED + 5):
        helped.remember(0, 6, port, port)
    assert len(helped.ports) == REMEMBERED
    assert (0, 6, 4) not in helped.ports


def test_changes() -> None:
    asked = packet(Router())
    asked.replace(2, 1, b"C")
    asked.replace(0, 1, b"")
    assert asked.changed() == b"bC"
    for _ in range(MOST_CHANGES * 2):
        asked.replace(0, 0, b"x")
    assert len(asked.changes) == MOST_CHANGES


def test_the_ports_of_a_block() -> None:
    """A host with port blocks announces no other ports: the announced one only if it lies in the block."""
    router = Router()
    announced = []
    for sport, port, span in ((40001, 2001, 1), (40002, 5001, 1), (40003, 2010, 2), (40004, 5003, 2)):
        asked = packet(router, sport=sport, translated=True)
        asked.low, asked.high, asked.confined = 2000, 2015, True
        found = asked.expect(HERE, port, span=span)
        assert found is not None
        announced.append(found.port)
        assert 2000 <= found.port <= 2016 - span
        assert asked.expect(HERE, 5000, span=17) is None
    assert announced[0] == 2001
    assert announced[2] == 2010

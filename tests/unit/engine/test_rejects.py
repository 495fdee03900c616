"""How many answers there are, and when there is none; what stands in them is tested in conversations/test_filter."""

import pytest

from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import AF_INET, AF_INET6, FORWARD, LOCAL_IN
from conntrackd_py.engine.rejects import ANSWERS_A_SECOND, ANSWERS_WAITING, Rejects
from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.wire import ip
from tests.support import packets

CLIENT, ROUTER, BROADCAST = "192.168.1.2", "192.168.1.1", "192.168.1.255"


@pytest.fixture
def rejects() -> Rejects:
    interfaces = Interfaces()
    interfaces.replace(2, Link("lan", [packets.address(ROUTER)]))
    tunables = Tunables()
    return Rejects(Conntrack(standard_protos(tunables), tunables, Repeatable(1)), interfaces)


def packet(data: bytes) -> Skb:
    skb = Skb(data, 0, 2, 0)
    ip.parse(skb)
    return skb


def to(destination: str) -> Skb:
    return packet(packets.udp(CLIENT, destination, 1, 2))


def test_answers_are_drained_once_and_know_their_way(rejects: Rejects) -> None:
    rejects.answer(to("198.51.100.1"), FORWARD, 0)
    rejects.answer(packet(packets.udp("fd00::1", "fd00::2", 1, 2)), FORWARD, 0)
    assert [(answer.family, answer.outdev) for answer in rejects.drain()] == [(AF_INET, 2), (AF_INET6, 2)]
    assert rejects.drain() == []


def test_so_many_a_second(rejects: Rejects) -> None:
    for _ in range(ANSWERS_A_SECOND + 5):
        rejects.answer(to("198.51.100.1"), FORWARD, 1999)
        rejects.drain()
    assert (rejects.answered, rejects.limited) == (ANSWERS_A_SECOND, 5)
    rejects.answer(to("198.51.100.1"), FORWARD, 2000)
    assert (rejects.answered, rejects.limited) == (1, 5)


def test_so_many_waiting(rejects: Rejects) -> None:
    for at in range(ANSWERS_WAITING + 5):
        rejects.answer(to("198.51.100.1"), FORWARD, at * 1000)
    assert (len(rejects.waiting), rejects.limited) == (ANSWERS_WAITING, 5)


def test_a_broadcast_of_the_link_is_not_answered(rejects: Rejects) -> None:
    rejects.answer(to(BROADCAST), LOCAL_IN, 0)
    assert (rejects.drain(), rejects.unanswerable) == ([], 1)
    rejects.answer(to(ROUTER), LOCAL_IN, 0)
    (answer,) = rejects.drain()
    assert answer.data[12:16] == packets.address(ROUTER)


def test_an_unreadable_packet_is_not_answered(rejects: Rejects) -> None:
    for data in (b"\x10" + bytes(40), packets.udp(CLIENT, ROUTER, 1, 2)[:18], packets.udp(CLIENT, ROUTER, 1, 2)[:24]):
        rejects.answer(packet(data), FORWARD, 0)
    assert (rejects.drain(), rejects.unanswerable) == ([], 3)

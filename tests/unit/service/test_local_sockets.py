"""When the sockets are read, and what happens with the list."""

import asyncio
import socket

from conntrackd_py.nat.usage.bound_ports import bound_key
from conntrackd_py.service.local_sockets import EVERY, LocalSockets
from conntrackd_py.settings.schema import OBSERVE, Settings
from tests.support.play import Play
from tests.support.rules import masquerade


class Clock:
    def __init__(self) -> None:
        self.now = 5000

    def __call__(self) -> int:
        return self.now


def test_the_list_of_the_engine_is_that_of_the_machine() -> None:
    play, clock = Play(4, [masquerade()]), Clock()
    sockets = LocalSockets(play.engine.nat, clock)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert sockets.due(Settings())
        asyncio.run(sockets.read())
        assert bound_key(17, bytes((127, 0, 0, 1)), sock.getsockname()[1]) in play.engine.nat.ports.bound.keys


def test_it_is_read_once_in_a_while() -> None:
    clock = Clock()
    sockets = LocalSockets(Play(4, [masquerade()]).engine.nat, clock)
    asyncio.run(sockets.read())
    assert not sockets.due(Settings())
    clock.now += EVERY
    assert sockets.due(Settings())


def test_without_need_the_list_is_empty() -> None:
    play = Play(4, [masquerade()])
    sockets = LocalSockets(play.engine.nat, Clock())
    for settings in (Settings(avoid_bound_ports=False), Settings(mode=OBSERVE)):
        play.engine.nat.ports.bound.keys = {b"key": None}
        assert not sockets.due(settings)
        assert play.engine.nat.ports.bound.keys == {}
    assert not LocalSockets(Play(4).engine.nat, Clock()).due(Settings())

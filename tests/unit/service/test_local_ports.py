"""Read only if a rule makes mappings, seldom, and from the kernel."""

import asyncio
import socket

from conntrackd_py.const import IPPROTO_UDP
from conntrackd_py.nat.mapping import reserved_port
from conntrackd_py.service.local_ports import EVERY, LocalPorts
from tests.conversations.test_mapping import cone
from tests.support.play import Play
from tests.support.rules import masquerade


def test_seldom_and_only_for_mappings() -> None:
    plain = LocalPorts(Play(4, [masquerade()]).engine.nat)
    assert not plain.due(EVERY)
    watch = LocalPorts(cone(4).engine.nat)
    assert [watch.due(now) for now in (1, EVERY, EVERY + 1, EVERY + 2)] == [True, False, True, False]


def test_what_it_finds_is_reserved() -> None:
    nat = cone(4).engine.nat
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 0))
        asyncio.run(LocalPorts(nat).look())
        assert reserved_port(IPPROTO_UDP, one.getsockname()[1]) in nat.endpoints.reserved

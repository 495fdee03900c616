"""The ports of real sockets."""

import socket

import pytest

from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP
from conntrackd_py.kernel.local_ports import local_ports
from conntrackd_py.nat.mapping import reserved_port


@pytest.mark.parametrize(
    ("kind", "protonum"), [(socket.SOCK_STREAM, IPPROTO_TCP), (socket.SOCK_DGRAM, IPPROTO_UDP)], ids=["tcp", "udp"]
)
@pytest.mark.parametrize(("address", "found"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False)])
def test_sockets_that_wait(kind: int, protonum: int, address: str, found: bool) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as one:
        one.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            one.listen()
        port = reserved_port(protonum, one.getsockname()[1])
        assert (port in local_ports()) == found
    assert port not in local_ports()

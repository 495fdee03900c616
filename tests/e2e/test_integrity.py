"""Every byte that goes through the router comes out as it went in."""

import pytest

from conntrackd_py.lab.namespaces import SERVER, SERVER6
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, UDP_PORT
from tests.e2e.conftest import Net

MEGABYTE = 1_000_000
AROUND_A_PACKET = (1, 2, 511, 512, 1471, 1472, 1473, 2952, 2953, 4015, 4016, 4017, 8192)
LARGE = (20000, 40000, 60000)


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_udp_of_any_size_is_echoed_byte_for_byte(net: Net, server: str) -> None:
    sizes = (str(size) for size in (*AROUND_A_PACKET, *LARGE))
    said = net.client.run(*TRAFFIC, "udp-send", server, str(UDP_PORT), *sizes)
    assert said == "16 datagrams echoed byte for byte\n"


@pytest.mark.parametrize(("server", "amount"), [(SERVER, 200 * MEGABYTE), (SERVER6, 20 * MEGABYTE)])
def test_tcp_in_both_directions_at_once(net: Net, server: str, amount: int) -> None:
    said = net.client.run(*TRAFFIC, "exchange", server, str(EXCHANGE_PORT), str(amount), timeout=150)
    assert said == f"{amount} bytes each way, SHA-256 equal\n"


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_500_connections_at_once(net: Net, server: str) -> None:
    said = net.client.run(*TRAFFIC, "many", server, str(EXCHANGE_PORT), "500")
    assert said == "500 of 500 connections good\n"
    assert len(net.router.conntrack("-L", "-p", "tcp", "--state", "TIME_WAIT").splitlines()) >= 500


def test_none_of_our_code_failed_and_nothing_was_cut(net: Net) -> None:
    metrics = net.router.metrics()
    assert "conntrackd_py_verdict_errors_total 0.0" in metrics
    assert "conntrackd_py_truncated_packets_total 0.0" in metrics
    assert "error" not in net.router.said()


def test_nothing_untranslated_was_seen_outside(net: Net) -> None:
    assert net.leaked() == []

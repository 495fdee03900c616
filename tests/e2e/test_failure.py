"""The daemon goes away, one way or another: no packet passes without it, and it comes back as if nothing had been."""

import signal
import time

from conntrackd_py.lab.namespaces import ROUTER, SERVER, SERVER6
from conntrackd_py.lab.router import WEB_OUTSIDE
from conntrackd_py.lab.steps import TRAFFIC, UDP_PORT, fetch
from tests.e2e.conftest import Net


def passes(net: Net, server: str) -> bool:
    return net.client.complete("ping", "-n", "-c", "1", "-W", "1", server).returncode == 0


def test_killed_it_lets_nothing_pass_and_started_again_it_works(net: Net) -> None:
    assert passes(net, SERVER)
    assert net.router.stop(signal.SIGKILL) == -signal.SIGKILL
    for server in (SERVER, SERVER6):
        assert not passes(net, server)
    udp = net.client.complete(*TRAFFIC, "udp-send", SERVER, str(UDP_PORT), "1")
    assert udp.stdout == "timed out\n"
    assert net.outside.complete("curl", "-s", "--max-time", "1", f"http://{ROUTER}:{WEB_OUTSIDE}/").returncode != 0
    assert net.leaked() == []

    net.router.start()
    for server in (SERVER, SERVER6):
        assert passes(net, server)
    assert fetch(net.client, f"http://{SERVER}/") == f"This is the server. You are {ROUTER}."


def test_asked_to_end_it_ends_with_status_0_and_fails_closed(net: Net) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        assert net.router.stop(number) == 0
        assert not net.router.socket.exists()
        assert not passes(net, SERVER)
        net.router.start()
        assert passes(net, SERVER)


def test_it_ends_under_load(net: Net) -> None:
    net.client.start("ping", "-q", "-f", SERVER)
    time.sleep(0.5)
    assert net.router.stop() == 0
    net.router.start()
    assert passes(net, SERVER)


def test_nothing_untranslated_was_seen_outside(net: Net) -> None:
    assert net.leaked() == []

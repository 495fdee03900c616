"""Who reaches whom through the router, and what each side sees of the other."""

import re

import pytest

from conntrackd_py.lab import steps
from conntrackd_py.lab.namespaces import CLIENT, ROUTER, ROUTER6_INSIDE, ROUTER_INSIDE, SERVER, SERVER6
from conntrackd_py.lab.router import WEB_OUTSIDE
from conntrackd_py.lab.steps import CLOSED_PORT, TRAFFIC
from tests.e2e.conftest import Net

CURL_COULD_NOT_CONNECT = 7


@pytest.mark.parametrize("server", [SERVER, SERVER6])
@pytest.mark.parametrize("size", [56, 1472, 3000, 20000])
def test_a_ping_is_answered(net: Net, server: str, size: int) -> None:
    answer = net.client.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-s", str(size), server)
    assert "2 received" in answer


@pytest.mark.parametrize("router", [ROUTER_INSIDE, ROUTER6_INSIDE, ROUTER])
def test_the_router_itself_answers_a_ping(net: Net, router: str) -> None:
    assert "1 received" in net.client.run("ping", "-n", "-c", "1", "-W", "2", router)


@pytest.mark.parametrize("server", [SERVER, SERVER6, CLIENT])
def test_the_router_itself_pings(net: Net, server: str) -> None:
    assert "1 received" in net.inside_router.run("ping", "-n", "-c", "1", "-W", "2", server)


def test_the_server_sees_only_the_router(net: Net) -> None:
    assert steps.fetch(net.client, f"http://{SERVER}/") == f"This is the server. You are {ROUTER}."


def test_a_service_inside_is_reached_by_the_routers_address(net: Net) -> None:
    assert steps.fetch(net.outside, f"http://{ROUTER}:{WEB_OUTSIDE}/") == f"This is the client. You are {SERVER}."


def test_the_outside_does_not_reach_what_no_rule_lets_in(net: Net) -> None:
    done = net.outside.complete("curl", "-sS", "--max-time", "2", f"http://{ROUTER}:{WEB_OUTSIDE + 1}/")
    assert done.returncode == CURL_COULD_NOT_CONNECT  # refused by the router itself, which is quick


@pytest.mark.parametrize(("server", "hop"), [(SERVER, ROUTER_INSIDE), (SERVER6, ROUTER6_INSIDE)])
def test_a_traceroute_shows_the_router(net: Net, server: str, hop: str) -> None:
    route = net.client.run("traceroute", "-n", "-q", "1", "-w", "2", "-m", "4", server)
    assert re.findall(r"^ *\d+ +(\S+)", route, re.MULTILINE) == [hop, server]


def test_a_closed_port_is_reported_about_the_packet_the_client_sent(net: Net) -> None:
    # -vv: tcpdump shows the packet inside the error; -c 1: it ends with the first.
    listener = net.client.start(
        *("tcpdump", "-i", "eth0", "-n", "-vv", "-l", "-c", "1", "icmp[icmptype] == icmp-unreach"),
        stdout=-1,
        stderr=-2,
    )
    assert listener.stdout is not None
    assert "listening" in listener.stdout.readline()
    refused = net.client.complete(*TRAFFIC, "udp-send", SERVER, str(CLOSED_PORT), "1")
    assert "Connection refused" in refused.stdout
    shown, _ = listener.communicate(timeout=10)
    assert f"{SERVER} > {CLIENT}: ICMP {SERVER} udp port {CLOSED_PORT} unreachable" in shown
    assert re.search(rf"{CLIENT}\.\d+ > {SERVER}\.{CLOSED_PORT}: \[udp sum ok\]", shown)
    assert "bad cksum" not in shown


def test_nothing_untranslated_was_seen_outside(net: Net) -> None:
    assert net.leaked() == []

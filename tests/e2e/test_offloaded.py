"""[offload] mode = "established": the kernel forwards established connections, and nothing else changes."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG
from conntrackd_py.lab.steps import EXCHANGE_PORT, UDP_PORT
from tests.support.both_ways import IN_PORT
from tests.support.offloading import MAPS, MEGABYTE, QUICK, Net, Talk
from tests.support.waiting import wait_until

STATEFUL = (
    "-P FORWARD DROP",
    "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-A FORWARD -m conntrack --ctstate NEW -i lan0 -j ACCEPT",
    f"-A FORWARD -m conntrack --ctstate NEW -i wan0 -p tcp --dport {EXCHANGE_PORT} -j ACCEPT",
)


@pytest.fixture(scope="module", params=["nft", "iptables", "keep"])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    program = "iptables" if request.param == "iptables" else "nft"
    more = f'kernel_conntrack = "{"keep" if request.param == "keep" else "off"}"\n'
    with Topology() as topology:
        for rule in STATEFUL if request.param == "keep" else ():
            topology.router.run("iptables", *rule.split())
        running = Net(topology, program, more)
        yield running
        running.close()
        assert running.leaked() == []
        metrics = running.router.metrics()
        assert "conntrackd_py_verdict_errors_total 0.0" in metrics
        assert '"event": "maps_failed"' not in running.router.said()


@pytest.mark.parametrize("host", [ROUTER, f"[{ROUTER6}]"])
def test_the_router_refuses_a_port_that_nobody_listens_on(net: Net, host: str) -> None:
    refused = net.outside.complete("curl", "-sS", "--max-time", "2", f"http://{host}:8081/")
    assert refused.returncode == 7, refused.stderr  # curl: could not connect, and at once


@pytest.mark.parametrize(("host", "source"), [(SERVER, 6001), (SERVER6, 6601)])
def test_datagrams_do_not_reach_the_queue(net: Net, host: str, source: int) -> None:
    talk = net.talk(host, source)
    assert net.queued(lambda: talk.send(300)) == 0
    assert "[OFFLOAD]" in net.listed(source)


def test_the_counters_are_those_of_what_was_sent(net: Net) -> None:
    talk = net.talk(source=6002)
    assert talk.send(300) == 300
    payload = 2 * sum(4 * (1 + at % 300) for at in range(300)) - sum(4 * (1 + at) for at in range(300))
    first = sum(4 * (1 + at) for at in range(12))
    size = payload + first + 312 * 28
    wait_until(lambda: net.counted(6002) == (312, size, 312, size), lambda: net.listed(6002))


@pytest.mark.parametrize(("host", "address"), [(SERVER, ROUTER), (SERVER6, ROUTER6)])
def test_a_stream_outward(net: Net, host: str, address: str) -> None:
    queued = net.queued(lambda: net.exchange(host, megabytes=100))
    assert queued < 1500, "two or three thousand super-packets at least carry so much"
    wait_until(lambda: "FIN_WAIT" in tcp(net) or "TIME_WAIT" in tcp(net), "the end was not seen")
    assert address in tcp(net)


def tcp(net: Net) -> str:
    return net.router.conntrack("-L", "-f", "ipv4", "-p", "tcp") + net.router.conntrack("-L", "-f", "ipv6", "-p", "tcp")


@pytest.mark.parametrize("host", [ROUTER, ROUTER6])
def test_a_stream_inward_to_another_address_and_port(net: Net, host: str) -> None:
    assert net.queued(lambda: net.exchange(host, port=IN_PORT, megabytes=100, inward=True)) < 1500


def test_a_connection_that_is_deleted_under_traffic(net: Net) -> None:
    talk = net.talk(source=6003)
    flows = net.flows()
    deleted = net.router.conntrack("-D", "-p", "udp", "--orig-port-src", "6003")
    assert "[OFFLOAD]" in deleted
    assert net.flows() == flows - 2
    assert talk.send(20) == 20, "it is a new connection"


def test_a_mark_set_by_hand_returns_it_and_stays(net: Net) -> None:
    talk = net.talk(source=6004)
    net.router.conntrack("-U", "-p", "udp", "--orig-port-src", "6004", "--mark", "7")
    assert "mark=7" in net.listed(6004)
    assert net.queued(lambda: talk.send(2)) > 0
    assert talk.send(20) == 20
    assert "mark=7" in net.listed(6004)
    assert "[OFFLOAD]" in net.listed(6004)


def test_a_reload_under_a_stream(net: Net) -> None:
    process = net.exchanging(300)
    talk = net.talk(source=6005)
    assert net.router.process is not None
    net.router.process.send_signal(signal.SIGHUP)
    wait_until(lambda: '"event": "reloaded"' in net.router.said(), "no reload")
    assert talk.send(50) == 50
    assert process.communicate(timeout=60)[0] == f"{300 * MEGABYTE} bytes each way, SHA-256 equal\n"


def test_another_program_flushes_the_ruleset(net: Net) -> None:
    talk = net.talk(source=6006)
    net.inside_router.run("nft", "flush", "ruleset")
    wait_until(lambda: net.router.said().count('"event": "steering_restored"') > 0, "the rules are not restored")
    wait_until(lambda: talk.send(2) == 2, "no packet passes")
    assert talk.send(50) == 50


def test_the_daemon_is_killed_under_a_stream(net: Net) -> None:
    process = net.exchanging(2000)
    talk = net.talk(source=6007)
    net.router.stop(signal.SIGKILL)
    assert MAPS not in net.inside_router.run("nft", "list", "tables")
    assert talk.send(1) == 0
    net.router.start()
    process.kill()
    assert net.talk(source=6008).send(50) == 50


def test_idle_connections_expire_on_time(net: Net) -> None:
    del net
    with Topology() as topology:
        other = Net(topology)
        text = other.router.config.read_text()
        other.router.config.write_text(text.replace(QUICK, QUICK + "nf_conntrack_udp_timeout_stream = 10\n"))
        assert other.router.stop() == 0
        other.router.start()
        talk = other.talk(source=6009)
        for _ in range(13):
            time.sleep(1)
            assert talk.send(1) == 1
        assert "[OFFLOAD]" in other.listed(6009), "it is in use"
        time.sleep(8)
        assert "[OFFLOAD]" in other.listed(6009)
        wait_until(lambda: other.listed(6009) == "", "it did not expire", 10)
        assert other.flows() == 0
        other.close()


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made


PROGRAMS = ["nft", "iptables"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_mark_of_another_rule_lets_a_packet_leave_untranslated(topology: Topology, program: str) -> None:
    """Between the translation by the kernel and the queue too, with the field of an offloaded connection."""
    net = Net(topology, program)
    net.talk(source=6010)
    field = 0x2000
    for hook, priority in (("prerouting", -400), ("forward", -10), ("postrouting", -151)):
        for mark in (0x1000, 0x1000 | field, 0x800 | field, 0x1800 | field, 0xFFFFFFFF):
            rule = f"add rule ip mine c udp dport {UDP_PORT} udp sport 6100-6999 meta mark set {mark}"
            net.inside_router.run(
                "nft",
                f"add table ip mine; add chain ip mine c {{ type filter hook {hook} priority {priority}; }}; {rule}",
            )
            talk = Talk(net, SERVER, 6100 + len(net.talks))
            net.talks.append(talk)
            talk.send(1)
            net.inside_router.run("nft", "delete", "table", "ip", "mine")
    assert net.leaked() == []
    net.close()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_raw_rule_of_the_administrator_drops_offloaded_packets(topology: Topology, program: str) -> None:
    net = Net(topology, program)
    talk = net.talk(source=6011)
    net.inside_router.run("iptables", "-t", "raw", "-I", "PREROUTING", "-s", CLIENT, "-p", "udp", "-j", "DROP")
    assert talk.send(1) == 0
    net.close()


def test_a_lost_address_ends_the_connection(topology: Topology) -> None:
    config = CONFIG.replace('action = "SNAT"\nto = "203.0.113.1"', 'action = "MASQUERADE"')
    assert "MASQUERADE" in config
    net = Net(topology, config=config)
    talk = net.talk(source=6012)
    net.inside_router.run("ip", "address", "add", "203.0.113.9/24", "dev", "wan0")
    net.inside_router.run("ip", "address", "delete", f"{ROUTER}/24", "dev", "wan0")
    net.inside_router.run("ip", "address", "add", "203.0.113.9/24", "dev", "wan0", check=False)
    wait_until(lambda: net.listed(6012) == "", "the connection lives")
    assert net.flows() == 0
    wait_until(lambda: talk.send(1) == 1, "no new connection")
    assert "203.0.113.9" in net.listed(6012)
    net.close()


def test_marks_of_the_administrator_outside_the_mask_stay(topology: Topology) -> None:
    """A packet that arrives with such bits goes to the daemon. Bits that a later rule sets are kept."""
    net = Net(topology)
    rules = "add table ip mine; add chain ip mine c { type filter hook forward priority 0; }; "
    rules += "add rule ip mine c udp dport 7 meta mark set meta mark | 0x5; "
    rules += "add chain ip mine d { type filter hook postrouting priority 0; }; "
    rules += "add rule ip mine d meta mark & 0xff == 5 counter"
    net.inside_router.run("nft", rules)
    talk = net.talk(source=6013)
    assert net.queued(lambda: talk.send(100)) == 0
    counted = re.search(r"counter packets (\d+)", net.inside_router.run("nft", "list", "chain", "ip", "mine", "d"))
    assert counted is not None
    assert int(counted[1]) == 112
    net.close()

"""How many visits packets make, counted by the daemon, and that a done bit from elsewhere spares none."""

import re
import signal
import time
from collections.abc import Iterator
from itertools import product

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, ROUTER_INSIDE, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, Router
from conntrackd_py.lab.steps import UDP_PORT, start_servers
from tests.support.processes import capture, one_processor, start_script
from tests.support.waiting import wait_until

PINGS = 60
NOISE = 20  # neighbour discovery, at most
FORGED = 0x1800  # done, ESTABLISHED
STEERINGS = [
    {"program": program, "kernel_conntrack": keep} for program, keep in product(("nft", "iptables"), ("off", "keep"))
]
HOOKS = ("pre_routing", "post_routing", "local_in", "local_out")


def config(mode: str, steering: dict[str, str], more: str = "") -> str:
    base = CONFIG if mode == "nat" else CONFIG.split("[[nat]]")[0].replace('"nat"', '"track"')
    return base + "[steering]\n" + "".join(f'{key} = "{value}"\n' for key, value in steering.items()) + more


def running(topology: Topology, text: str) -> Router:
    router = Router(topology, text)
    router.install_rules()
    router.start()
    start_servers(topology)
    return router


def visits(router: Router) -> dict[str, int]:
    found = re.findall(r'^conntrackd_py_packets_total\{hook="(\w+)",verdict="accept"\} (\d+)', router.metrics(), re.M)
    return {hook: int(float(number)) for hook, number in found}


def pinged(topology: Topology, router: Router, address: str) -> list[int]:
    """Visits of PINGS requests and their answers, by hook of HOOKS, in whole PINGS."""
    topology.client.run("ping", "-c", "1", "-W", "2", address)
    before = visits(router)
    topology.client.run("ping", "-q", "-c", str(PINGS), "-i", "0.01", "-W", "2", address)
    after = visits(router)
    made = [after[hook] - before[hook] for hook in HOOKS]
    assert all(number % PINGS < NOISE for number in made), made
    return [number // PINGS for number in made]


@pytest.fixture(params=STEERINGS, ids=lambda steering: "-".join(steering.values()))
def steering(request: pytest.FixtureRequest) -> dict[str, str]:
    wanted: dict[str, str] = request.param
    return wanted


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made


def test_what_leaves_nothing_to_do_makes_one_visit(topology: Topology, steering: dict[str, str]) -> None:
    router = running(topology, config("nat", steering))
    assert pinged(topology, router, SERVER) == [2, 1, 0, 0], "the source of the requests is translated at POSTROUTING"
    assert pinged(topology, router, SERVER6) == [2, 0, 0, 0], "no rule for IPv6"
    assert pinged(topology, router, ROUTER_INSIDE) == [1, 1, 0, 1], "to the router, and its answers"
    topology.router.run(*DAEMON, "rules", "status", "-c", str(router.config))
    assert 'packets_total{hook="post_routing",verdict="drop"} 0' in router.metrics()
    assert "mark_overwritten_total 0" in router.metrics()


def test_in_mode_track(topology: Topology, steering: dict[str, str]) -> None:
    router = running(topology, config("track", steering))
    topology.server.run("ip", "route", "add", "192.168.1.0/24", "via", "203.0.113.1", check=False)
    assert pinged(topology, router, SERVER6) == [2, 0, 0, 0]
    assert pinged(topology, router, ROUTER_INSIDE) == [1, 1, 0, 1]


def test_without_a_mark_all_visits_are_made(topology: Topology) -> None:
    router = running(topology, config("nat", {}, "mark_mask = 0\n"))
    assert pinged(topology, router, SERVER) == [2, 2, 0, 0]
    assert pinged(topology, router, SERVER6) == [2, 2, 0, 0]


def test_with_rules_at_a_later_hook_all_visits_are_made(topology: Topology, steering: dict[str, str]) -> None:
    rule = '[[connmark]]\nset = "0x1/0x1"\nhooks = ["forward"]\n'
    router = running(topology, config("nat", steering, rule))
    assert pinged(topology, router, SERVER) == [2, 2, 0, 0]


SEND = """
import socket, struct, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", int(sys.argv[1])))
    s.sendto(b"?", (sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.parametrize("mode", ["nat", "track"])
def test_the_mark_of_a_program_spares_no_visit(topology: Topology, mode: str, steering: dict[str, str]) -> None:
    """A connection is listed when POSTROUTING has confirmed it."""
    router = running(topology, config(mode, steering))
    for mark, port in ((0, 7001), (FORGED, 7002), (0x1F00, 7003), (0xFFFFFFFF, 7004)):
        topology.router.run("/usr/bin/python3", "-c", SEND, str(mark), SERVER6, str(port))
        wait_until(lambda p=port: f"dport={p}" in router.conntrack("-L", "-f", "ipv6"), f"mark {mark:#x}")  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["nat", "track"])
def test_the_mark_of_a_packet_that_came_in_unqueued_spares_no_visit(
    topology: Topology, mode: str, steering: dict[str, str]
) -> None:
    """As out of a tunnel whose interface is excluded. The rule stands before all others, as the tunnel does."""
    router = running(topology, config(mode, steering, 'exclude_interfaces = ["lo", "lan0"]\n'))
    elsewhere = (
        f"table inet mine {{ chain c {{ type filter hook prerouting priority -400; meta mark set {FORGED}; }}; }}"
    )
    topology.router.run("nft", elsewhere)
    topology.client.run("ping", "-c", "1", "-W", "2", SERVER6)
    assert router.conntrack("-L", "-f", "ipv6", "-p", "icmpv6")
    topology.client.run("/usr/bin/python3", "-c", SEND, "0", SERVER6, str(UDP_PORT))
    wait_until(lambda: f"dport={UDP_PORT}" in router.conntrack("-L", "-f", "ipv6"), "not confirmed")


def test_a_source_rule_is_applied_whatever_the_mark_says(topology: Topology, steering: dict[str, str]) -> None:
    """A rule of the administrator between the visits sets the mark of a packet with nothing left to do."""
    router = running(topology, config("nat", steering))
    rule = f"table inet mine {{ chain c {{ type filter hook forward priority 0; meta mark set {FORGED}; }}; }}"
    topology.router.run("nft", rule)
    topology.client.run("ping", "-c", "3", "-i", "0.1", "-W", "2", SERVER)
    assert f"src={SERVER}" in router.conntrack("-L", "-p", "icmp")


# Datagrams one after the other, each echoed, from a port.
ECHOED = """
import socket, sys
host, port, source, count = sys.argv[1], *map(int, sys.argv[2:])
with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", source))
    s.settimeout(2)
    s.connect((host, port))
    for at in range(count):
        s.send(b"%d" % at)
        assert s.recv(100) == b"%d" % at
"""
SOURCE = 6000
BEFORE = 30  # datagrams: more than the connection needs to get its elements
AFTER = 60


def echoed(topology: Topology, host: str, count: int) -> None:
    topology.client.run("/usr/bin/python3", "-c", ECHOED, host, str(UDP_PORT), str(SOURCE), str(count))


def visited(topology: Topology, router: Router, host: str = SERVER) -> list[int]:
    """Visits of AFTER datagrams and their answers, in whole AFTERs, once their connection is in the maps."""
    echoed(topology, host, BEFORE)
    time.sleep(0.1)
    echoed(topology, host, 2)
    before = visits(router)
    echoed(topology, host, AFTER)
    after = visits(router)
    made = [after[hook] - before[hook] for hook in HOOKS]
    assert all(number % AFTER < NOISE for number in made), made
    return [number // AFTER for number in made]


def test_a_packet_that_the_kernel_translates_makes_one_visit(topology: Topology, steering: dict[str, str]) -> None:
    """Its counters go on. The rules of iptables queue packets in the table mangle, before the kernel translates."""
    router = running(topology, config("nat", steering))
    assert visited(topology, router) == [2, 0 if steering["program"] == "nft" else 1, 0, 0]
    line = router.conntrack("-L", "-p", "udp", "--orig-port-src", str(SOURCE))
    assert line.count(f"packets={BEFORE + 2 + AFTER} ") == 2
    assert f"dst={ROUTER}" in line


def test_a_rule_that_comes_with_a_reload_sees_every_packet(topology: Topology) -> None:
    router = running(topology, config("nat", {}))
    assert visited(topology, router) == [2, 0, 0, 0]
    text = router.config.read_text()
    assert router.process is not None
    for rule, wanted in (('\n[[connmark]]\nset = "0x1/0x1"\nhooks = ["forward"]\n', 2), ("", 0)):
        already = router.said().count('"event": "reloaded"')
        router.config.write_text(text + rule)
        router.process.send_signal(signal.SIGHUP)
        wait_until(lambda n=already: router.said().count('"event": "reloaded"') > n, "no reload")  # type: ignore[misc]
        assert visited(topology, router)[1] == wanted
    assert "mark=1" in router.conntrack("-L", "-p", "udp", "--orig-port-src", str(SOURCE))


def test_a_rule_that_stands_from_the_start_sees_every_packet(topology: Topology) -> None:
    router = running(topology, config("nat", {}, '[[connmark]]\nset = "0x1/0x1"\nhooks = ["forward"]\n'))
    assert visited(topology, router) == [2, 2, 0, 0]


def test_without_maps_the_second_visit_is_made(topology: Topology) -> None:
    router = running(topology, config("nat", {}, '[queue]\nlarge_packets = "whole"\n'))
    assert visited(topology, router) == [2, 1, 0, 0]


@pytest.mark.parametrize("program", ["nft", "iptables"])
def test_no_mark_of_another_rule_lets_a_packet_leave_untranslated(topology: Topology, program: str) -> None:
    """Nor the field of a connection whose packets are spared their second visit."""
    router = running(topology, config("nat", {"program": program}))
    captured = topology.folder / "outside.pcap"
    capture(topology.server, captured, f"ip net {INSIDE}")
    visited(topology, router)
    field, port = 0x2000, 6100
    for hook, priority in (("prerouting", -400), ("forward", -10), ("postrouting", -151), ("postrouting", -149)):
        for mark in (0x1000, 0x1000 | field, 0x800 | field, 0x1800 | field, 0xFFFFFFFF):
            port += 1
            rule = f"add rule ip mine c udp sport {port} meta mark set {mark}"
            base = f"add chain ip mine c {{ type filter hook {hook} priority {priority}; }}"
            topology.router.run("nft", f"add table ip mine; {base}; {rule}")
            words = ("/usr/bin/python3", "-c", ECHOED, SERVER, str(UDP_PORT), str(port), "1")
            topology.client.complete(*words)
            topology.router.run("nft", "delete", "table", "ip", "mine")
    assert topology.server.run("tcpdump", "-nr", str(captured)) == ""
    assert visited(topology, router)[0] == 2


@pytest.mark.parametrize("program", ["nft", "iptables"])
def test_rules_in_the_table_mangle_see_the_inside_address(topology: Topology, program: str) -> None:
    """As with the kernel's NAT: a rule there chooses the queue of a packet by its sender."""
    router = running(topology, config("nat", {"program": program}))
    topology.router.run("iptables", "-t", "mangle", "-I", "POSTROUTING", "-s", CLIENT, "-p", "udp")
    visited(topology, router)
    text = topology.router.run("iptables", "-t", "mangle", "-vnxL", "POSTROUTING")
    counted = re.search(rf"^ *(\d+) +\d+ .* {CLIENT} ", text, re.M)
    assert counted is not None
    assert int(counted[1]) == BEFORE + 2 + AFTER


SWITCHED = """
import socket, sys, time
host, port, source = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", source))
    s.connect((host, port))
    for at in range(3000):
        s.send(b"%d" % at)
        if at % 20 == 0:
            time.sleep(0.001)
"""
SINK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.bind((sys.argv[1], int(sys.argv[2])))
    print("ready", flush=True)
    found = []
    while len(found) < 3000:
        s.settimeout(20 if not found else 2)
        try:
            data, peer = s.recvfrom(100)
        except TimeoutError:
            break
        found.append(int(data))
        if len(found) < 3:
            s.sendto(b"answer", peer)
print(len(found), sum(b < a for a, b in zip(found, found[1:])))
"""


def test_packets_keep_their_order_when_the_second_visit_ends(topology: Topology) -> None:
    """All on one processor: see test_large_packets.py."""
    with one_processor(running(topology, config("nat", {})).pid):
        sink = start_script(topology.server, SINK, SERVER, "8300")
        topology.client.run("/usr/bin/python3", "-c", SWITCHED, SERVER, "8300", "6001")
        arrived, early = map(int, sink.communicate(timeout=30)[0].split())
    assert (arrived, early) == (3000, 0)

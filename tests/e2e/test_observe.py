"""Mode observe: beside the kernel's conntrack on live traffic, changing nothing; `diff` compares the two tables."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, INSIDE6, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONNTRACK, DAEMON, Router
from conntrackd_py.lab.steps import start_servers
from tests.support.sidebyside import anytime, printed
from tests.support.waiting import wait_until

SECONDS = float(os.environ.get("CONNTRACKD_PY_OBSERVE", "8"))
TRIES = 4
CONFIG = """
mode = "observe"
[observe]
via = "{via}"
socket_buffer = {buffer}
[tunables]
nf_conntrack_acct = true
[control]
socket = "%s"
"""
LARGE, SMALL = 16777216, 65536  # bytes
COPIES, QUEUED, TRANSLATED, QUEUED_TRANSLATED, SHORT = (
    ("nflog", False, LARGE),
    ("nfqueue", False, LARGE),
    ("nflog", True, LARGE),
    ("nfqueue", True, LARGE),
    ("nflog", True, SMALL),
)
KERNEL_NAT = (
    ("iptables", "POSTROUTING", "-o", "wan0", "-s", INSIDE, "-j", "MASQUERADE"),
    ("ip6tables", "POSTROUTING", "-o", "wan0", "-s", INSIDE6, "-j", "SNAT", "--to-source", ROUTER6),
    ("iptables", "PREROUTING", "-i", "wan0", "-p", "tcp", "--dport", "8080", "-j", "DNAT", "--to", f"{CLIENT}:80"),
)

# Bursts of everything at once: short and long TCP connections, some reset, UDP both ways and to closed ports.
MIX = """
import random, socket, struct, sys, time
dice = random.Random(int(sys.argv[1]))
hosts = sys.argv[3:]
end = time.monotonic() + float(sys.argv[2])
held = []
while time.monotonic() < end:
    host = dice.choice(hosts)
    kind = dice.random()
    try:
        if kind < 0.5:
            peer = socket.create_connection((host, dice.choice((80, 80, 81))), timeout=2)
            if dice.random() < 0.8:
                peer.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                peer.recv(100)
            if dice.random() < 0.3:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if dice.random() < 0.2 and len(held) < 50:
                held.append(peer)
            else:
                peer.close()
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                datagrams.settimeout(0.2)
                datagrams.connect((host, dice.choice((7, 7, 4444))))
                for _ in range(dice.choice((1, 1, 2, 5))):
                    datagrams.send(bytes(dice.choice((1, 100, 3000))))
                    datagrams.recv(4096)
    except OSError:
        pass  # refused, reset or silent: what the mix is for
    time.sleep(0.01)
"""


# Datagrams from many source ports, as fast as a process can send them.
FLOOD = """
import socket, struct, sys
address, ports = sys.argv[1], range(int(sys.argv[2]), int(sys.argv[3]))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
for port in ports:
    raw.sendto(struct.pack(">HHHH", port, 9999, 8, 0), (address, 0))
"""


@pytest.fixture(params=[COPIES])
def observed(request: pytest.FixtureRequest) -> Iterator[tuple[Topology, Router]]:
    via, translated, buffer = request.param
    with Topology() as net:
        if translated:
            for program, chain, *rule in KERNEL_NAT:
                net.router.run(program, "-t", "nat", "-A", chain, *rule)
        else:
            net.server.run("ip", "route", "add", INSIDE, "via", ROUTER)
        for program in ("iptables", "ip6tables"):  # a rule that asks is what turns the kernel's tracking on
            net.router.run(program, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "ACCEPT")
        net.router.run("sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1")
        router = Router(net, CONFIG.replace("{via}", via).replace("{buffer}", str(buffer)))
        router.start()
        router.install_rules()
        start_servers(net)
        yield net, router


def diff(net: Topology, router: Router) -> subprocess.CompletedProcess[str]:
    return net.router.complete(*DAEMON, "diff", "--socket", str(router.socket))


@pytest.mark.parametrize("observed", [COPIES, QUEUED, TRANSLATED, QUEUED_TRANSLATED], indirect=True)
def test_mixed_traffic_and_no_difference(observed: tuple[Topology, Router]) -> None:
    net, router = observed
    translated = "MASQUERADE" in net.router.run("iptables", "-t", "nat", "-S")
    mixes = [
        where.start(sys.executable, "-P", "-c", mix, str(seed), str(SECONDS), *hosts, stdout=subprocess.PIPE)
        for seed, (where, mix, hosts) in enumerate(
            [(net.client, MIX, (SERVER, SERVER6))] * 3
            + [(net.router, MIX, (SERVER, SERVER6))]
            + [(net.server, MIX.replace("(80, 80, 81)", "(8080, 81)"), (ROUTER, ROUTER6))]
        )
    ]
    net.client.start("ping", "-q", "-i", "0.2", "-w", str(int(SECONDS)), SERVER)
    net.client.start("ping", "-q", "-i", "0.2", "-w", str(int(SECONDS)), SERVER6)
    for mix in mixes:
        assert mix.wait(SECONDS + 20) == 0
    time.sleep(1)
    done = diff(net, router)
    assert (done.returncode, done.stdout) == (0, ""), f"{done.stdout}{status(net, router)['copies']}\n{router.said()}"
    assert "no differences" in done.stderr
    seen = router.conntrack("-L").splitlines()
    assert len(seen) > 100
    assert {line.split()[0] for line in seen} == {"tcp", "udp", "icmp", "icmpv6"}
    from_inside = [line for line in seen if f" src={CLIENT} " in line and f" dst={SERVER} " in line]
    assert {f"dst={ROUTER} " in line for line in from_inside} == {translated}
    assert any("dport=8080" in line and f"src={CLIENT} " in line for line in seen) == translated
    copies = status(net, router)["copies"]
    assert (copies["lost"], copies["translations_lost"], copies["translations"] > 0) == (0, 0, translated)


def status(net: Topology, router: Router) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(net.router.run(*DAEMON, "status", "--json", "--socket", str(router.socket)))
    return found


def pings(net: Topology) -> int:
    return net.client.run("ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", SERVER).count("time=")


GROUPS = "/proc/net/netfilter/nfnetlink_log"


@pytest.mark.parametrize("observed", [TRANSLATED], indirect=True)
def test_traffic_goes_on_whatever_happens_to_the_daemon(observed: tuple[Topology, Router]) -> None:
    net, router = observed
    os.kill(router.pid, signal.SIGSTOP)
    assert pings(net) == 5
    os.kill(router.pid, signal.SIGCONT)
    wait_until(lambda: diff(net, router).returncode == 0, "the daemon has read what waited")
    assert net.router.run("cat", GROUPS).split()[0] == "9466"
    router.stop(signal.SIGKILL)
    assert pings(net) == 5
    assert net.router.run("cat", GROUPS) == "", "no copy is made for nobody"
    assert "installed" in net.router.run(*DAEMON, "rules", "status", "-c", str(router.config))
    router.start()
    net.client.run("ping", "-n", "-c", "1", SERVER)
    wait_until(lambda: "icmp" in router.conntrack("-L"), "a new daemon sees copies again")
    assert router.stop() == 0
    assert pings(net) == 5
    net.router.run(*DAEMON, "rules", "remove", "-c", str(router.config))
    assert "NFLOG" not in net.router.run("iptables-save") + net.router.run("ip6tables-save")


@pytest.mark.parametrize("observed", [SHORT], indirect=True)
def test_losses_are_counted_and_shown_and_made_good(observed: tuple[Topology, Router]) -> None:
    """Copies: by the gaps in their sequence. Translations: the daemon reads all of them again."""
    net, router = observed
    before = status(net, router)
    os.kill(router.pid, signal.SIGSTOP)
    net.client.run(sys.executable, "-P", "-c", FLOOD, SERVER, "10000", "60000")
    os.kill(router.pid, signal.SIGCONT)
    again = (sys.executable, "-P", "-c", FLOOD, SERVER, "59990", "60000")
    wait_until(lambda: translated_last(net, router, *again), "the last connections are known with their translation")
    after = status(net, router)
    assert after["copies"]["lost"] > 10_000
    assert after["copies"]["translations_lost"] > 0
    assert after["queue"]["enobufs"] > 0
    metrics = router.metrics()
    assert f"conntrackd_py_copies_lost_total {float(after['copies']['lost'])}" in metrics
    handled = float(metrics.split('packets_total{hook="pre_routing",verdict="accept"} ')[1].split()[0])
    assert handled + after["copies"]["lost"] >= 50_000, "every packet of the flood is one or the other"
    assert router.said().count("copies_lost") == 1
    text = net.router.run(*DAEMON, "status", "--socket", str(router.socket))
    assert f"copies        {after['copies']['lost']:,} lost" in text
    assert before["copies"]["lost"] == 0


def translated_last(net: Topology, router: Router, *flood: str) -> bool:
    net.client.run(*flood)
    lines = router.conntrack("-L", "-p", "udp").splitlines()
    last = [line for line in lines if any(f"sport={port} dport=9999" in line for port in range(59990, 60000))]
    return len(last) == 10 and all(f"dst={ROUTER} " in line for line in last)


@pytest.mark.parametrize("observed", [TRANSLATED], indirect=True)
def test_connections_older_than_the_daemon_are_known_with_their_translation(observed: tuple[Topology, Router]) -> None:
    net, router = observed
    router.stop()
    net.client.run(sys.executable, "-P", "-c", FLOOD, SERVER, "40000", "40005")
    router.start()
    net.client.run(sys.executable, "-P", "-c", FLOOD, SERVER, "40000", "40005")
    wait_until(lambda: router.conntrack("-L", "-p", "udp").count(f"dst={ROUTER} ") == 5, "five translated connections")
    assert diff(net, router).returncode == 0


def test_a_second_daemon_is_told_who_has_the_group(observed: tuple[Topology, Router]) -> None:
    net, router = observed
    done = net.router.complete(*DAEMON, "run", "-c", str(router.config))
    assert done.returncode == 1
    assert "cannot bind NFLOG group 9466: another program has it" in done.stderr


FORMS = ("", "-o extended", "-o save", "-o xml", "-f ipv6", "-p tcp -o extended", "-u ASSURED", f"-s {INSIDE}")


@pytest.mark.parametrize("observed", [QUEUED], indirect=True)
def test_both_programs_list_and_tell_the_same_of_real_traffic(observed: tuple[Topology, Router]) -> None:
    """conntrack(8) of the kernel's table, conntrack-py of the daemon's: every line of a listing, and every event.

    The queue puts the packets in a row. Without it the kernel may report a state that a packet on another processor
    has set meanwhile.
    """
    net, router = observed
    files = [net.folder / "real", net.folder / "ours"]
    commands = (
        ("stdbuf", "-oL", "conntrack", "-E", "-b", "4000000"),
        (*CONNTRACK, "--socket", str(router.socket), "-E", "-b", "4000000"),
    )
    with files[0].open("w") as first, files[1].open("w") as second:  # a full pipe would stop them
        listeners = [
            net.router.start(*words, stdout=file) for words, file in zip(commands, (first, second), strict=True)
        ]
    time.sleep(1)
    mix = net.client.start(sys.executable, "-P", "-c", MIX, "7", "5", SERVER, SERVER6, stdout=subprocess.PIPE)
    assert mix.wait(30) == 0
    time.sleep(1)
    for listener in listeners:
        listener.send_signal(signal.SIGINT)
        listener.wait(10)
    real, ours = (Counter(printed(line) for line in file.read_text().splitlines()) for file in files)
    only = [f"real {line}" for line in real - ours] + [f"ours {line}" for line in ours - real]
    assert "\n".join(only) == ""
    assert sum(ours.values()) > 100
    for form in FORMS:
        assert_listed_alike(net, router, form.split())


def assert_listed_alike(net: Topology, router: Router, form: list[str]) -> None:
    """A connection may end between the two listings, so there are a few tries."""
    for _ in range(TRIES):
        real = net.router.run("conntrack", "-L", *form)
        ours = router.conntrack("-L", *form)
        if lines(real) == lines(ours):
            assert len(lines(ours)) > 3
            return
    assert lines(real) == lines(ours), form


def lines(text: str) -> list[str]:
    return sorted(anytime(line) for line in text.splitlines())


def test_what_only_one_has_is_named(observed: tuple[Topology, Router]) -> None:
    net, router = observed
    create = ("-I", "-p", "udp", "-t", "100", "-s", CLIENT, "-d", SERVER, "--sport", "1", "--dport", "2")
    net.router.run("conntrack", *create)
    net.client.run("ping", "-c", "1", SERVER)
    net.router.run("conntrack", "-D", "-p", "icmp")
    done = diff(net, router)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("only the kernel has  udp") for line in lines)
    assert any(line.startswith("only the daemon has  icmp") for line in lines)


def test_without_a_daemon_it_says_so(observed: tuple[Topology, Router]) -> None:
    net, router = observed
    router.stop()
    done = diff(net, router)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1

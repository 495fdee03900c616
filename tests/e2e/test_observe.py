"""Mode observe: beside the kernel's conntrack on live traffic, changing nothing; `diff` compares the two tables."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONNTRACK, DAEMON, Router
from conntrackd_py.lab.steps import start_servers
from tests.support.sidebyside import anytime, printed

SECONDS = float(os.environ.get("CONNTRACKD_PY_OBSERVE", "15"))
TRIES = 4
CONFIG = 'mode = "observe"\n[tunables]\nnf_conntrack_acct = true\n[control]\nsocket = "%s"\n'

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


@pytest.fixture
def observed() -> Iterator[tuple[Topology, Router]]:
    with Topology() as net:
        net.server.run("ip", "route", "add", INSIDE, "via", ROUTER)
        for program in ("iptables", "ip6tables"):  # a rule that asks is what turns the kernel's tracking on
            net.router.run(program, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "ACCEPT")
        net.router.run("sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1")
        router = Router(net, CONFIG)
        router.start()
        router.install_rules()
        start_servers(net)
        yield net, router


def diff(net: Topology, router: Router) -> subprocess.CompletedProcess[str]:
    return net.router.complete(*DAEMON, "diff", "--socket", str(router.socket))


def test_mixed_traffic_and_no_difference(observed: tuple[Topology, Router]) -> None:
    net, router = observed
    hosts = (SERVER, SERVER6)
    mixes = [
        net.client.start(sys.executable, "-P", "-c", MIX, str(seed), str(SECONDS), *hosts, stdout=subprocess.PIPE)
        for seed in range(3)
    ]
    net.client.start("ping", "-q", "-i", "0.2", "-w", str(int(SECONDS)), SERVER)
    net.client.start("ping", "-q", "-i", "0.2", "-w", str(int(SECONDS)), SERVER6)
    for mix in mixes:
        assert mix.wait(SECONDS + 20) == 0
    time.sleep(1)
    done = diff(net, router)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    assert "no differences" in done.stderr
    seen = router.conntrack("-L").splitlines()
    assert len(seen) > 100
    assert {line.split()[0] for line in seen} == {"tcp", "udp", "icmp", "icmpv6"}
    assert not any(f"dst={ROUTER}" in line and "ASSURED" in line for line in seen), "nothing is translated"


FORMS = ("", "-o extended", "-o save", "-o xml", "-f ipv6", "-p tcp -o extended", "-u ASSURED", f"-s {INSIDE}")


def test_both_programs_list_and_tell_the_same_of_real_traffic(observed: tuple[Topology, Router]) -> None:
    """conntrack(8) of the kernel's table, conntrack-py of the daemon's: every line of a listing, and every event."""
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

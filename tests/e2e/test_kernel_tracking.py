"""A stateful firewall of the kernel with policy drop beside the daemon: its ct state rules go on working.

Its rules are there first, so `steering.kernel_conntrack = "auto"` keeps the kernel's tracking.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import (
    CLIENT,
    ROUTER,
    ROUTER6,
    ROUTER6_INSIDE,
    ROUTER_INSIDE,
    SERVER,
    SERVER6,
    Namespace,
    Topology,
)
from conntrackd_py.lab.router import CONFIG, DAEMON, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, STEPS, TRAFFIC, UDP_PORT, Step, fetch, start_servers
from tests.e2e.conftest import Net
from tests.support.processes import capture, start

SERVICE = 8022  # a local service of the router
REJECTED = 4445  # a port that the firewall rejects, forwarded and local
REFUSED, TIMED_OUT = 7, 28  # exit statuses of curl
MORE = f"""
[[nat]]
in_interface = "wan0"
destination = "{ROUTER}"
proto = "tcp"
dport = 8090
action = "DNAT"
to = "{CLIENT}:{REJECTED}"
"""

IPTABLES = f"""\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p ICMP -m conntrack --ctstate NEW -j ACCEPT
-A INPUT -p tcp --dport {SERVICE} -m conntrack --ctstate NEW -j ACCEPT
-A INPUT -p tcp --dport {REJECTED} -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp --dport {REJECTED} -j REJECT --reject-with tcp-reset
-A FORWARD -i lan0 -o wan0 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -i wan0 -p tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -m conntrack --ctstate INVALID -j DROP
-A OUTPUT -m conntrack --ctstate NEW -j ACCEPT
COMMIT
"""
NEIGHBOURS = "".join(
    f"-A {chain} -p ipv6-icmp --icmpv6-type {kind} -j ACCEPT\n" for chain in ("INPUT", "OUTPUT") for kind in (135, 136)
)
IP6TABLES = IPTABLES.replace("-p ICMP", "-p ipv6-icmp").replace("COMMIT\n", f"{NEIGHBOURS}COMMIT\n")

BRIDGE = """\
*nat
:POSTROUTING ACCEPT [0:0]
:PREROUTING ACCEPT [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A PREROUTING -p tcp --dport 8081 ! -i docker0 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT
-A FORWARD -i lan0 -o wan0 -j ACCEPT
-A FORWARD -i wan0 -o lan0 -j ACCEPT
COMMIT
"""  # as Docker writes them

NFT = f"""
table inet firewall {{
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        ct state vmap {{ established : accept, related : accept, invalid : drop }}
        meta l4proto {{ icmp, ipv6-icmp }} ct state new accept
        tcp dport {SERVICE} ct state new accept
        tcp dport {REJECTED} ct state new reject with tcp reset
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state vmap {{ established : accept, related : accept, invalid : drop }}
        tcp dport {REJECTED} reject with tcp reset
        iifname "lan0" oifname "wan0" ct state new accept
        iifname "wan0" tcp dport 80 ct state new accept
    }}
    chain output {{
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        ct state {{ established, related, new }} accept
    }}
}}
"""


def install_firewall(net: Topology, program: str) -> None:
    texts = {"nft": {"nft": NFT}, "iptables": {"iptables-restore": IPTABLES, "ip6tables-restore": IP6TABLES}}[program]
    for command, text in texts.items():
        options = ["-f", "-"] if command == "nft" else []
        subprocess.run(net.router.command(command, *options), input=text, text=True, check=True)


@pytest.fixture(scope="module", params=[("nft", "iptables"), ("nft", "nft"), ("iptables", "iptables")], ids="-".join)
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    """The program of the steering rules, and that of the firewall."""
    steering, firewall = request.param
    with Topology() as topology:
        install_firewall(topology, firewall)
        router = Router(topology, f'{CONFIG}{MORE}[steering]\nprogram = "{steering}"\n')
        captured = topology.folder / "outside.pcap"
        capture(topology.server, captured, "(ip net 192.168.77.0/24) or arp or icmp")
        router.install_rules()
        router.start()
        start_servers(topology)
        for address in (ROUTER, ROUTER6):
            start(topology.router, *TRAFFIC, "http", address, str(SERVICE), "the router")
        running = Net(topology, router, captured)
        yield running
        assert running.leaked() == []
        assert "conntrackd_py_verdict_errors_total 0.0" in router.metrics()


def topology_of(net: Net) -> Topology:
    return net.router.net


def test_the_status_names_the_rule_that_needs_it(net: Net) -> None:
    said = net.inside_router.run(*DAEMON, "rules", "status", "-c", str(net.router.config))
    assert "kernel tracking: on (needed by " in said
    assert "ct state" in said or "--ctstate" in said
    assert "error" not in said


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.title)
def test_the_traffic_of_the_lab(net: Net, step: Step) -> None:
    assert step.run(topology_of(net))


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_bulk_tcp(net: Net, server: str) -> None:
    said = net.client.run(*TRAFFIC, "exchange", server, str(EXCHANGE_PORT), "20000000")
    assert said == "20000000 bytes each way, SHA-256 equal\n"


@pytest.mark.parametrize(("server", "first"), [(SERVER, ROUTER_INSIDE), (SERVER6, ROUTER6_INSIDE)], ids=["v4", "v6"])
@pytest.mark.parametrize("method", ["-U", "-I", "-T"], ids=["udp", "icmp", "tcp"])
def test_traceroute_sees_the_router(net: Net, server: str, first: str, method: str) -> None:
    text = net.client.run("traceroute", "-n", "-q", "1", "-w", "2", "-m", "3", method, server)
    assert [line.split()[1] for line in text.splitlines()[1:]] == [first, server]


@pytest.mark.parametrize("address", [ROUTER, f"[{ROUTER6}]"], ids=["v4", "v6"])
def test_a_service_of_the_router_is_reached_from_both_sides(net: Net, address: str) -> None:
    for where in (net.client, net.outside):
        assert fetch(where, f"http://{address}:{SERVICE}/").startswith("This is the router.")


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_the_router_reaches_services_outside(net: Net, server: str) -> None:
    assert "0% packet loss" in net.inside_router.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", server)
    said = net.inside_router.run(*TRAFFIC, "udp-send", server, str(UDP_PORT), "10", "9000")
    assert said == "2 datagrams echoed byte for byte\n"


@pytest.mark.parametrize("server", [SERVER, f"[{SERVER6}]", ROUTER_INSIDE], ids=["v4", "v6", "local"])
def test_a_rejected_first_packet_is_answered(net: Net, server: str) -> None:
    done = net.client.complete("curl", "-sS", "--max-time", "5", f"http://{server}:{REJECTED}/")
    assert done.returncode == REFUSED


def test_a_rejected_first_packet_to_a_forwarded_port_shows_no_address_inside(net: Net) -> None:
    """Its sender gets no answer: the RST would come from the address that the DNAT rule hides."""
    done = net.outside.complete("curl", "-sS", "--max-time", "2", f"http://{ROUTER}:8090/")
    assert done.returncode == TIMED_OUT
    assert net.leaked() == []


def test_a_traceroute_to_a_forwarded_port_shows_no_address_inside(net: Net) -> None:
    net.outside.run("traceroute", "-n", "-q", "1", "-w", "1", "-m", "1", "-T", "-p", "8080", ROUTER)
    net.outside.run("ping", "-c", "1", "-W", "2", ROUTER)
    errors = net.captured("icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply")
    assert not any(CLIENT in line for line in errors)


def test_the_kernel_sees_the_inside_view(net: Net) -> None:
    fetch(net.client, f"http://{SERVER}:80/")
    fetch(net.outside, f"http://{ROUTER}:8080/")
    table = net.inside_router.run("conntrack", "-L", "-p", "tcp")
    assert f"src={CLIENT} dst={SERVER}" in table
    assert f"src={SERVER} dst={CLIENT}" in table
    assert f"dst={ROUTER} sport=80" not in table


@pytest.mark.parametrize("program", ["nft", "iptables"])
def test_hosts_that_the_kernel_translates_behind_an_excluded_interface(program: str) -> None:
    """Containers: out by the kernel's MASQUERADE, in by its DNAT, beside a client of the daemon."""
    with Topology() as net:
        inside = Namespace(f"ctpy-{net.token}-container")
        net.cleanup.callback(inside.delete)
        subprocess.run(["ip", "netns", "add", inside.name], check=True)
        net.cleanup.callback(inside.end)
        net.router.run("ip", "link", "add", "docker0", "type", "veth", "peer", "name", "eth0", "netns", inside.name)
        for where, interface, host in ((net.router, "docker0", 1), (inside, "eth0", 2)):
            where.run("ip", "address", "add", f"172.17.0.{host}/16", "dev", interface)
            where.run("ip", "link", "set", interface, "up")
        inside.run("ip", "route", "add", "default", "via", "172.17.0.1")
        subprocess.run(net.router.command("iptables-restore"), input=BRIDGE, text=True, check=True)
        excluded = f'{CONFIG}[steering]\nprogram = "{program}"\nexclude_interfaces = ["lo", "docker0"]\n'
        router = Router(net, excluded)
        router.install_rules()
        router.start()
        start_servers(net)
        start(inside, *TRAFFIC, "http", "172.17.0.2", "80", "the container")
        assert fetch(inside, f"http://{SERVER}:80/") == f"This is the server. You are {ROUTER}."
        assert "2 received" in inside.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", SERVER)
        said = inside.run(*TRAFFIC, "exchange", SERVER, str(EXCHANGE_PORT), "5000000")
        assert said == "5000000 bytes each way, SHA-256 equal\n"
        assert fetch(net.server, f"http://{ROUTER}:8081/") == f"This is the container. You are {SERVER}."
        assert fetch(net.client, f"http://{SERVER}:80/") == f"This is the server. You are {ROUTER}."

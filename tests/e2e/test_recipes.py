"""docs/recipes.md: each configuration with a running daemon, and what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, ROUTER_INSIDE, SERVER, SERVER6, Namespace, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, Router
from conntrackd_py.lab.steps import TRAFFIC, start_servers
from tests.support.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
TABLES = CONFIG.partition("[[nat]]")[0].partition("\n")[2]  # without mode, which a recipe may not repeat
SECTIONS = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
CONFIGS = {title: found[1] for title, text in SECTIONS if (found := re.search(r"```toml\n(.*?)```", text, re.DOTALL))}
ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(3)
    sock.sendto(b"hello", (sys.argv[1], 53))
    print(sock.recv(100).decode())
"""


def serve(space: Namespace, kind: str, *words: str) -> None:
    service = space.start(*TRAFFIC, kind, *words, stdout=subprocess.PIPE)
    assert service.stdout is not None
    assert service.stdout.readline().strip() == "ready"


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as net:
        net.client.run("ip", "address", "add", "192.168.77.3/24", "dev", "eth0")
        net.server.run("ip", "route", "add", "198.51.100.0/24", "via", ROUTER)
        net.server.run("ip", "route", "add", "192.168.77.0/24", "via", ROUTER)
        net.server.run("ip", "-6", "route", "add", "2001:db8:77::/64", "via", "2001:db8:2::1")
        second_line(net)
        made = Router(net, TABLES)
        made.install_rules()
        made.start()
        start_servers(net)
        serve(net.client, "http", "192.168.77.3", "80", "the other")
        serve(net.router, "http", "127.0.0.1", "8001", "localhost")
        serve(net.router, "udp-echo", ROUTER_INSIDE, "53")
        serve(net.server, "http", SERVER, "21", "no FTP server")
        yield made


def second_line(net: Topology) -> None:
    """wan1, and the two commands of the recipe."""
    net.router.run("ip", "link", "add", "wan1", "type", "veth", "peer", "name", "eth1", "netns", net.server.name)
    for space, link, address in ((net.router, "wan1", "192.0.2.1/24"), (net.server, "eth1", "192.0.2.80/24")):
        space.run("ip", "address", "add", address, "dev", link)
        space.run("ip", "link", "set", link, "up")
    net.router.run("sysctl", "-qw", "net.ipv4.conf.wan1.rp_filter=0", "net.ipv4.conf.all.rp_filter=0")
    net.router.run("ip", "route", "add", "default", "via", "192.0.2.80", "dev", "wan1", "table", "101")
    net.router.run("ip", "rule", "add", "iif", "lan0", "fwmark", "0x1/0xff", "table", "101")


def page(space: Namespace, url: str, *words: str) -> str:
    return space.run("curl", "-sS", "--fail", "--max-time", "5", *words, url).replace("::ffff:", "")


def command(router: Router, *words: str) -> str:
    return router.net.router.run(*DAEMON, words[0], "--socket", str(router.socket), *words[1:])


def nat_log(router: Router) -> None:
    page(router.net.client, f"http://{SERVER}/", "--local-port", "44808")
    log = router.net.folder / "nat.log"
    wait_until(lambda: '"NEW"' in log.read_text(), "no line")
    moment = next(line[9:33] for line in log.read_text().splitlines() if '"NEW"' in line)
    words = ("who-had", ROUTER, "44808", moment, "--proto", "tcp", "-c", str(router.config))
    assert f"{CLIENT}:44808 had {ROUTER}:44808 tcp" in router.net.router.run(*DAEMON, *words)


def masquerade(router: Router) -> None:
    assert f"You are {ROUTER}." in page(router.net.client, f"http://{SERVER}/")
    assert f"src={CLIENT}" in router.conntrack("-L", "--src-nat")


def forward(router: Router) -> None:
    assert "the client" in page(router.net.server, f"http://{ROUTER}:8080/")
    assert f"src={CLIENT}" in router.conntrack("-L", "--dst-nat")


def hairpin(router: Router) -> None:
    assert f"You are {ROUTER_INSIDE}." in page(router.net.client, f"http://{ROUTER}:8080/")


def balance(router: Router) -> None:
    pages = {page(router.net.server, f"http://{ROUTER}:8080/").split(".")[0] for _ in range(20)}
    assert pages == {"This is the client", "This is the other"}
    assert "192.168.77.3:80" in command(router, "targets")
    command(router, "targets", "down", "192.168.77.3")
    assert "the client" in page(router.net.server, f"http://{ROUTER}:8080/")


def netmap(router: Router) -> None:
    assert "You are 198.51.100.2." in page(router.net.client, f"http://{SERVER}/")
    assert "the client" in page(router.net.server, "http://198.51.100.2/")


def nptv6(router: Router) -> None:
    router.net.client.run("ping", "-c", "1", "-W", "5", SERVER6)
    assert "dst=2001:db8:77:0:" in router.conntrack("-L", "-f", "ipv6", "-p", "icmpv6", "--orig-dst", SERVER6)


def exempt(router: Router) -> None:
    assert f"You are {CLIENT}." in page(router.net.client, f"http://{SERVER}/")


def dns(router: Router) -> None:
    assert router.net.client.run(sys.executable, "-P", "-c", ASK, SERVER).strip() == "hello"


def localhost(router: Router) -> None:
    router.net.router.run("sysctl", "-qw", "net.ipv4.conf.wan0.route_localnet=1")
    rule = ["INPUT", "-i", "wan0", "-d", "127.0.0.0/8", "-p", "tcp", "!", "--dport", "8001", "-j", "DROP"]
    router.net.router.run("iptables", "-A", *rule)
    assert "localhost" in page(router.net.server, f"http://{ROUTER}:8002/")
    router.net.router.run("iptables", "-D", *rule)


def lines(router: Router) -> None:
    """From an address that the main table reaches by wan0."""
    assert "the client" in page(router.net.server, "http://192.0.2.1:8080/", "--interface", SERVER)
    assert "mark=1 " in router.conntrack("-L", "--orig-dst", "192.0.2.1")
    counted = router.net.router.run("ip", "-s", "link", "show", "wan1").split("TX:")[1].split()
    assert int(counted[counted.index("collsns") + 2]) > 5


def clamp(router: Router) -> None:
    """What it does to a SYN is the matter of test_mss.py."""
    assert "the server" in page(router.net.client, f"http://{SERVER}/")


def ftp(router: Router) -> None:
    page(router.net.client, f"http://{SERVER}:21/")
    assert "helper=ftp" in router.conntrack("-L")


def ports(router: Router) -> None:
    router.net.router.run("ip", "address", "add", "203.0.113.2/24", "dev", "wan0")
    assert "You are 203.0.113." in page(router.net.client, f"http://{SERVER}/")
    assert "of its ports in use" in command(router, "status")


def carrier(router: Router) -> None:
    assert f"You are {ROUTER}." in page(router.net.client, f"http://{SERVER}/")
    assert re.search(rf"^{CLIENT} -> {ROUTER}:\d+-\d+  nat\[0\]  used tcp 1  ", command(router, "blocks"))
    lines = router.net.router.run(*DAEMON, "check-config", str(router.config))
    assert "126 blocks of 512 ports on each outer address: for 126 hosts with 1 block each, 31 with 4" in lines


PROOFS: dict[str, Callable[[Router], None]] = {
    "Inside hosts reach the Internet": masquerade,
    "Forward a port": forward,
    "Reach the forwarded port from inside too": hairpin,
    "Share a port between two servers": balance,
    "A network outside for the network inside": netmap,
    "Another IPv6 prefix outside": nptv6,
    "Do not translate packets to a VPN": exempt,
    "Send DNS queries to the router": dns,
    "Reach a service of localhost from outside": localhost,
    "Answer by the line that the connection came in by": lines,
    "Avoid connections that hang because of a small MTU": clamp,
    "Active and passive FTP": ftp,
    "Too few ports": ports,
    "Log who had which port": nat_log,
    "Say who had which port outside": carrier,
}


def test_every_recipe_has_a_proof() -> None:
    assert set(PROOFS) == set(CONFIGS)


@pytest.mark.parametrize("title", PROOFS)
def test_the_recipe(router: Router, title: str) -> None:
    config = CONFIGS[title].replace("/var/log/conntrackd-py", str(router.net.folder))
    router.config.write_text(config + TABLES % router.socket)
    command(router, "reload", "-c", str(router.config))
    router.conntrack("-F")
    PROOFS[title](router)


def test_a_firewall_moves(tmp_path: Path) -> None:
    """The commands of the last recipe, with rules in force."""
    with Topology() as net:
        net.router.run(*f"iptables -t nat -A POSTROUTING -s {CLIENT} -o wan0 -j MASQUERADE".split())
        rules = tmp_path / "rules.v4"
        rules.write_text(net.router.run("iptables-save"))
        toml = net.router.run(*DAEMON, "import-rules", str(rules))
        net.router.run("iptables", "-t", "nat", "-F")
        made = Router(net, toml + TABLES)
        made.install_rules()
        made.start()
        start_servers(net)
        masquerade(made)

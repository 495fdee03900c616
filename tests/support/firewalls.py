"""What a router's firewall lets through, found out by real traffic, and rulesets of routers with stateful rules."""

from __future__ import annotations

import subprocess
from typing import Final

from conntrackd_py.lab.namespaces import CLIENT6, ROUTER, ROUTER_INSIDE, SERVER, SERVER6, Namespace, Topology
from conntrackd_py.lab.router import WEB_OUTSIDE
from conntrackd_py.lab.steps import CLOSED_PORT, EXCHANGE_PORT, TRAFFIC
from tests.support.rulesets import UFW

PYTHON: Final = "/usr/bin/python3"
LOCAL_PORT: Final = 8000  # of a web server of the router
MTU_PORT: Final = 5005
MTU: Final = 1300

# What the rulesets below let through.
WANTED: Final = {
    "a web page": True,
    "a stream, IPv6": True,
    "ping": True,
    "ping, IPv6": True,
    "a closed port is reported": True,
    "a closed port is reported, IPv6": True,
    "path MTU discovery": True,
    "a forwarded port": True,
    "the router's web server, from inside": True,
    "the router as a client": True,
    "the router's web server, from outside": False,
    "a host inside, from outside, IPv6": False,
}

REFUSED: Final = """
import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(2)
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.send(b"?")
    try:
        s.recv(1)
    except ConnectionRefusedError:
        print("refused")
"""

# A hop behind the router: it answers a datagram with "fragmentation needed".
HOP: Final = f"""
import socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, \\
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
    s.bind((sys.argv[1], {MTU_PORT}))
    print("ready", flush=True)
    while True:
        data, peer = s.recvfrom(2000)
        udp = struct.pack("!HHHH", peer[1], {MTU_PORT}, 8 + len(data), 0)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 1, 0x4000, 60, 17, 0,
                         socket.inet_aton(peer[0]), socket.inet_aton(sys.argv[1]))
        total = sum(struct.unpack("!10H", ip))
        ip = ip[:10] + struct.pack("!H", 0xFFFF - (total % 0xFFFF)) + ip[12:]
        icmp = struct.pack("!BBHHH", 3, 4, 0, 0, {MTU}) + ip + udp
        total = sum(struct.unpack(f"!{{len(icmp) // 2}}H", icmp))
        icmp = icmp[:2] + struct.pack("!H", 0xFFFF - (total % 0xFFFF)) + icmp[4:]
        raw.sendto(icmp, (peer[0], 0))
"""

PATH_MTU: Final = f"""
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.connect((sys.argv[1], {MTU_PORT}))
    s.setsockopt(socket.IPPROTO_IP, 10, 2)
    deadline = time.monotonic() + 3
    s.send(b"?" * 1000)
    while time.monotonic() < deadline:
        try:
            mtu = s.getsockopt(socket.IPPROTO_IP, 14)
        except OSError:
            continue
        if mtu == {MTU}:
            print("learned")
            break
        time.sleep(0.02)
"""


def serve(net: Topology) -> None:
    """The servers that outcomes() needs, in addition to those of the lab."""
    for where, *words in (
        (net.router, *TRAFFIC, "http", "0.0.0.0", str(LOCAL_PORT), "the router"),
        (net.server, PYTHON, "-c", HOP, SERVER),
    ):
        process = where.start(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"


def outcomes(net: Topology) -> dict[str, bool]:
    """Whether each kind of traffic gets through."""
    return {
        "a web page": _fetch(net.client, f"{SERVER}"),
        "a stream, IPv6": _succeeds(net.client, *TRAFFIC, "exchange", SERVER6, str(EXCHANGE_PORT), "20000"),
        "ping": _succeeds(net.client, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", SERVER),
        "ping, IPv6": _succeeds(net.client, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", SERVER6),
        "a closed port is reported": _says(net.client, "refused", REFUSED, SERVER, str(CLOSED_PORT)),
        "a closed port is reported, IPv6": _says(net.client, "refused", REFUSED, SERVER6, str(CLOSED_PORT)),
        "path MTU discovery": _says(net.client, "learned", PATH_MTU, SERVER),
        "a forwarded port": _fetch(net.server, f"{ROUTER}:{WEB_OUTSIDE}"),
        "the router's web server, from inside": _fetch(net.client, f"{ROUTER_INSIDE}:{LOCAL_PORT}"),
        "the router as a client": _fetch(net.router, SERVER),
        "the router's web server, from outside": _fetch(net.server, f"{ROUTER}:{LOCAL_PORT}"),
        "a host inside, from outside, IPv6": _reaches(net.server, CLIENT6),
    }


def _succeeds(where: Namespace, *words: str) -> bool:
    return where.complete(*words).returncode == 0


def _fetch(where: Namespace, host: str) -> bool:
    return _succeeds(where, "curl", "-sS", "--fail", "--max-time", "3", f"http://{host}/")


def _says(where: Namespace, what: str, script: str, *words: str) -> bool:
    return what in where.complete(PYTHON, "-c", script, *words).stdout


def _reaches(where: Namespace, host: str) -> bool:
    """A host without a server refuses at once; a firewall that drops does not answer."""
    done = where.complete("curl", "-sS", "--connect-timeout", "2", f"http://[{host}]:22/")
    return "refused" in done.stderr


NAT: Final = f"""\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d {ROUTER}/32 -i wan0 -p tcp -m tcp --dport {WEB_OUTSIDE} -j DNAT --to-destination 192.168.77.2:80
-A POSTROUTING -s 192.168.77.0/24 -o wan0 -j SNAT --to-source {ROUTER}
COMMIT
"""

_FILTER: Final = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:known - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -j known
%s-A INPUT -i lan0 -m conntrack ! --ctstate INVALID -j ACCEPT
-A FORWARD -m state --state INVALID -m limit --limit 5/min -j LOG --log-prefix "INVALID "
-A FORWARD -m state --state INVALID -j DROP
-A FORWARD -j known
-A FORWARD -i lan0 -o wan0 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -d 192.168.77.2/32 -i wan0 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT
-A known -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""
IPTABLES: Final = NAT + _FILTER % ""
IP6TABLES: Final = "".join(
    line for line in (_FILTER % "-A INPUT -p ipv6-icmp -j ACCEPT\n").splitlines(True) if "192.168" not in line
)
UFW_ROUTER: Final = NAT + UFW.replace(
    "-A ufw-before-forward",
    "-A ufw-before-input -i lan0 -p tcp -m tcp --dport 8000 -j ACCEPT\n"
    "-A ufw-before-forward -i lan0 -j ACCEPT\n"
    "-A ufw-before-forward -d 192.168.77.2/32 -p tcp -m tcp --dport 80 -j ACCEPT\n"
    "-A ufw-before-forward",
)
UFW_ROUTER6: Final = UFW.replace(
    "-A ufw-before-forward",
    "-A ufw-before-input -p ipv6-icmp -j ACCEPT\n-A ufw-before-forward -i lan0 -j ACCEPT\n-A ufw-before-forward",
)
NFT: Final = f"""\
table inet router {{
    chain known {{
        ct state vmap {{ established : accept, related : accept, invalid : drop }}
    }}
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        jump known
        meta l4proto ipv6-icmp accept
        iifname "lan0" ct state != {{ invalid }} accept
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        jump known
        iifname "lan0" oifname "wan0" ct state new ct direction original accept
        iifname "wan0" ip daddr 192.168.77.2 tcp dport 80 ct state {{ new, untracked }} accept
    }}
    chain dstnat {{
        type nat hook prerouting priority dstnat;
        iifname "wan0" ip daddr {ROUTER} tcp dport {WEB_OUTSIDE} dnat ip to 192.168.77.2:80
    }}
    chain srcnat {{
        type nat hook postrouting priority srcnat;
        oifname "wan0" ip saddr 192.168.77.0/24 snat ip to {ROUTER}
    }}
}}
"""

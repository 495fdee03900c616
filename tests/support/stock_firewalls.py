"""Firewalls of a router, as their administrators write and reload them, on a machine with a real systemd.

Each lets the inside out, lets nobody in but to the forwarded port and to SSH from inside, and needs the kernel's
connection states for it. None translates: conntrackd-py does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conntrackd_py.lab.namespaces import CLIENT
from tests.support import rulesets
from tests.support.machine import Machine

IPTABLES: Final = f"""\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -i lan0 -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -i lan0 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -d {CLIENT}/32 -o lan0 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT
-A OUTPUT -m conntrack --ctstate NEW,RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""

IP6TABLES: Final = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p ipv6-icmp -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i lan0 -m conntrack --ctstate NEW -j ACCEPT
COMMIT
"""

NFT: Final = f"""\
#!/usr/sbin/nft -f
flush ruleset
table inet filter {{
    chain input {{
        type filter hook input priority filter; policy drop;
        ct state vmap {{ established : accept, related : accept, invalid : drop }}
        iifname "lo" accept
        meta l4proto {{ icmp, ipv6-icmp }} accept
        iifname "lan0" tcp dport 22 ct state new accept
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        iifname "lan0" ct state new accept
        oifname "lan0" ip daddr {CLIENT} tcp dport 80 ct state new accept
    }}
    chain output {{
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        ct state new,established,related accept
        meta l4proto ipv6-icmp accept
    }}
}}
"""

_DOCKER: Final = rulesets.DOCKER.replace(
    "-A FORWARD -j DOCKER-USER\n",
    "-A INPUT -i wan0 -p tcp -m tcp --dport 22 -j DROP\n-A FORWARD -j DOCKER-USER\n",
).replace(
    "-A DOCKER-USER -j RETURN\n",
    f"""\
-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-USER -i lan0 -j ACCEPT
-A DOCKER-USER -d {CLIENT}/32 -o lan0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
""",
)

UFW: Final = (
    ("ufw", "allow", "in", "on", "lan0", "to", "any", "port", "22", "proto", "tcp"),
    ("ufw", "route", "allow", "in", "on", "lan0"),
    ("ufw", "route", "allow", "out", "on", "lan0", "to", CLIENT, "port", "80", "proto", "tcp"),
    ("ufw", "--force", "enable"),
    ("systemctl", "enable", "ufw"),
)

_POLICY: Final = ("firewall-cmd", "--permanent", "--policy")
_OPEN: Final = ("firewall-cmd", "--permanent", "--new-policy")
_RICH: Final = f'rule family="ipv4" destination address="{CLIENT}" port port="80" protocol="tcp" accept'
FIREWALLD: Final = (
    ("systemctl", "enable", "--now", "firewalld"),
    ("firewall-cmd", "--permanent", "--zone=internal", "--add-interface=lan0"),
    ("firewall-cmd", "--permanent", "--zone=public", "--add-interface=wan0"),
    ("firewall-cmd", "--permanent", "--zone=public", "--remove-service=ssh"),
    (*_OPEN, "out"),
    (*_POLICY, "out", "--add-ingress-zone=internal"),
    (*_POLICY, "out", "--add-egress-zone=public"),
    (*_POLICY, "out", "--set-target=ACCEPT"),
    (*_OPEN, "in"),
    (*_POLICY, "in", "--add-ingress-zone=public"),
    (*_POLICY, "in", "--add-egress-zone=internal"),
    (*_POLICY, "in", "--add-rich-rule", _RICH),
    ("firewall-cmd", "--reload"),
)


@dataclass(frozen=True)
class Firewall:
    """load: the first time. reload: what its administrator does after a change."""

    name: str
    load: Callable[[Machine], None]
    reload: Callable[[Machine], None]
    config: str = ""  # what `rules check` tells the administrator to add to the daemon's configuration
    findings: frozenset[tuple[str, str]] = frozenset()  # (severity, code) of `rules check` afterwards


def _run_all(commands: tuple[tuple[str, ...], ...]) -> Callable[[Machine], None]:
    def run(machine: Machine) -> None:
        for words in commands:
            machine.run(*words)

    return run


def _iptables(backend: str, text: str, text6: str) -> Callable[[Machine], None]:
    def restore(machine: Machine) -> None:
        for program, rules in (("iptables", text), ("ip6tables", text6)):
            machine.run("update-alternatives", "--set", program, f"/usr/sbin/{program}-{backend}")
            machine.write(f"/etc/{program}.rules", rules)
            machine.run(f"{program}-restore", f"/etc/{program}.rules")

    return restore


def _nft(machine: Machine) -> None:
    machine.write("/etc/nftables.conf", NFT)
    machine.run("systemctl", "enable", "--now", "nftables")


_NFT_RULES = _iptables("nft", IPTABLES, IP6TABLES)
_LEGACY_RULES = _iptables("legacy", IPTABLES, IP6TABLES)
_DOCKER_RULES = _iptables("nft", _DOCKER, IP6TABLES)

DOCKER: Final = Firewall(
    "docker",
    _DOCKER_RULES,
    _DOCKER_RULES,
    config='[steering]\nexclude_interfaces = ["lo", "docker0"]\n',
    findings=frozenset({("info", "kernel-nat")}),
)

FIREWALLS: Final = (
    Firewall("iptables-nft", _NFT_RULES, _NFT_RULES),
    Firewall("iptables-legacy", _LEGACY_RULES, _LEGACY_RULES),
    Firewall("nft", _nft, _run_all((("systemctl", "reload", "nftables"),))),
    Firewall("ufw", _run_all(UFW), _run_all((("ufw", "reload"),))),
    Firewall(
        "firewalld",
        _run_all(FIREWALLD),
        _run_all((("firewall-cmd", "--reload"),)),
        findings=frozenset({("warning", "ct-match")}),
    ),
    DOCKER,
)

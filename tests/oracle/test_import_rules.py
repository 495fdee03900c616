"""Random rulesets in the kernel, and the same ones by `import-rules` in our engine: the same packets leave.

Chains jump to each other, return, accept and go to. A rule that import-rules does not translate is left out of both.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conntrackd_py.kernel.import_rules.import_rules import import_rules
from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE
from tests.oracle.test_nat_rules import Both, both
from tests.support import packets

SEEDS = 8
PACKETS = 25
SOURCES = ("192.168.1.0/25", "192.168.1.64/26", "192.168.1.7", "192.168.1.100-192.168.1.140", "192.168.0.0/16")
SERVERS = ("198.51.100.0/25", "198.51.100.64/26", "198.51.100.0/24", "198.51.100.9")
NFT_WORDS = {
    "-j DNAT --to-destination": "dnat ip to",
    "-j SNAT --to-source": "snat ip to",
    "-j ACCEPT": "accept",
    "-j RETURN": "return",
    "-g": "goto",
    "-j": "jump",
}
PORTS = ("53", "80", "1000:2000", "1500:3000")


@dataclass
class One:
    """A rule in no program's words."""

    chain: str
    target: str
    when: dict[str, tuple[str, bool]] = field(default_factory=dict)
    proto: str = ""

    def iptables(self) -> str:
        words = [f"-A {self.chain}"]
        for key, (value, invert) in self.when.items():
            option = {"in": "-i", "out": "-o", "source": "-s", "destination": "-d", "dport": "--dport"}[key]
            if "-" in value:
                option = f"--{'src' if key == 'source' else 'dst'}-range"
                words.append("-m iprange")
            if key == "dport":
                words.append(f"-p {self.proto} -m {self.proto}")
            words.append(f"{'! ' if invert else ''}{option} {value}")
        return " ".join([*words, self.target])

    def nft(self) -> str:
        names = {"in": "iifname", "out": "oifname", "source": "ip saddr", "destination": "ip daddr"}
        words = []
        for key, (value, invert) in self.when.items():
            text = value.replace(":", "-") if key == "dport" else value.replace("+", "*")
            words.append(f"{names.get(key, f'{self.proto} dport')} {'!= ' if invert else ''}{text}")
        target = self.target
        for theirs, ours in NFT_WORDS.items():
            target = target.replace(theirs, ours)
        return " ".join([*words, target])


CHAINS = {"PREROUTING": ("P1", "P2", "P3"), "POSTROUTING": ("Q1", "Q2", "Q3")}


def rule(dice: random.Random, base: str, chain: str) -> One:
    """Chains jump only to later ones."""
    users = CHAINS[base]
    later = users[users.index(chain) + 1 :] if chain in users else users
    found = One(chain, "")
    interface = dice.choice(((CLIENT_SIDE, False), (SERVER_SIDE, True), ("tun+", False), (SERVER_SIDE, False)))
    if base == "POSTROUTING":
        interface = interface[0], not interface[1] if interface[0] != "tun+" else False
    choices = {
        "in" if base == "PREROUTING" else "out": interface,
        "source": (dice.choice(SOURCES), dice.random() < 0.3),
        "destination": (dice.choice(SERVERS), dice.random() < 0.3),
        "dport": (dice.choice(PORTS), dice.random() < 0.3),
    }
    found.when = {key: choices[key] for key in choices if dice.random() < 0.4}
    found.proto = dice.choice(("tcp", "udp"))
    port = dice.choice(("", ":5000")) if "dport" in found.when else ""
    translation = f"-j DNAT --to-destination 198.51.100.{dice.randrange(200, 250)}{port}"
    if base == "POSTROUTING":
        translation = f"-j SNAT --to-source 203.0.113.{dice.randrange(1, 250)}"
    targets = [translation, translation, "-j ACCEPT", "-j RETURN"]
    if later:
        targets += [f"-j {dice.choice(later)}"] * 4 + [f"-g {dice.choice(later)}"]
    found.target = dice.choice(targets)
    return found


def random_rules(dice: random.Random) -> list[One]:
    return [rule(dice, base, chain) for base, users in CHAINS.items() for chain in (base, *users) for _ in range(4)]


def iptables_text(rules: list[One]) -> str:
    declared = [f":{base} ACCEPT [0:0]" for base in CHAINS] + [
        f":{one} - [0:0]" for users in CHAINS.values() for one in users
    ]
    return "\n".join(["*nat", *declared, *(one.iptables() for one in rules), "COMMIT", ""])


def nft_text(rules: list[One]) -> str:
    lines = ["table ip imported {"]
    bases = {
        "PREROUTING": "type nat hook prerouting priority dstnat; policy accept;",
        "POSTROUTING": "type nat hook postrouting priority srcnat; policy accept;",
    }
    for base, users in CHAINS.items():
        for chain in (*reversed(users), base):
            head = [bases[chain]] if chain in bases else []
            lines += [f"chain {chain} {{", *head, *(one.nft() for one in rules if one.chain == chain), "}"]
    return "\n".join([*lines, "}", ""])


def translated(rules: list[One], form: str) -> tuple[str, str]:
    """The text of the rules that can be translated, and their translation."""
    text = iptables_text(rules) if form == "iptables" else nft_text(rules)
    done = import_rules(text, form, "FILE")
    while done.problems:
        lines = text.split("\n")
        for line in sorted({number for number, _, _ in done.problems}, reverse=True):
            del lines[line - 1]
        text = "\n".join(lines)
        done = import_rules(text, form, "FILE")
    return text, done.text


def send(pair: Both, dice: random.Random, number: int) -> None:
    """One packet of a new connection, from its own port."""
    own, other = f"192.168.1.{dice.randrange(2, 200)}", f"198.51.100.{dice.randrange(2, 200)}"
    dport = dice.choice((53, 80, 1000, 1700, 2500, 9))
    kinds = (
        packets.udp(own, other, 20000 + number, dport, b"x"),
        packets.tcp(own, other, 20000 + number, dport, "S", seq=1),
        packets.icmp(own, other, 8, 0, number, 1, b"x"),
    )
    assert pair.same(dice.choice(kinds), CLIENT_SIDE)


@pytest.mark.parametrize("form", ["iptables", "nft"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_translation_does_what_the_kernel_does(seed: int, form: str, tmp_path: Path) -> None:
    dice = random.Random(f"{seed} {form}")
    text, toml = translated(random_rules(dice), form)
    file = tmp_path / "rules"
    file.write_text(text)
    command = f"iptables-restore {file}" if form == "iptables" else f"nft -f {file}"
    with both(4, [command], toml) as pair:
        for number in range(PACKETS):
            send(pair, dice, number)

"""Random lines, mostly right, to conntrack(8) and conntrack-py: same exit status, same output, same table afterwards.

CONNTRACKD_PY_LINES and CONNTRACKD_PY_LINES_SEED make it longer and another one. Left out is what differs on purpose
(tools/generators/differences.py) and what the real program cannot do: a line on which it dies, or which it cannot carry
out because something is translated, ends the round.
"""

from __future__ import annotations

import os
import random

from tests.support.sidebyside import Pair, pair

LINES = int(os.environ.get("CONNTRACKD_PY_LINES", "120"))
SEED = int(os.environ.get("CONNTRACKD_PY_LINES_SEED", "1"))

Values = dict[str, tuple[str, ...]]

COMMANDS = "LLLLDDUUGIIIIIIAAF"
PORTS: Values = dict.fromkeys(("--sport", "--dport", "--reply-port-src", "--reply-port-dst"), ("1", "2", "53", "80"))
KEYS: Values = dict.fromkeys(("--srckey", "--dstkey", "--reply-key-src", "--reply-key-dst"), ("1", "2"))
TAGS: Values = {"--orig-vtag": ("1", "2"), "--reply-vtag": ("1", "2")}
OPTIONS_OF: dict[str, Values] = {
    "tcp": {**PORTS, "--state": ("ESTABLISHED", "SYN_SENT", "CLOSE", "LISTEN")},
    "udp": PORTS,
    "17": PORTS,
    "sctp": {**PORTS, "--state": ("ESTABLISHED", "CLOSED"), **TAGS},
    "icmp": {"--icmp-type": ("8", "13", "0", "3"), "--icmp-code": ("0", "1"), "--icmp-id": ("3", "4")},
    "icmpv6": {"--icmpv6-type": ("128", "129", "1"), "--icmpv6-code": ("0",), "--icmpv6-id": ("3", "4")},
    "gre": KEYS,
    "esp": {},
}
COMMON: Values = {
    "-s": ("10.1.1.1", "10.1.1.2", "10.1.0.0/16", "fd00::1"),
    "-d": ("10.2.2.1", "10.2.2.2", "10.2.2.0/24", "fd00::2"),
    "-r": ("10.2.2.1", "10.2.2.2"),
    "-q": ("10.1.1.1", "10.1.1.2"),
    "-f": ("ipv4", "ipv4", "ipv6"),
    "-t": ("100", "200"),
    "-u": ("ASSURED", "SEEN_REPLY", "SEEN_REPLY,ASSURED", "FIXED_TIMEOUT"),
    "-m": ("0", "1", "2", "1/1"),
    "-w": ("0", "1", "2"),
    "--orig-zone": ("0", "1"),
    "--reply-zone": ("0", "1"),
    "-n": ("", "192.0.2.1", "192.0.2.1:99"),
    "-g": ("", "192.0.2.2", "192.0.2.2:98"),
    "-j": ("",),
    "-l": ("foo", "bar", "foo,baz"),
    "--label-add": ("foo", "bar"),
    "-o": ("id", "extended", "save", "labels", "ktimestamp"),
    "-z": ("",),
    "-e": ("NEW", "ALL"),
    "--mask-src": ("255.255.0.0",),
}
ENDS = ("-s", "-d", "-r", "-q", "-n", "-g")
RARE = 0.04


class Writer:
    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def line(self) -> str:
        command = self.dice.choice(COMMANDS)
        if command == "F":
            return "-F"
        proto = self.dice.choice(list(OPTIONS_OF)) if self.dice.random() < 0.85 else ""
        words = [f"-{command}", *(["-p", proto] if proto else [])]
        words += self.creation(command, proto) if command in "IAG" else self.selection(proto)
        if command == "U" and "-f" not in words and "-s" not in words:
            words += ["-f", "ipv4"]
        return " ".join(word for word in words if word)

    def creation(self, command: str, proto: str) -> list[str]:
        """Nearly always all that is needed, and now and then something else."""
        words = ["-s", f"10.1.1.{self.dice.choice('12')}"] if self.dice.random() < 0.95 else []
        words += ["-d", f"10.2.2.{self.dice.choice('12')}"] if self.dice.random() < 0.95 else []
        words += ["-t", "300"] if command != "G" and self.dice.random() < 0.95 else []
        for option, values in OPTIONS_OF.get(proto, {}).items():
            answers = "reply-port" in option or "reply-key" in option
            asked = command != "G" or option not in ("--state", *TAGS)
            if self.dice.random() < (0.9 if asked and not answers else RARE):
                words += [option, self.dice.choice(values)]
        if self.dice.random() < 0.3 and command != "G" and proto in ("tcp", "udp", "icmp", "gre"):
            option = self.dice.choice(("-n", "-g"))
            return [*words, option, self.dice.choice(COMMON[option])]
        return words + self.some([option for option in COMMON if option not in ENDS], RARE)

    def selection(self, proto: str) -> list[str]:
        of_proto = OPTIONS_OF.get(proto if proto != "gre" else "", {})  # by whose keys it does not filter
        words = [word for option in of_proto if self.dice.random() < 0.25 for word in self.given(option, of_proto)]
        return words + self.some(list(COMMON), 0.12)

    def some(self, options: list[str], share: float) -> list[str]:
        return [word for option in options if self.dice.random() < share for word in self.given(option, COMMON)]

    def given(self, option: str, values: Values) -> list[str]:
        return [option, self.dice.choice(values[option])]


def answered_alike(two: Pair, line: str) -> str:
    """Empty, or what differs. Of several it updates, the real program shows some."""
    real, ours = two.both(line)
    if real.status < 0 or "not supported" in real.err:
        two.forget()
        return ""
    same = real.status == ours.status and (real.lines == ours.lines or line.startswith("-U"))
    if same and line[1] in "DUIAF":
        real, ours = two.both("-L -o extended,labels")
        same = real.lines == ours.lines
    return "" if same else f"{line}\n  real {real}\n  ours {ours}"


def test_random_lines() -> None:
    writer = Writer(random.Random(SEED))
    told: list[str] = []
    with pair() as two:
        for _ in range(LINES):
            told.append(writer.line())
            different = answered_alike(two, told[-1])
            assert not different, f"seed {SEED}, line {len(told)}, after {told[-8:-1]}:\n{different}"

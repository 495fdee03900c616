"""One packet sequence, two trackers: the kernel's and ours, compared after every packet.

Ours runs in mode "track" with the same sysctls, at the same times. What differs is made as short as it can be
and reported with both opinions beside each packet: tests/oracle/shrink.py.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass, field, fields

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import CTINFO_NAMES, IPS_DYING, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.ctnetlink import Entry
from conntrackd_py.kernel.netlink import NLM_F_ACK, NLM_F_REQUEST, is_reply_to
from conntrackd_py.reasons import REASON_NAMES
from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE, Kernel
from tests.support.play import bits
from tests.support.steering import passes

CONVERSATIONS = int(os.environ.get("CONNTRACKD_PY_ORACLE", "300"))
SEED = int(os.environ.get("CONNTRACKD_PY_ORACLE_SEED", "1"))

LINKS = {CLIENT_SIDE: 2, SERVER_SIDE: 3}
CT_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE; without a tuple: all of them


@dataclass(frozen=True)
class Step:
    """One packet of a conversation. pause: seconds between the packet before and this one, when that matters."""

    text: str
    side: str
    packet: bytes
    pause: float = 0.0


@dataclass
class Line:
    """seen: whether the packet came as far as the kernel's tracking."""

    text: str
    kernel: str
    ours: str
    same: bool
    seen: bool = True


@dataclass
class Twin:
    """tunables: ours, when they are to be others than the kernel's sysctls."""

    kernel: Kernel
    tunables: Tunables | None = None
    mode: str = "track"
    packets: int = 0
    lines: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.engine = Engine(self.tunables or tunables_of(self.kernel.sysctls), Repeatable(1), mode=self.mode)
        for side, link in LINKS.items():
            self.engine.set_interface(link, side, [], 0)
        self.names = self.engine.core.protos

    def forget(self) -> None:
        """Start again without a connection on either side."""
        request = struct.pack(">BBH", 0, 0, 0)
        header = struct.pack("=IHHII", 16 + len(request), CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
        self.kernel.ctnetlink.socket.send(header + request)
        assert is_reply_to(self.kernel.ctnetlink.socket.recv(8192), 1)
        self._begin()
        self.start()

    def start(self) -> None:
        """Forget the transcript: a new conversation begins."""
        self.lines = []

    def step(self, step: Step) -> bool:
        """Give both the packet; whether they agree."""
        now = time.monotonic_ns() // 1_000_000
        text = f"after {step.pause} s: {step.text}" if step.pause else step.text
        first = Skb(step.packet, 0, LINKS[step.side], 0)
        verdict = self.engine.handle(first, PRE_ROUTING, now)
        ctinfo, reason, ct = first.ctinfo, first.reason, first.ct
        out = SERVER_SIDE if step.side == CLIENT_SIDE else CLIENT_SIDE
        if verdict == NF_ACCEPT and not passes(self.engine, first.mark, POST_ROUTING, LINKS[out]):
            second = Skb(first.data, first.mark, LINKS[step.side], LINKS[out])
            self.engine.handle(second, POST_ROUTING, now)
        theirs = self.kernel.see(step.packet, step.side)
        if theirs is None:
            self.lines.append(Line(text, "dropped before tracking", CTINFO_NAMES[ctinfo], True, False))
            return True
        self.packets += 1
        mine = None
        entry = None
        if ct is not None:
            entry = self.kernel.entry(ct.original)
            if not ct.status & IPS_DYING:
                counters = ct.packets_original, ct.bytes_original, ct.packets_reply, ct.bytes_reply
                mine = Entry(ct.state, ct.status, ct.remaining(now) // 1000, ct.original, ct.reply, counters)
        same = theirs == ctinfo and alike(entry, mine)
        self.lines.append(Line(text, self.show(theirs, entry, ""), self.show(ctinfo, mine, REASON_NAMES[reason]), same))
        return same

    def show(self, ctinfo: int, entry: Entry | None, reason: str) -> str:
        text = f"{CTINFO_NAMES[ctinfo]:<17}"
        if entry is not None:
            state = self.names[entry.original[-1]].state_names[entry.state] if entry.original else ""
            text += f" {state} {entry.timeout} {bits(entry.status)} {entry.counters}"
        return text + (f" ({reason})" if reason and reason != "ok" else "")

    def transcript(self) -> str:
        rows = []
        for line in self.lines:
            rows.append(f"{'  ' if line.same else '!!'} {line.text}")
            rows.append(f"       kernel {line.kernel}")
            rows.append(f"       ours   {line.ours}")
        return "\n".join(rows)


def tunables_of(sysctls: dict[str, int]) -> Tunables:
    """A sysctl is a number; some tunables are true or false."""
    switches = {field.name for field in fields(Tunables) if isinstance(field.default, bool)}
    values = {name: bool(value) if name in switches else value for name, value in sysctls.items()}
    return Tunables(**values)  # type: ignore[arg-type]


def alike(kernel: Entry | None, ours: Entry | None) -> bool:
    """Timeouts to the second: both clocks truncate, not at the same instant."""
    if kernel is None or ours is None:
        return kernel is ours
    return (
        kernel.state == ours.state
        and kernel.status == ours.status
        and kernel.original == ours.original
        and kernel.reply == ours.reply
        and kernel.counters == ours.counters
        and abs(kernel.timeout - ours.timeout) <= 1
    )

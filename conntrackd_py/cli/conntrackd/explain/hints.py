"""Hints and counts of a whole capture: one-sided flows, connections expired in use, checksum offload."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from conntrackd_py.cli.conntrackd.explain.replay import Step
from conntrackd_py.const import CTINFO_NAMES
from conntrackd_py.explain import packet_line as packetline
from conntrackd_py.explain.hints import expired_in_use
from conntrackd_py.reasons import EXPIRED_IN_USE, L4_CHECKSUM, REASON_NAMES

FLOWS_LIMIT: Final = 65536  # flows counted; later ones are ignored
LEAST_PACKETS: Final = 3  # of one side without an answer, before there is a hint
MOST_SHOWN: Final = 20  # hints of one kind


@dataclass
class Flow:
    """Packets between two ends. first: fields of the first packet; forth: packets from its sender; back: to it."""

    first: packetline.Fields
    forth: int = 0
    back: int = 0
    beyond_syn: bool = False  # the sender of the first packet also sent other than SYN


@dataclass
class Hints:
    packets: int = 0
    seen_again: int = 0
    fragments: int = 0  # that are no packet of their own
    not_judged: int = 0
    cut: int = 0
    ctinfo: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    flows: dict[tuple[object, ...], Flow] = field(default_factory=dict)
    died: list[str] = field(default_factory=list)
    wrong: Counter[object] = field(default_factory=Counter)  # checksums, by source
    unfinished: int = 0
    sources: Counter[object] = field(default_factory=Counter)

    def add(self, step: Step) -> None:
        self.packets += 1
        self.cut += bool(step.packet.cut)
        if not step.judged:
            self.seen_again += step.again is not None
            self.fragments += step.packet.waiting
            self.not_judged += step.again is None and not step.packet.waiting
            return
        self.unfinished += step.unfinished
        self.ctinfo[CTINFO_NAMES[step.ctinfo]] += 1
        found = packetline.fields(step.arrived, len(step.arrived))
        if len(self.sources) < FLOWS_LIMIT:
            self.sources[found.get("src")] += 1
        for note in step.notes:
            self.reasons[REASON_NAMES[note.reason] if note.reason else EXPIRED_IN_USE] += 1
            if note.reason == L4_CHECKSUM and found.get("src") in self.sources:
                self.wrong[found.get("src")] += 1
            if note.expired is not None:
                self.died.append(
                    f"#{step.packet.number} {packetline.text(found)}: {expired_in_use(note.expired, note.at)}"
                )
        if "sport" in found:
            self._count(found, packetline.fields(step.left, len(step.left)) if step.left else found)

    def _count(self, found: packetline.Fields, left: packetline.Fields) -> None:
        """found, left: the packet as it arrived and as it left; a reply matches its flow in one of them."""
        proto, near, far = found["proto"], (found["src"], found["sport"]), (found["dst"], found["dport"])
        answered = (proto, (left["dst"], left["dport"]), (left["src"], left["sport"]))
        flow = self.flows.get((proto, far, near)) or self.flows.get(answered)
        if flow is not None:
            flow.back += 1
            return
        flow = self.flows.get((proto, near, far))
        if flow is None:
            if len(self.flows) >= FLOWS_LIMIT:
                return
            flow = self.flows[(proto, near, far)] = Flow(found)
        flow.forth += 1
        flow.beyond_syn = flow.beyond_syn or found.get("flags") != "S"

    def lines(self) -> list[str]:
        """The hints as sentences."""
        one_sided = [hint for flow in self.flows.values() if (hint := one_sided_hint(flow))]
        offloaded = [
            f"{count} of {self.sources[source]} checksums of {source} are wrong: probably captured on that machine "
            "with checksum offload; use --no-checksum"
            for source, count in self.wrong.items()
            if count >= LEAST_PACKETS and count * 2 > self.sources[source]
        ]
        if self.unfinished:
            offloaded.append(
                f"{self.unfinished} packets have an unfinished checksum: their sender left it to a network card; it is "
                "not verified"
            )
        return [*_some(one_sided), *_some(self.died), *_some(offloaded)]

    def summary(self) -> dict[str, object]:
        return {
            "packets": self.packets,
            "seen_again": self.seen_again,
            "fragments": self.fragments,
            "not_judged": self.not_judged,
            "cut_by_the_capture": self.cut,
            "ctinfo": dict(self.ctinfo),
            "reasons": dict(self.reasons),
            "hints": self.lines(),
        }


def one_sided_hint(flow: Flow) -> str:
    """The likely cause if one end sent no packet; empty if both did or there are too few packets."""
    if flow.back:
        return ""
    first = flow.first
    ends = f"{first['proto']} {first['src']}:{first['sport']} → {first['dst']}:{first['dport']}"
    many = f"{flow.forth} packet{'s' if flow.forth > 1 else ''}"
    if first["proto"] == "tcp":
        if not flow.beyond_syn:
            return f"{ends}: {many}, all SYN, no answer: the host is down, or the answers take another route"
        who = "server→client" if first.get("flags") == "S." else "client→server"
        return f"{ends}: {many}, all {who}: one-sided, asymmetric routing?"
    if flow.forth < LEAST_PACKETS:
        return ""
    return f"{ends}: {many}, all client→server: no answer, or asymmetric routing?"


def _some(hints: list[str]) -> list[str]:
    if len(hints) <= MOST_SHOWN:
        return hints
    return [*hints[:MOST_SHOWN], f"... and {len(hints) - MOST_SHOWN} more of these"]

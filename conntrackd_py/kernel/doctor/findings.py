"""A finding of the doctor, and what the findings depend on: the configuration and its plan."""

from dataclasses import dataclass
from typing import Final, final

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
)
from conntrackd_py.engine.mark_codec import MARK_CTINFO, MARK_VALID
from conntrackd_py.kernel.doctor.ruleset import ALL_BITS, Chain, Rule
from conntrackd_py.kernel.steering.plan import plan
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.settings.schema import NAT, OBSERVE, Settings

ERROR: Final = "error"
WARNING: Final = "warning"
INFO: Final = "info"
SEVERITIES: Final = (ERROR, WARNING, INFO)
FAMILIES: Final = {"ip": ("ipv4",), "ip6": ("ipv6",), "inet": ("ipv4", "ipv6")}
CTINFOS: Final = {
    "new": (IP_CT_NEW,),
    "established": (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY),
    "related": (IP_CT_RELATED, IP_CT_RELATED_REPLY),
    "invalid": (IP_CT_INVALID,),
    "untracked": (IP_CT_UNTRACKED,),
}


@dataclass(frozen=True)
class Finding:
    """what: what happens to packets. rule: its text, or the setting; the fields before it are empty for a setting."""

    severity: str
    code: str
    what: str
    remedy: str
    program: str = ""
    family: str = ""
    table: str = ""
    chain: str = ""
    rule: str = ""

    @property
    def where(self) -> str:
        place = " ".join(word for word in (self.program, self.family, self.table, self.chain) if word)
        return ": ".join(part for part in (place, self.rule) if part)


def at(chain: Chain, rule: Rule | None, severity: str, code: str, what: str, remedy: str) -> Finding:
    """A finding about a rule of the chain, or about the chain."""
    text = rule.text if rule else ""
    family = chain.family if chain.backend == "nft" else FAMILIES[chain.family][0]
    return Finding(severity, code, what, remedy, chain.backend, family, chain.table, chain.name, text)


@final
class Context:
    """The configuration as the doctor needs it. notrack: the steering rules switch the kernel's tracking off."""

    def __init__(self, settings: Settings, *, keep: bool = False) -> None:
        self.settings = settings
        self.plan = plan(settings, keep=keep)
        self.observing = settings.mode == OBSERVE
        self.translating = settings.mode == NAT
        self.notrack = any(visit.notrack for visit in self.plan.visits)
        self.mask = 0 if self.observing else settings.steering.mark_mask
        self.own_bits = ALL_BITS & ~self.mask
        self.shift = (self.mask & -self.mask).bit_length() - 1 if self.mask else 0
        self.state_bits = (MARK_VALID | MARK_CTINFO) << self.shift if self.mask else 0
        self.excluded = InterfaceNames(list(settings.steering.exclude_interfaces))

    def steered(self, family: str) -> bool:
        return any(name in self.plan.families for name in FAMILIES[family])

    def excludes(self, rule: Rule) -> bool:
        """Whether the rule matches only packets that are not queued."""
        return self.excluded.has(rule.in_interface) or self.excluded.has(rule.out_interface)

    def marks(self, states: set[str], backend: str) -> str:
        """The match of these states in the packet mark, as the program writes it."""
        ctinfos = [ctinfo for state in CTINFOS if state in states for ctinfo in CTINFOS[state]]
        values = [f"{(MARK_VALID | ctinfo) << self.shift:#x}" for ctinfo in ctinfos]
        if backend == "nft":
            return f"`meta mark and {self.state_bits:#x} {{ {', '.join(values)} }}`"
        return ", ".join(f"`-m mark --mark {value}/{self.state_bits:#x}`" for value in values)

    def own_mark(self, backend: str) -> str:
        """How the program sets only the bits outside the mask."""
        if backend == "nft":
            return f"`meta mark set meta mark and {self.mask:#x} or VALUE`"
        return f"`--set-xmark VALUE/{self.own_bits:#x}`"

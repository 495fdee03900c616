"""Reads what the doctor judges: the rulesets of every program, sysctls, routing rules, the queue in the kernel."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from conntrackd_py.kernel.doctor import iptables_save, nft_json
from conntrackd_py.kernel.doctor.ruleset import Chain, Ruleset
from conntrackd_py.kernel.queues.proc_queues import QUEUES
from conntrackd_py.kernel.steering.nft_rules import TABLE
from conntrackd_py.kernel.steering.programs import IPTABLES, NFT_FAMILY, SteeringError, program, run
from conntrackd_py.settings.schema import FAMILIES

PROC: Final = Path("/proc")
READINGS: Final = 3
LEGACY_TABLES: Final = {"ipv4": "net/ip_tables_names", "ipv6": "net/ip6_tables_names"}
SYSCTLS: Final = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
)
RP_FILTER: Final = "net/ipv4/conf/*/rp_filter"
MODULES: Final = Path("/lib/modules")
BRIDGES: Final = "/sys/class/net/*/bridge"
QUEUE_MODULE: Final = "nfnetlink_queue"


@dataclass(frozen=True)
class Machine:
    """sysctls: values by name with dots; a missing one is absent. ip_rules: by family, as `ip -j rule` prints them."""

    sysctls: Mapping[str, str] = field(default_factory=dict)
    ip_rules: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    bridges: bool = False
    queue_missing: bool = False
    notes: tuple[str, ...] = ()  # what could not be read


def rulesets() -> tuple[Ruleset, tuple[str, ...]]:
    """The rules in force, and what could not be read. SteeringError: a program failed.

    Several programs read them. If one of them changes meanwhile, they do not fit together: it is read again.
    """
    for _ in range(READINGS):
        found, notes = _rulesets()
        if not found.unread:
            break
    return found, notes


def _rulesets() -> tuple[Ruleset, tuple[str, ...]]:
    chains: list[Chain] = []
    unread = 0
    notes = []
    for family in FAMILIES:
        name = NFT_FAMILY[family]
        for backend, saver in savers(family):
            found, failed = iptables_save.read(run([saver]), backend, name)
            chains += found
            unread += failed
    if program("nft"):
        shown = {(chain.family, chain.table) for chain in chains if chain.backend == "iptables"}
        for family, table in _nft_tables():
            if (family, table) not in shown and not table.startswith(TABLE):
                found, failed = _nft_table(family, table)
                chains += found
                unread += failed
    else:
        notes.append("nft is not installed: only the rules of iptables were read")
    return Ruleset(chains, unread), tuple(notes)


def _nft_tables() -> list[tuple[str, str]]:
    """(family, name) of all tables."""
    lines = [line.split() for line in run(["nft", "list", "tables"]).splitlines()]
    return [(words[1], words[2]) for words in lines if words[:1] == ["table"]]


def _nft_table(family: str, table: str) -> tuple[list[Chain], int]:
    """(chains, rules not understood). By table: nft 1.0.6 writes broken JSON for the daemon's own, with an owner."""
    try:
        listing = run(["nft", "-a", "list", "table", family, table])
        return nft_json.read(run(["nft", "-j", "list", "table", family, table]), listing, set())
    except SteeringError:  # it has been deleted meanwhile
        return [], 1


def savers(family: str) -> list[tuple[str, str]]:
    """(backend, program): iptables of nft, and legacy iptables if the kernel has such tables."""
    name = IPTABLES[family]
    savers = [("iptables", f"{name}-nft-save" if program(f"{name}-nft-save") else f"{name}-save")]
    legacy = f"{name}-legacy-save"
    if _text(PROC / LEGACY_TABLES[family]) and program(legacy):
        savers.append(("iptables-legacy", legacy))
    return [saver for saver in savers if program(saver[1])]


def machine() -> Machine:
    paths = [PROC / "sys" / name for name in SYSCTLS] + sorted((PROC / "sys").glob(RP_FILTER))
    values = {".".join(path.relative_to(PROC / "sys").parts): _text(path) for path in paths}
    return Machine(
        sysctls={name: value for name, value in values.items() if value},
        ip_rules={family: _ip_rules(option) for family, option in (("ipv4", "-4"), ("ipv6", "-6"))},
        bridges=any(True for _ in Path("/").glob(BRIDGES.lstrip("/"))),
        queue_missing=not QUEUES.exists() and not _loadable(QUEUE_MODULE),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _ip_rules(option: str) -> list[dict[str, Any]]:
    """None without ip(8)."""
    try:
        rules = json.loads(run(["ip", option, "-j", "rule", "show"]) or "[]")
    except (SteeringError, ValueError):
        return []
    return [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []


def _loadable(module: str) -> bool:
    """Whether modprobe would find the module; True if that cannot be known."""
    folder = MODULES / os.uname().release
    listed = _text(folder / "modules.dep") + _text(folder / "modules.builtin")
    return not listed or f"/{module}.ko" in listed

"""What else the packets depend on: the steering rules, sysctls, routing rules by mark, the queue in the kernel."""

from collections.abc import Mapping
from typing import Any, Final

from conntrackd_py.const import MANIP_SRC
from conntrackd_py.kernel.doctor.findings import ERROR, INFO, WARNING, Context, Finding
from conntrackd_py.kernel.doctor.machine import QUEUE_MODULE, Machine
from conntrackd_py.kernel.doctor.ruleset import ALL_BITS, Ruleset
from conntrackd_py.kernel.steering.backend import Status

FORWARDING: Final = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
BRIDGE: Final = {"ipv4": "net.bridge.bridge-nf-call-iptables", "ipv6": "net.bridge.bridge-nf-call-ip6tables"}
BYPASS: Final = {"not installed": " Packets bypass the daemon."}
TABLES_OF_THE_KERNEL: Final = {"local", "main", "default"}


def steering_findings(states: Mapping[str, Status]) -> list[Finding]:
    """states: steering.status()."""
    remedy = "Run `conntrackd-py rules install`."
    return [
        Finding(ERROR, "steering", f"The steering rules are {text}.{BYPASS.get(text, '')}", remedy, family=family)
        for family, (as_wanted, text, _) in states.items()
        if not as_wanted
    ]


def surroundings(context: Context, machine: Machine, ruleset: Ruleset) -> list[Finding]:
    found = [*_forwarding(context, machine), *_bridge(context, machine), *_routing(context, machine)]
    if machine.queue_missing and not context.plan.group:
        what = "The kernel has no packet queue, and the installed modules do not have it: no packet reaches the daemon."
        found.append(Finding(ERROR, "module", what, "Install the modules of the running kernel.", rule=QUEUE_MODULE))
    if {"iptables-legacy", "iptables"} <= {chain.backend for chain in ruleset.chains.values() if chain.rules}:
        what = "Rules of iptables-legacy and of iptables-nft are both in force: a packet passes both."
        found.append(Finding(INFO, "two-backends", what, "Keep all rules in one of both."))
    if ruleset.unread:
        what = f"{ruleset.unread} rule{'s' if ruleset.unread > 1 else ''} not understood and not judged."
        found.append(Finding(INFO, "unread", what, "Compare them with docs/firewall.md yourself."))
    return found + [Finding(INFO, "unread", f"{note}.", "Install the program.") for note in machine.notes]


def _forwarding(context: Context, machine: Machine) -> list[Finding]:
    """A rule without a family counts for IPv4 only: many routers have IPv4 alone."""
    if context.observing:
        return []
    versions = {rule.match.family or 4 for rule in context.settings.nat if rule.translates(MANIP_SRC)}
    what = "The kernel forwards no packets, but a source rule translates forwarded packets."
    return [
        Finding(WARNING, "forwarding", what, f"Set `{name} = 1` with sysctl.", rule=f"{name} = 0")
        for version, name in FORWARDING.items()
        if version in versions and machine.sysctls.get(name) == "0"
    ]


def _bridge(context: Context, machine: Machine) -> list[Finding]:
    what = "Packets between two ports of a bridge go through iptables: the daemon gets and tracks them too."
    return [
        Finding(WARNING, "bridge", what, f"Set `{name} = 0`, unless a firewall needs it.", rule=f"{name} = 1")
        for family, name in BRIDGE.items()
        if machine.bridges and family in context.plan.families and machine.sysctls.get(name) == "1"
    ]


def _routing(context: Context, machine: Machine) -> list[Finding]:
    found = []
    policy = [
        (family, rule)
        for family, rules in machine.ip_rules.items()
        for rule in rules
        if str(rule.get("table")) not in TABLES_OF_THE_KERNEL
    ]
    strict = [name for name, value in machine.sysctls.items() if name.endswith(".rp_filter") and value == "1"]
    if strict and any(family == "ipv4" for family, _ in policy):
        what = "Policy routing is in use and the strict reverse path filter is on: the kernel may drop replies that "
        what += "come in by another interface, after the daemon's first visit."
        remedy = "Set `rp_filter = 2` (loose) on these interfaces if packets disappear."
        found.append(Finding(INFO, "rp-filter", what, remedy, rule=", ".join(f"{name} = 1" for name in strict)))
    return found + [_by_mark(context, family, rule) for family, rule in policy if "fwmark" in rule]


def _by_mark(context: Context, family: str, rule: dict[str, Any]) -> Finding:
    mask = str(rule.get("fwmask", ""))
    bits = (int(mask, 0) if mask else ALL_BITS) & context.mask
    text = (
        f"ip rule {rule.get('priority')}: fwmark {rule['fwmark']}{f'/{mask}' if mask else ''} table {rule.get('table')}"
    )
    if not bits or "not" in rule:
        what = "This routing rule reads the packet mark."
        return Finding(
            INFO, "fwmark", what, "Write the mark only outside steering.mark_mask.", family=family, rule=text
        )
    what = f"This routing rule compares the bits {bits:#x} of the packet mark, which the daemon sets (mark_mask)."
    return Finding(
        WARNING, "fwmark", what, f"Add the mask `/{context.own_bits:#x}` to fwmark.", family=family, rule=text
    )

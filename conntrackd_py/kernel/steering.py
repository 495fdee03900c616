"""Installs, removes and inspects the steering rules with iptables-save and iptables-restore.

Every operation first reads the installed rules from the kernel. It can be repeated, and its result does not depend on
the state before.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Final

from conntrackd_py.kernel import rules
from conntrackd_py.kernel.plan import Plan
from conntrackd_py.settings.schema import FAMILIES

IPTABLES: Final = {"ipv4": "iptables", "ipv6": "ip6tables"}
NFT_FAMILY: Final = {"ipv4": "ip", "ipv6": "ip6"}
SEARCH_PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # PATH of ordinary users often lacks sbin
SECONDS_FOR_THE_LOCK: Final = "10"  # iptables waits so long for another iptables


class SteeringError(Exception):
    """iptables is missing or failed; one line for the operator."""


def install(plan: Plan) -> dict[str, dict[str, rules.Table]]:
    """Replace the installed rules by those of the plan; returns the former rules, for `restore`.

    SteeringError: the former rules are restored.
    """
    families = [family for family in FAMILIES if family in plan.families or _available(family)]
    before = {family: found(family) for family in families}
    begun: list[str] = []
    try:
        for family in families:
            begun.append(family)
            _put(family, rules.wanted(plan, family))
    except SteeringError:
        restore({family: before[family] for family in begun})
        raise
    return before


def restore(before: Mapping[str, rules.Tables]) -> None:
    """Put back the rules that `install` returned."""
    for family, tables in before.items():
        _put(family, tables)


def remove() -> None:
    """Remove the rules, and the tables that `install` created if they are empty."""
    families = [family for family in FAMILIES if _available(family)]
    if not families:
        raise SteeringError("iptables-restore: not found; install iptables")
    for family in families:
        _put(family, rules.wanted(_NOTHING, family))


def status(plan: Plan) -> dict[str, tuple[bool, str, list[str]]]:
    """By family: whether the plan is installed, a text about it, and rules that queued packets never reach."""
    states = {}
    for family in FAMILIES:
        if family not in plan.families and not _available(family):
            continue
        now, expected = found(family), rules.wanted(plan, family)
        states[family] = (rules.as_wanted(now, expected), rules.status(now, expected), rules.bypassed(now))
    return states


_NOTHING: Final = Plan(visits=(), queue=0, bypass=False, families=(), exclude_interfaces=())


def _available(family: str) -> bool:
    return program(f"{IPTABLES[family]}-restore") is not None


def program(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)


def found(family: str) -> dict[str, rules.Table]:
    return rules.found(run([f"{IPTABLES[family]}-save"]))


def _put(family: str, after: rules.Tables) -> None:
    before = found(family)
    text = rules.transaction(before, after)
    if text:
        _restore(family, text)
        _drop_leftovers(family, before)


def _restore(family: str, text: str) -> None:
    run([f"{IPTABLES[family]}-restore", "--noflush", "-w", SECONDS_FOR_THE_LOCK], text)


def _drop_leftovers(family: str, before: rules.Tables) -> None:
    """Delete empty tables: iptables deletes the empty base chains, then nft the table."""
    for name, bases in rules.leftovers(before, found(family)).items():
        try:
            _restore(family, "\n".join((f"*{name}", *(f"-X {base}" for base in bases), "COMMIT", "")))
        except SteeringError:
            continue  # legacy iptables cannot; or the chain is in use again
        table = [NFT_FAMILY[family], name]
        if program("nft") and "chain" not in run(["nft", "list", "table", *table]):
            run(["nft", "delete", "table", *table])


def run(command: list[str], text: str = "") -> str:
    """The output of a command that must succeed."""
    path = program(command[0])
    if path is None:
        raise SteeringError(f"{command[0]}: not found; install iptables")
    done = subprocess.run(
        [path, *command[1:]],
        input=text,
        capture_output=True,
        text=True,
        errors="surrogateescape",  # comments of other rules may have any encoding
        check=False,
    )
    if done.returncode:
        # The last line except the advice about --help.
        said = [line for line in done.stderr.splitlines() if line and not line.startswith("Try `")]
        raise SteeringError(said[-1] if said else f"{command[0]} failed with status {done.returncode}")
    return done.stdout

"""Steering rules in the tables of iptables, with iptables-save and iptables-restore."""

from collections.abc import Callable
from functools import partial
from typing import Final, final

from conntrackd_py.kernel.steering import iptables_rules as rules
from conntrackd_py.kernel.steering.backend import Backend, Status
from conntrackd_py.kernel.steering.plan import Plan
from conntrackd_py.kernel.steering.programs import IPTABLES, NFT_FAMILY, SteeringError, program, run
from conntrackd_py.settings.schema import IPTABLES as NAME

SECONDS_FOR_THE_LOCK: Final = "10"  # iptables waits so long for another iptables


@final
class IptablesBackend(Backend):
    name = NAME

    def available(self, family: str) -> bool:
        return not self.missing(family)

    def missing(self, family: str) -> str:
        needed = f"{IPTABLES[family]}-restore"
        return "" if program(needed) else f"{needed}: not found; install iptables"

    def install(self, family: str, plan: Plan) -> None:
        _put(family, rules.wanted(plan, family))

    def snapshot(self, family: str) -> Callable[[], None]:
        return partial(_put, family, _found(family))

    def status(self, family: str, plan: Plan) -> Status:
        now, expected = _found(family), rules.wanted(plan, family)
        return Status(rules.as_wanted(now, expected), rules.status(now, expected), rules.bypassed(now))

    def tracked(self, family: str) -> bool:
        return rules.tracked(_found(family))


def _found(family: str) -> dict[str, rules.Table]:
    return rules.found(run([f"{IPTABLES[family]}-save"]))


def _put(family: str, after: rules.Tables) -> None:
    before = _found(family)
    if rules.as_wanted(before, after) and not rules.bypassed(before):
        return
    if text := rules.transaction(before, after):
        _restore(family, text)
        _drop_leftovers(family, before)


def _restore(family: str, text: str) -> None:
    run([f"{IPTABLES[family]}-restore", "--noflush", "-w", SECONDS_FOR_THE_LOCK], text)


def _drop_leftovers(family: str, before: rules.Tables) -> None:
    """Delete empty tables: iptables deletes the empty base chains, then nft the table."""
    for name, bases in rules.leftovers(before, _found(family)).items():
        try:
            _restore(family, "\n".join((f"*{name}", *(f"-X {base}" for base in bases), "COMMIT", "")))
        except SteeringError:
            continue  # legacy iptables cannot; or the chain is in use again
        table = [NFT_FAMILY[family], name]
        if program("nft") and "chain" not in run(["nft", "list", "table", *table]):
            run(["nft", "delete", "table", *table])

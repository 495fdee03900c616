"""Installs, removes and inspects the steering rules, with nft or iptables.

Every operation first reads the installed rules from the kernel. It can be repeated, and its result does not depend on
the state before.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from conntrackd_py.kernel.doctor.kernel_tracking import decided
from conntrackd_py.kernel.doctor.machine import rulesets
from conntrackd_py.kernel.steering.backend import NOTHING, Backend, Status
from conntrackd_py.kernel.steering.iptables import IptablesBackend
from conntrackd_py.kernel.steering.nft import NftBackend
from conntrackd_py.kernel.steering.plan import Plan, plan
from conntrackd_py.kernel.steering.programs import SteeringError
from conntrackd_py.settings.schema import AUTO, FAMILIES, OBSERVE, Settings

BACKENDS: Final[tuple[Backend, ...]] = (NftBackend(), IptablesBackend())  # in order of preference
Undo = list[Callable[[], None]]


def planned(settings: Settings) -> Plan:
    """The plan of these settings for the ruleset in force. SteeringError: it cannot be read."""
    wish = settings.steering.kernel_conntrack
    if settings.mode == OBSERVE:
        return plan(settings, why="mode observe")
    if wish != AUTO:
        return plan(settings, why=f"steering.kernel_conntrack is {wish}")
    keep, why = decided(settings, rulesets()[0])
    return plan(settings, keep=keep, why=why)


def chosen(wanted: Plan) -> tuple[Backend, str]:
    """The backend of this plan, and why. SteeringError if none can be used."""
    if wanted.program != AUTO:
        backend = next(each for each in BACKENDS if each.name == wanted.program)
        if reason := _missing(backend, wanted):
            raise SteeringError(reason)
        return backend, f"steering.program is {wanted.program}"
    reasons: list[str] = []
    for backend in BACKENDS:
        reason = _missing(backend, wanted)
        if not reason:
            return backend, "; ".join(reasons) or "steering.program is auto"
        reasons.append(reason)
    raise SteeringError("; ".join(reasons))


def _missing(backend: Backend, wanted: Plan) -> str:
    return next((reason for family in wanted.families if (reason := backend.missing(family))), "")


def install(wanted: Plan) -> Undo:
    """Replace the installed rules by those of the plan; returns what restores the former rules.

    The rules of the other backend are removed last: a packet may be queued twice meanwhile, but none leaves
    untranslated. SteeringError: the former rules are restored.
    """
    used = chosen(wanted)[0]
    undo: Undo = []
    try:
        for backend in sorted(BACKENDS, key=lambda each: each is not used):
            for family in _families(backend):
                undo.append(backend.snapshot(family))
                backend.install(family, wanted if backend is used else NOTHING)
    except SteeringError:
        with suppress(SteeringError):
            restore(undo)
        raise
    return undo


def restore(undo: Undo) -> None:
    """Put back the rules that were there before `install`, those of the other backend first."""
    for step in reversed(undo):
        step()


def remove() -> None:
    """Remove the rules, and the tables that `install` created if they are empty."""
    usable = [(backend, family) for backend in BACKENDS for family in _families(backend)]
    if not usable:
        raise SteeringError("neither nft nor iptables-restore was found; install nftables or iptables")
    for backend, family in usable:
        backend.install(family, NOTHING)


def status(wanted: Plan) -> Mapping[str, Status]:
    """The state of each family. Rules of the backend that is not chosen are a difference."""
    used = chosen(wanted)[0]
    states = {family: used.status(family, wanted) for family in _families(used)}
    for backend in BACKENDS:
        for family in _families(backend) if backend is not used else ():
            if family in states and backend.installed(family):
                states[family] = Status(False, f"partly installed: old rules of {backend.name}", [])
    return states


def described(wanted: Plan) -> list[str]:
    """Which program and which tracking, each with the reason, as lines for people."""
    backend, why = chosen(wanted)
    return [f"program: {backend.name} ({why})", f"kernel tracking: {'on' if wanted.keep else 'off'} ({wanted.why})"]


def installed() -> bool:
    """Whether any steering rule is installed."""
    return any(backend.installed(family) for backend in BACKENDS for family in _families(backend))


def tracked() -> bool:
    """Whether installed rules leave the kernel's tracking on."""
    return any(backend.tracked(family) for backend in BACKENDS for family in _families(backend))


def _families(backend: Backend) -> list[str]:
    return [family for family in FAMILIES if backend.available(family)]

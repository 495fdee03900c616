"""The whole diagnosis: reads the machine and returns every finding, errors first."""

from dataclasses import replace

from conntrackd_py.kernel.doctor.examine import examine
from conntrackd_py.kernel.doctor.findings import SEVERITIES, Context, Finding
from conntrackd_py.kernel.doctor.kernel_tracking import decided
from conntrackd_py.kernel.doctor.machine import Machine, machine, rulesets
from conntrackd_py.kernel.doctor.ruleset import Ruleset
from conntrackd_py.kernel.doctor.surroundings import steering_findings, surroundings
from conntrackd_py.kernel.steering import steering
from conntrackd_py.settings.schema import Settings


def diagnose(settings: Settings) -> list[Finding]:
    """All but the state of the steering rules. SteeringError: a program failed."""
    ruleset, notes = rulesets()
    return judged(settings, ruleset, replace(machine(), notes=notes))


def judged(settings: Settings, ruleset: Ruleset, machine: Machine) -> list[Finding]:
    context = Context(settings, keep=decided(settings, ruleset)[0])
    found = [*surroundings(context, machine, ruleset), *examine(context, ruleset)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def steering_state(settings: Settings) -> list[Finding]:
    return steering_findings(steering.status(steering.planned(settings)))

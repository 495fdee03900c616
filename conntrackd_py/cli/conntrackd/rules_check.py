"""`conntrackd-py rules check`: prints the findings of the ruleset doctor, and their number for other commands."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Final

from conntrackd_py.control.escape import escaped
from conntrackd_py.kernel.doctor.diagnosis import diagnose, steering_state
from conntrackd_py.kernel.doctor.findings import ERROR, INFO, SEVERITIES, WARNING, Finding
from conntrackd_py.kernel.steering.programs import SteeringError
from conntrackd_py.settings.schema import Settings

STATUS: Final = {ERROR: 3, WARNING: 1, INFO: 0}


def check(settings: Settings, *, as_json: bool) -> int:
    """0 nothing but infos, 1 warnings, 3 errors. SteeringError: a program failed."""
    findings = sorted([*steering_state(settings), *diagnose(settings)], key=_rank)
    if as_json:
        for finding in findings:
            print(json.dumps(asdict(finding)))
    else:
        print("\n".join([*grouped(findings), f"{amounts(findings)}"]))
    return max((STATUS[finding.severity] for finding in findings), default=0)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def grouped(findings: list[Finding]) -> list[str]:
    """The findings as lines; rules with the same text of finding and remedy together."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in findings:
        places = groups.setdefault((finding.severity, finding.code, finding.what, finding.remedy), [])
        if finding.where:
            places.append(finding.where)
    lines = []
    for (severity, code, what, remedy), places in groups.items():
        lines += [f"{severity}: {code}: {escaped(what)}", *(f"    {escaped(place)}" for place in places)]
        lines += [f"  Remedy: {escaped(remedy)}", ""]
    return lines


def amounts(findings: list[Finding]) -> str:
    """`2 errors, 1 warning, 0 infos`."""
    numbers = Counter(finding.severity for finding in findings)
    return ", ".join(f"{numbers[name]} {name}{'' if numbers[name] == 1 else 's'}" for name in SEVERITIES)


def hint(settings: Settings) -> str:
    """One line for `rules status` and `rules install`; empty without errors and warnings. Raises nothing."""
    try:
        findings = [finding for finding in diagnose(settings) if finding.severity != INFO]
    except SteeringError as error:
        return f"firewall not checked: {escaped(str(error))}"
    return f"firewall: {amounts(findings).rpartition(',')[0]}; see conntrackd-py rules check" if findings else ""

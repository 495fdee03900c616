"""Names the rule that overwrites the packet mark, once, when the first packets with an overwritten mark were seen."""

import asyncio
from typing import Final, final

import structlog

from conntrackd_py.engine.overwritten import Overwritten
from conntrackd_py.kernel.doctor.diagnosis import diagnose
from conntrackd_py.kernel.doctor.findings import Finding
from conntrackd_py.kernel.steering.programs import SteeringError
from conntrackd_py.settings.schema import Settings

UNKNOWN: Final = "no rule found; another program or an eBPF filter may write the mark"

log = structlog.get_logger()


@final
class MarkWatch:
    """rule: the probable rule, with its program and chain; empty until it was looked for, or if there is none."""

    def __init__(self, overwritten: Overwritten) -> None:
        self.overwritten = overwritten
        self.rule = ""
        self.looked = False

    def due(self) -> bool:
        """Whether the rule must be looked for now."""
        return self.overwritten.total > 0 and not self.looked

    async def look(self, settings: Settings) -> None:
        """Read the rulesets in a thread; log the rule."""
        self.looked = True
        try:
            self.rule = probable(await asyncio.to_thread(diagnose, settings))
        except (SteeringError, OSError) as error:
            log.warning("mark_overwritten", packets=self.overwritten.total, rule="", error=str(error))
            return
        log.warning("mark_overwritten", packets=self.overwritten.total, rule=self.rule or UNKNOWN)


def probable(findings: list[Finding]) -> str:
    """Where the rule stands and its text: one that writes the mark, else one that skips the first visit."""
    for code, chain in (("mark-write", ""), ("before-jump", "PREROUTING")):
        for finding in findings:
            if finding.code == code and chain in finding.chain.upper():
                return finding.where
    return ""

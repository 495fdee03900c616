"""`conntrackd-py rules`: the iptables rules that hand packets to the daemon."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from conntrackd_py.cli.conntrackd.options import add_config, settings_or_none
from conntrackd_py.control.escape import escaped
from conntrackd_py.kernel import rules, steering
from conntrackd_py.kernel.plan import Plan, closed, plan
from conntrackd_py.settings.schema import FAMILIES

NOT_INSTALLED: Final = 3
ACTIONS: Final = {
    "print": "write the rules to standard output as iptables-restore text",
    "install": "put them in place; can be repeated, also after a change of the configuration; "
    "in mode nat nothing passes until the daemon runs",
    "remove": "take them away; needs no configuration",
    "status": "tell whether they are in place: exit status 0 when they are, 3 when not or only in part",
}
ON_START: Final = (
    "as the unit does before it starts: when the configuration is wrong and no rules are in place, forward nothing"
)
ON_STOP: Final = (
    "as this systemd unit does when it has stopped: keep them after a failure, during a restart, and when "
    "steering.on_stop is keep"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        add_config(action)
        if name == "install":
            action.add_argument("--on-start", action="store_true", help=ON_START)
        if name == "remove":
            action.add_argument("--on-stop", metavar="UNIT", default="", help=ON_STOP)


def main(args: argparse.Namespace) -> int:
    try:
        if args.action == "remove":
            return _remove(args.config, args.on_stop)
        settings = settings_or_none(args.config)
        if settings is None:
            if args.action == "install" and args.on_start:
                _close()
            return 1
        return _with_plan(args.action, plan(settings))
    except steering.SteeringError as error:
        _tell(str(error))
        return 1


def _tell(text: str) -> None:
    print(f"conntrackd-py rules: {escaped(text)}", file=sys.stderr)


def _remove(config: Path, unit: str) -> int:
    why = _reason_to_keep(config, unit) if unit else ""
    if why:
        _tell(f"the rules stay: {why}")
    else:
        steering.remove()
    return 0


def _reason_to_keep(config: Path, unit: str) -> str:
    """In doubt they stay: packets are then dropped, not sent untranslated."""
    result = os.environ.get("SERVICE_RESULT", "success")
    if result != "success":
        return f"the service ended with the result {result}"
    settings = settings_or_none(config)
    if settings is None:
        return "the configuration is wrong"
    if settings.steering.on_stop == "keep":
        return "steering.on_stop is keep"
    return _restarting(unit)


def _restarting(unit: str) -> str:
    """systemd stops a unit before it starts it again; its list of jobs shows whether a start follows."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return ""
    listing = [systemctl, "list-jobs", "--plain", "--no-legend", "--no-pager", unit]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"systemd does not say whether this is a restart: {done.stderr.strip()}"
    restarts = any(line.split()[1:3] == [unit, "restart"] for line in done.stdout.splitlines())
    return "the service is restarted" if restarts else ""


def _close() -> None:
    if any(table.chains for family in FAMILIES for table in steering.found(family).values()):
        _tell("the rules of before stay")
        return
    steering.install(closed())
    _tell("nothing is forwarded until the configuration is right")


def _with_plan(action: str, wanted: Plan) -> int:
    if action == "install":
        steering.install(wanted)
        return 0
    if action == "status":
        return _print_status(wanted)
    for family in FAMILIES:
        if family in wanted.families:
            print(f"# {steering.IPTABLES[family]}-restore --noflush")
            print(rules.explained(rules.transaction(NO_TABLES_MISSING, rules.wanted(wanted, family))))
    return 0


# Printed as for a machine that has the tables, since whether it has cannot be told without root.
NO_TABLES_MISSING: Final = dict.fromkeys(rules.TABLES, rules.Table())


def _print_status(wanted: Plan) -> int:
    states = steering.status(wanted)
    for family, (_, words, bypassed) in states.items():
        print(f"{family}: {words}")
        for rule in bypassed:
            print(f"{family}: queued packets skip this rule, it stands behind ours: {escaped(rule)}")
    return 0 if all(as_wanted for as_wanted, _, _ in states.values()) else NOT_INSTALLED

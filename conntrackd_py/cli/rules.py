"""`conntrackd-py rules`: the iptables rules that hand packets to the daemon."""

import argparse
import sys
from typing import Final

from conntrackd_py.cli.options import add_config, settings_or_none
from conntrackd_py.kernel import rules, steering
from conntrackd_py.kernel.plan import Plan, plan
from conntrackd_py.service.escape import escaped
from conntrackd_py.settings.schema import FAMILIES

NOT_INSTALLED: Final = 3
ACTIONS: Final = {
    "print": "write the rules to standard output as iptables-restore text",
    "install": "put them in place; can be repeated, also after a change of the configuration; "
    "in mode nat nothing passes until the daemon runs",
    "remove": "take them away; needs no configuration",
    "status": "tell whether they are in place: exit status 0 when they are, 3 when not or only in part",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        add_config(actions.add_parser(name, help=text, description=text))


def main(args: argparse.Namespace) -> int:
    try:
        if args.action == "remove":
            steering.remove()
            return 0
        settings = settings_or_none(args.config)
        if settings is None:
            return 1
        return _with_plan(args.action, plan(settings))
    except steering.SteeringError as error:
        print(f"conntrackd-py rules: {escaped(str(error))}", file=sys.stderr)
        return 1


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

"""`conntrackd-py rules`: the rules that queue packets to the daemon, and the firewall beside them."""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from conntrackd_py.cli.conntrackd import rules_check, rules_confirm, rules_hold, rules_translate, ssh_session
from conntrackd_py.cli.conntrackd.check_config import settings_or_none
from conntrackd_py.control.escape import escaped
from conntrackd_py.kernel.steering import iptables_rules, nft_rules, steering
from conntrackd_py.kernel.steering.plan import Plan, closed, plan
from conntrackd_py.kernel.steering.programs import IPTABLES as SAVERS
from conntrackd_py.kernel.steering.programs import NFT_FAMILY, SteeringError
from conntrackd_py.settings.schema import FAMILIES, MODES, NFT, OBSERVE, Settings

NOT_INSTALLED: Final = 3
CUTS_OFF: Final = (
    "not installed: the rules would cut off this SSH session (from {client}), because no daemon reads the queue. "
    "Start the daemon first, add the session's interface to steering.exclude_interfaces, "
    "try with --for SECONDS, or use --force"
)
MODE: Final = re.compile(r"""^\s*mode\s*=\s*["'](\w+)["']""", re.MULTILINE)
CANNOT_CHECK: Final = 3  # of `check`, where 1 means warnings


def main(args: argparse.Namespace) -> int:
    try:
        if args.action == "remove":
            return _remove(args.config, args.on_stop)
        if args.action == "confirm":
            return _confirm()
        settings = settings_or_none(args.config)
        if settings is None:
            if args.action == "install" and args.on_start:
                _close(args.config)
            return CANNOT_CHECK if args.action == "check" else 1
        if args.action == "check":
            return rules_check.check(settings, as_json=args.json)
        if args.action == "translate":
            return rules_translate.main(settings, args.file, args.text_format)
        if args.action == "install" and not (args.on_start or args.force or args.seconds):
            if client := ssh_session.cut_off(plan(settings)):
                _report(CUTS_OFF.format(client=client))
                return 1
        if args.action == "install" and args.seconds:
            with rules_hold.held(args.config) as hold:
                return _install_for(settings, args.seconds, hold)
        if args.action == "print":
            return _print(settings, args.format)
        return _act(args.action, settings, args.config)
    except SteeringError as error:
        _report(str(error))
        return CANNOT_CHECK if args.action == "check" else 1


def _report(text: str) -> None:
    print(f"conntrackd-py rules: {escaped(text)}", file=sys.stderr)


def _remove(config: Path, unit: str) -> int:
    why = _reason_to_keep(config, unit) if unit else ""
    if why:
        _report(f"rules kept: {why}")
    else:
        with rules_hold.held(config):
            steering.remove()
        if unit:
            _forget(config)
    return 0


def _forget(config: Path) -> None:
    """Remove the journal: from now on the kernel forwards packets that the daemon does not see."""
    settings = settings_or_none(config)
    if settings is None:
        return
    with contextlib.suppress(OSError):
        Path(settings.journal.path(settings.control.socket)).unlink()


def _reason_to_keep(config: Path, unit: str) -> str:
    """Why the rules stay installed; empty if they are to be removed.

    On any error they stay: without a daemon they drop packets, and no packet leaves untranslated.
    """
    result = os.environ.get("SERVICE_RESULT", "success")
    if result != "success":
        return f"the service failed with result {result}"
    settings = settings_or_none(config)
    if settings is None:
        return "the configuration is wrong"
    if settings.steering.on_stop == "keep":
        return "steering.on_stop is keep"
    return _restarting(unit)


def _restarting(unit: str) -> str:
    """A reason to keep the rules if systemd is restarting the unit: its job list then holds a restart job."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return ""
    listing = [systemctl, "list-jobs", "--plain", "--no-legend", "--no-pager", unit]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"cannot find out whether this is a restart: systemctl list-jobs: {done.stderr.strip()}"
    restarts = any(line.split()[1:3] == [unit, "restart"] for line in done.stdout.splitlines())
    return "the service is being restarted" if restarts else ""


def _close(config: Path) -> None:
    if _observes(config):
        _report("no rules installed: mode observe never stops packets")
        return
    if steering.installed():
        _report("the installed rules are kept")
        return
    steering.install(closed())
    _report("nothing is forwarded until the configuration is corrected")


def _observes(config: Path) -> bool:
    """Whether a wrong configuration says mode observe, as far as it can be read."""
    text = ""
    for file in (config, *sorted((config.parent / "conf.d").glob("*.toml"))):
        with contextlib.suppress(OSError):
            text += file.read_text(errors="replace") + "\n"
    said = [mode for mode in MODE.findall(text) if mode in MODES]
    return bool(said) and said[-1] == OBSERVE


def _act(action: str, settings: Settings, config: Path) -> int:
    wanted = steering.planned(settings)
    status = 0
    if action == "install":
        with rules_hold.held(config):
            steering.install(wanted)
        _describe(wanted)
    else:
        status = _print_status(wanted)
    if found := rules_check.hint(settings):
        print(found)
    return status


def _install_for(settings: Settings, seconds: int, hold: rules_hold.Hold) -> int:
    try:
        listening = rules_confirm.pending()
    except OSError:
        _report(rules_confirm.TAKEN)
        return 1
    rules_confirm.survive()
    kept = False
    with listening:
        wanted = steering.planned(settings)
        before = steering.install(wanted)
        try:
            _describe(wanted)
            hold.say("trial")
            print(f"installed for {seconds} s; to keep the rules press Enter, or run `conntrackd-py rules confirm`")
            sys.stdout.flush()
            kept = rules_confirm.confirmed(listening, sys.stdin, seconds)
        finally:
            if not kept:
                steering.restore(before)
    with contextlib.suppress(OSError):  # the terminal may be gone
        print("confirmed: the rules stay" if kept else "not confirmed: the former rules are back")
        sys.stdout.flush()
    return 0 if kept else 1


def _confirm() -> int:
    if rules_confirm.confirm():
        return 0
    _report(rules_confirm.NONE_WAITS)
    return 1


def _describe(wanted: Plan) -> None:
    for line in steering.described(wanted):
        print(escaped(line))


def _print(settings: Settings, form: str) -> int:
    """Without root the ruleset in force cannot be read: `auto` then prints the rules without the kernel's tracking."""
    try:
        wanted = steering.planned(settings)
    except SteeringError as error:
        wanted = plan(settings, why=f"the ruleset cannot be read: {error}")
    print(f"# kernel tracking: {'on' if wanted.keep else 'off'} ({escaped(wanted.why)})")
    form = form or steering.chosen(wanted)[0].name
    for family in FAMILIES:
        if family not in wanted.families:
            continue
        if form == NFT:
            print(f"# nft -f, family {NFT_FAMILY[family]}")
            print(nft_rules.explained(wanted, family, nft_rules.wanted(wanted, family)))
        else:
            print(f"# {SAVERS[family]}-restore --noflush")
            text = iptables_rules.transaction(NO_TABLES_MISSING, iptables_rules.wanted(wanted, family))
            print(iptables_rules.explained(wanted, family, text))
    return 0


# `rules print` assumes that all tables exist: reading them needs root.
NO_TABLES_MISSING: Final = dict.fromkeys(iptables_rules.TABLES, iptables_rules.Table())


def _print_status(wanted: Plan) -> int:
    _describe(wanted)
    states = steering.status(wanted)
    for family, (_, words, bypassed) in states.items():
        print(f"{family}: {words}")
        for rule in bypassed:
            print(f"{family}: this rule comes after the queue rule and does not see queued packets: {escaped(rule)}")
    return 0 if all(as_wanted for as_wanted, _, _ in states.values()) else NOT_INSTALLED

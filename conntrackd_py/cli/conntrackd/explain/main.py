"""`conntrackd-py explain`: why packets were refused, in a capture or by the running daemon.

A capture is replayed through an engine in this process; that needs neither root nor a daemon.
"""

import argparse
import heapq
import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from rich.console import Console

from conntrackd_py.cli.conntrackd.check_config import settings_or_none
from conntrackd_py.cli.conntrackd.explain.capture import Captured, CaptureError, read
from conntrackd_py.cli.conntrackd.explain.fragments import reassembled
from conntrackd_py.cli.conntrackd.explain.hints import Hints
from conntrackd_py.cli.conntrackd.explain.live import follow, recent
from conntrackd_py.cli.conntrackd.explain.replay import INSIDE, OUTSIDE, Replay, Step
from conntrackd_py.cli.conntrackd.explain.show import Screen, connection_text, step_fields
from conntrackd_py.cli.conntrackd.explain.sightings import sightings
from conntrackd_py.cli.stdout import discard_stdout
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.control.client import ClientError
from conntrackd_py.control.escape import escaped
from conntrackd_py.engine.engine import Engine
from conntrackd_py.explain import packet_line as packetline
from conntrackd_py.explain.packet_filter import ANY, PacketFilter
from conntrackd_py.match.address import addresses, network
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.reasons import REASON_NUMBERS
from conntrackd_py.settings.schema import NAT, TRACK, Settings

LEFT_SHOWN: Final = 20  # connections listed at the end of a capture
FILTERS: Final = ("host", "port", "proto", "reason")
ONLY_WITH_FILE: Final = ("config", "inside", "address", "no_checksum", "only_problems")


def main(args: argparse.Namespace) -> int:
    """0 done, 1 if the capture or the daemon cannot be read, 2 wrong usage, 130 interrupted."""
    wrong = usage_error(args)
    if wrong:
        print(f"conntrackd-py explain: {wrong}", file=sys.stderr)
        return 2
    try:
        if args.follow:
            return follow(args)
        return recent(args) if args.recent else capture(args)
    except (CaptureError, ClientError) as error:
        print(f"conntrackd-py explain: {escaped(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        discard_stdout()
        return 0
    except KeyboardInterrupt:
        return 130


def usage_error(args: argparse.Namespace) -> str:
    """What is wrong with the combination of options; empty if nothing is."""
    if (args.file is not None) + args.recent + args.follow != 1:
        return "give one of FILE, --recent and --follow"
    for name in ONLY_WITH_FILE:
        if args.file is None and getattr(args, name):
            return f"--{name.replace('_', '-')} needs FILE"
    if args.file is not None and args.last is not None:
        return "--last needs --recent or --follow"
    return ""


def capture(args: argparse.Namespace) -> int:
    settings = settings_or_none(args.config) if args.config else Settings(mode=TRACK)
    if settings is None:
        return 1
    packets = iter(read(args.file))
    first = next(packets, None)
    if first is None:
        raise CaptureError(f"{args.file}: the capture has no packets")
    explain(args, settings, itertools.chain([first], packets), first.at)
    return 0


def explain(args: argparse.Namespace, settings: Settings, packets: Iterable[Captured], zero: int) -> None:
    replay = replay_of(settings, args)
    screen = Screen(Console(highlight=False), zero)
    hints, wanted, not_shown = Hints(), filter_of(args), 0
    for sighting in sightings(reassembled(packets)):
        step = replay.step(sighting)
        hints.add(step)
        shown = matches(step, wanted)
        not_shown += not shown
        shown = shown and bool(not args.only_problems or step.notes or step.hints)
        if args.json:
            if shown:
                print(json.dumps(step_fields(step, zero)))
            continue
        if not args.only_problems:
            for at, ct in step.ended:
                screen.ended(at, ct)
        if shown:
            screen.step(step)
    count, left = left_over(replay)
    summary: packetline.Fields = {**hints.summary(), "connections_left": count}
    chosen = [f"--{name}" for name in FILTERS if getattr(args, name) not in (None, [])]
    if chosen:
        summary["not_shown"] = {"by": chosen, "packets": not_shown}
    if args.json:
        print(json.dumps({"summary": {**summary, "left": left}}))
    else:
        summary_text(screen, summary, left)


def replay_of(settings: Settings, args: argparse.Namespace) -> Replay:
    """NAT rules apply only with --inside: a capture of one interface does not show where a packet comes from."""
    translating = bool(args.inside) and settings.mode == NAT
    rules = list(settings.nat) if translating else []
    tunables = replace(settings.tunables, nf_conntrack_checksum=False) if args.no_checksum else settings.tunables
    engine = Engine(
        tunables,
        Repeatable(),
        mode=NAT if translating else TRACK,
        nat_rules=rules,
        leak_guard=settings.leak_guard,
        tcp_tracker=settings.tcp_tracker,
    )
    addresses = [args.address] if args.address else []
    engine.set_interface(INSIDE, interface_name(settings.nat, outgoing=False), [], 0)
    engine.set_interface(OUTSIDE, interface_name(settings.nat, outgoing=True), addresses, 0)
    return Replay(engine, args.inside, settings, rules)


def interface_name(rules: Iterable[NatRule], outgoing: bool) -> str:
    """The outer interface is the first one that a rule names; the inner one has a name that no rule has."""
    if not outgoing:
        return "inside"
    for rule in rules:
        interface = rule.match.out_interface or rule.match.in_interface
        if interface is not None and not interface.invert:
            return interface.names[0].removesuffix("+")
    return "outside"


def filter_of(args: argparse.Namespace) -> PacketFilter:
    host = addresses(network(args.host)) if args.host else None
    port = ANY if args.port is None else args.port
    protonum = ANY if args.proto is None else args.proto
    return PacketFilter(host, port, protonum, frozenset(REASON_NUMBERS[name] for name in args.reason))


def matches(step: Step, wanted: PacketFilter) -> bool:
    """Whether the filter shows the packet, in one of its forms. Other packets are tracked too."""
    if wanted.reasons and not any(wanted.matches_reason(note) for note in step.notes):
        return False
    forms = (step.packet.data, step.arrived, step.left)
    return not wanted.by_packet or any(wanted.matches_packet(data) for data in forms if data)


def left_over(replay: Replay) -> tuple[int, list[packetline.Fields]]:
    """The number of connections after the last packet, and those that expire first."""
    table = replay.engine.core.table
    alive = {ct.id: ct for _, ct in table.hash.items()}
    first = heapq.nsmallest(LEFT_SHOWN, [(ct.timeout, ct.id) for ct in alive.values()])
    shown = [alive[number] for _, number in first]
    return len(alive), [
        {"connection": connection_text(ct), "ends_after": ct.remaining(replay.now) / 1000} for ct in shown
    ]


def summary_text(screen: Screen, summary: packetline.Fields, left: list[packetline.Fields]) -> None:
    for one in left:
        screen.put(f"--  {one['ends_after']:g} s later, if no packet comes: {one['connection']}: timeout: +DYING")
    hints = summary.pop("hints")
    assert isinstance(hints, list)
    not_shown = summary.pop("not_shown", None)
    if isinstance(not_shown, dict):
        summary["not shown"] = f"{not_shown['packets']} packets, because of {' '.join(not_shown['by'])}"
    screen.put("")
    for hint in hints:
        screen.fact("hint", hint, "bold")
    for name, value in summary.items():
        words = ", ".join(f"{key} {number}" for key, number in value.items()) if isinstance(value, dict) else value
        if words:
            screen.put(f"{name.replace('_', ' '):<20}{words}")

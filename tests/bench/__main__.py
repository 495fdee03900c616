"""scripts/bench: what a packet, a connection and a full table cost, beside other programs, in one run.

Needs root and gcc. Client, router and server are namespaces on this machine, so sender, router and receiver share its
cores: compare only ratios, and only those of one run. Contenders take turns, several rounds; the tables show medians.
A measurement in which nothing arrives is repeated; after some attempts the benchmark ends with an error.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from conntrackd_py.lab.namespaces import LabError
from tests.bench import connections, flood, latency, memory, operations, page, throughput, turns
from tests.bench.contenders import TITLES, Bench, need_root
from tests.bench.results import Results, aligned, conditions, load

PARTS: Final = ("throughput", "connections", "latency", "operations", "flood", "memory", "turns")
WITHOUT_ROOT: Final = {"memory", "turns"}


def main() -> None:
    args = arguments()
    results = Results(conditions())
    began = time.monotonic()
    results.conditions["load before"] = load()
    if args.results:
        results = Results.loaded(args.results.read_text())
    else:
        interruptible(lambda: run(args, results))
        results.conditions["rounds"] = f"{args.rounds} of {args.seconds:g} s each"
        results.conditions["load after"] = load()
        results.conditions["duration"] = f"{time.monotonic() - began:.0f} s"
    for name, value in results.conditions.items():
        print(f"{name}: {value}")
    for lines in page.tables(results).values():
        print(f"\n{aligned(lines)}")
    if args.save:
        args.save.write_text(results.dumped())
    if args.write:
        page.write(results, args.write)


def interruptible(work: Callable[[], None]) -> None:
    """A signal ends the run as an error does: namespaces and processes are removed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    try:
        work()
    except LabError as error:
        raise SystemExit(f"scripts/bench: {error}") from error


def run(args: argparse.Namespace, results: Results) -> None:
    rootless = set(args.part) <= WITHOUT_ROOT
    if not rootless:
        need_root()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.seconds, args.rounds, args.only, results)
        measures: dict[str, Callable[[], None]] = {
            "throughput": lambda: throughput.measure(bench),
            "connections": lambda: connections.measure(bench),
            "latency": lambda: latency.measure(bench),
            "operations": lambda: operations.measure(bench, args.count or 100_000),
            "flood": lambda: flood.measure(bench),
            "memory": lambda: memory.measure(results, args.count or 1_000_000, args.accounting),
            "turns": lambda: turns.measure(results, args.count or 100_000, args.rounds),
        }
        if not rootless:
            bench.build()
        for part in args.part:
            measures[part]()


def arguments() -> argparse.Namespace:
    def several(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
        def words(text: str) -> list[str]:
            found = text.split(",")
            wrong = [word for word in found if word not in allowed]
            if wrong:
                raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: not one of {', '.join(allowed)}")
            return found

        return words

    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=2, help="length of one measurement (2)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (3)")
    parser.add_argument("--part", type=several(PARTS), default=list(PARTS), help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--only", type=several(tuple(TITLES)), default=[], help=f"contenders: {', '.join(TITLES)}")
    parser.add_argument(
        "--count", type=int, help="connections in the full table (operations, turns 100,000; memory a million)"
    )
    parser.add_argument("--accounting", action="store_true", help="part memory with nf_conntrack_acct")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the values of all rounds as JSON")
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing: read what --save wrote")
    parser.add_argument("--write", type=Path, metavar="DIRECTORY", help="write tables and plots into its pages")
    args = parser.parse_args()
    least = {
        "--rounds": (args.rounds, 1),
        "--seconds": (args.seconds, 0.2),
        "--count": (1000 if args.count is None else args.count, 1000),
    }
    for name, (given, smallest) in least.items():
        if given < smallest:
            parser.error(f"{name}: at least {smallest:,}")
    partial = set(args.part) != set(PARTS) or args.only
    if args.write and partial and not args.results:
        parser.error("--write needs all parts and all contenders: pages show one run")
    if args.write and not (args.write / page.PAGES[0]).is_file():
        parser.error(f"{args.write}: no {page.PAGES[0]} there")
    return args


if __name__ == "__main__":
    main()

"""`conntrackd-py blocks`: lists the port blocks."""

import argparse
from typing import Any

from conntrackd_py.cli.conntrackd.mappings import listing
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Mappings


def main(args: argparse.Namespace) -> int:
    """0, or 1 if no daemon answers."""
    return listing(args, Mappings(blocks=True), line, "no port block")


def line(row: dict[str, Any]) -> str:
    low, high = row["ports"]
    outer = f"[{row['outer']}]" if ":" in row["outer"] else row["outer"]
    zone = f" zone {row['zone']}" if row["zone"] else ""
    used = ", ".join(f"{proto} {count:,}" for proto, count in row["used"].items())
    if not used:
        used = f"none, released in {row['rests']:.0f} s"
    more = "  contested: two hosts hold it" if row["contested"] else ""
    return escaped(
        f"{row['inside']}{zone} -> {outer}:{low}-{high}  {row['rule']}  used {used}  {row['age']:.0f} s{more}"
    )

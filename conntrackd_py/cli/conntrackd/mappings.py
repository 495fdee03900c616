"""`conntrackd-py mappings`: lists the endpoint-independent mappings."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Mappings


def main(args: argparse.Namespace) -> int:
    """0, or 1 if no daemon answers."""
    return listing(args, Mappings(), line, "no endpoint-independent mapping")


def listing(args: argparse.Namespace, request: Mappings, text: Callable[[dict[str, Any]], str], none: str) -> int:
    """Print a line for each row of the answers, or JSON; `none` if there is no row."""
    count = 0
    try:
        with Client(socket_path(args.socket)) as client:
            for answer in client.ask(request):
                if "done" in answer:
                    break
                for row in answer[args.command]:
                    count += 1
                    print(json.dumps(row) if args.json else text(row))
    except ClientError as error:
        print(f"conntrackd-py {args.command}: {escaped(str(error))}", file=sys.stderr)
        return 1
    if not count and not args.json:
        print(none)
    return 0


def line(row: dict[str, Any]) -> str:
    inside, outer = (_endpoint(row[name], row[f"{name}_port"]) for name in ("inside", "outer"))
    text = f"{row['proto']}  {inside} -> {outer}  {row['rule']}  filtering {row['filtering']}  "
    text += f"{row['connections']:,} connections  "
    if row["expires"]:
        return escaped(f"{text}lifetime {row['expires']:.0f} s")
    return escaped(f"{text}closed, port rests {row['rests']:.0f} s")


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

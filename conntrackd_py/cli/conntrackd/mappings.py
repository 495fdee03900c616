"""`conntrackd-py mappings`: lists the endpoint-independent mappings."""

import argparse
import json
import sys
from typing import Any

from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Mappings


def main(args: argparse.Namespace) -> int:
    """0, or 1 if no daemon answers."""
    count = 0
    try:
        with Client(socket_path(args.socket)) as client:
            for answer in client.ask(Mappings()):
                if "done" in answer:
                    break
                for row in answer["mappings"]:
                    count += 1
                    print(json.dumps(row) if args.json else line(row))
    except ClientError as error:
        print(f"conntrackd-py mappings: {escaped(str(error))}", file=sys.stderr)
        return 1
    if not count and not args.json:
        print("no endpoint-independent mapping")
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

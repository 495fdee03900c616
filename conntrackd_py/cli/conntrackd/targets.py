"""`conntrackd-py targets`: lists the targets of DNAT rules with several, or marks some of them down or up."""

import argparse
import json
import sys
from typing import Any

from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Targets


def main(args: argparse.Namespace) -> int:
    """0, or 1 if no daemon answers or no rule has such a target."""
    request = Targets(set=args.state, target=args.target) if args.state else Targets()
    try:
        with Client(socket_path(args.socket)) as client:
            found = next(client.ask(request))["targets"]
    except ClientError as error:
        print(f"conntrackd-py targets: {escaped(str(error))}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(found))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
    return 0


def lines(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return ["no DNAT rule has several targets"]
    width = max(len(row["target"]) for row in found)
    return [
        escaped(
            f"{row['rule']}  {row['target']:<{width}}  weight {row['weight']}  {'down' if row['down'] else 'up':<4}  "
            f"{row['connections']:,} connections"
        )
        for row in found
    ]

"""`conntrackd-py sync`: the hot standby: its state, a takeover, stepping down."""

import argparse
import json
import sys
from typing import Any, Final

from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Sync
from conntrackd_py.control.sync.state import ACTIVE, OFF

FAILED: Final = 1
NOT_IN_ORDER: Final = 3


def main(args: argparse.Namespace) -> int:
    """0; FAILED if no daemon answers or it refuses; of `status`, NOT_IN_ORDER if `in_order` says so."""
    request = Sync(args.action, getattr(args, "stale", False))
    try:
        with Client(socket_path(args.socket)) as client:
            state = next(client.ask(request))["sync"]
    except ClientError as error:
        print(f"conntrackd-py sync: {escaped(str(error))}", file=sys.stderr)
        return FAILED
    print(json.dumps(state) if args.json else "\n".join(lines(state)))
    return 0 if args.action != "status" or in_order(state) else NOT_IN_ORDER


def in_order(state: dict[str, Any]) -> bool:
    """Whether the server answers and, of a standby, no connection is missing."""
    return bool(state["connected"] and not state["error"] and (state["role"] == ACTIVE or state["synced"]))


def lines(state: dict[str, Any]) -> list[str]:
    if state["role"] == OFF:
        return ["off"]
    server = "server connected" if state["connected"] else "server NOT connected"
    found = [f"{state['role']}, epoch {state['epoch']}, {server}"]
    if state["error"]:
        found.append(f"error: {escaped(state['error'])}")
    counts = f"{state['records']:,} records in {state['frames']:,} frames, {state['snapshots']:,} snapshots"
    if state["role"] == ACTIVE:
        found.append(f"published {counts}; pending {state['pending']:,}, lost {state['lost']:,}")
        return found
    heard = f"heard {state['age']:.1f} s ago, lag {state['lag']:.3f} s" if state["age"] >= 0 else "nothing heard"
    found.append(f"{'complete' if state['synced'] else 'INCOMPLETE'}: {heard}, gaps {state['gaps']:,}")
    found.append(f"applied {counts}; pending {state['pending']:,}")
    refused = {**state["refused"], "older epoch": state["older"], "other version or mode": state["foreign"]}
    texts = [f"{name.replace('_', ' ')} {count:,}" for name, count in refused.items() if count]
    return [*found, f"ignored: {', '.join(texts)}"] if texts else found

"""`conntrackd-py reload`: have the daemon take over its changed configuration, and say what became of it.

Exit status 0: taken over. 1: it was not, and the former configuration stays in force.
"""

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from conntrackd_py.control.client import DEFAULT_PATH, VARIABLE, Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped, escaped_lines
from conntrackd_py.control.protocol.requests import Reload

WHY: Final = {"nat": "translated otherwise now", "filter": "not allowed any more"}


def main(args: argparse.Namespace) -> int:
    try:
        with _client(args.socket, args.config) as client:
            answer = next(client.ask(Reload(args.flush_stale)))["reload"]
    except ClientError as error:
        sys.stderr.write(f"conntrackd-py reload: {escaped_lines(str(error))}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in told(answer)))
    return 0


def _client(socket: str | None, config: Path) -> Client:
    """A connection to the daemon of this configuration. Its socket may be the usual one still, before this reload."""
    configured = configured_socket(config)
    if socket or not configured or VARIABLE in os.environ:
        return Client(socket_path(socket))
    try:
        return Client(configured)
    except ClientError:
        if configured == DEFAULT_PATH:
            raise
        return Client(DEFAULT_PATH)


def configured_socket(config: Path) -> str:
    """`control.socket` of a configuration that may be wrong in other places; empty when there is none."""
    found = ""
    for file in (config, *sorted((config.parent / "conf.d").glob("*.toml"))):
        try:
            control = tomllib.loads(file.read_text(encoding="utf-8")).get("control", {})
        except (OSError, ValueError):
            continue  # the daemon says what is wrong with it
        if isinstance(control, dict) and isinstance(control.get("socket"), str):
            found = control["socket"]
    return found


def told(answer: dict[str, Any]) -> list[str]:
    """The lines for the operator."""
    lines = ["reloaded"]
    if answer["restart"]:
        lines.append(f"waits for a restart: {escaped(', '.join(answer['restart']))}")
    for why, count in answer["stale"].items():
        if count:
            lines.append(f"stale connections, {WHY.get(why, why)}: {count}")
    if answer["flushed"]:
        lines.append(f"stale connections ended: {answer['flushed']}")
    elif any(answer["stale"].values()):
        lines.append("list them with conntrack-py -L --stale, end them with conntrack-py -D --stale")
    return lines

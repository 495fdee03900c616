"""`conntrackd-py reload`: makes the daemon apply its changed configuration and reports the result."""

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from conntrackd_py.control.client import DEFAULT_PATH, VARIABLE, Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped, escaped_lines
from conntrackd_py.control.protocol.requests import Reload

WHY: Final = {"nat": "the NAT rules would translate differently", "filter": "the filter would refuse"}


def main(args: argparse.Namespace) -> int:
    """0, or 1 if the daemon did not apply the configuration: the previous one stays in force."""
    try:
        with connected(args.socket, args.config) as client:
            answer = next(client.ask(Reload(args.flush_stale)))["reload"]
    except ClientError as error:
        sys.stderr.write(f"conntrackd-py reload: {escaped_lines(str(error))}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in report(answer)))
    return 0


def connected(socket: str, config: Path, patience: float | None = None) -> Client:
    """A connection to the daemon. If nothing listens on the configured socket, the daemon may still use the default."""
    configured = configured_socket(config)
    if socket or not configured or VARIABLE in os.environ:
        return Client(socket_path(socket), patience)
    try:
        return Client(configured, patience)
    except ClientError:
        if configured == DEFAULT_PATH:
            raise
        return Client(DEFAULT_PATH, patience)


def configured_socket(config: Path) -> str:
    """`control.socket` of the configuration, empty if it has none. Errors elsewhere in it are ignored."""
    found = ""
    for file in (config, *sorted((config.parent / "conf.d").glob("*.toml"))):
        try:
            control = tomllib.loads(file.read_text(encoding="utf-8")).get("control", {})
        except (OSError, ValueError):
            continue  # the daemon reports the error
        if isinstance(control, dict) and isinstance(control.get("socket"), str):
            found = control["socket"]
    return found


def report(answer: dict[str, Any]) -> list[str]:
    """The lines to print."""
    lines = ["reloaded"]
    if answer["restart"]:
        lines.append(f"needs a restart: {escaped(', '.join(answer['restart']))}")
    for why, count in answer["stale"].items():
        if count:
            lines.append(f"stale connections that {WHY.get(why, why)}: {count}")
    if answer["flushed"]:
        lines.append(f"stale connections ended: {answer['flushed']}")
    elif any(answer["stale"].values()):
        lines.append("conntrack-py -L --stale lists them, conntrack-py -D --stale ends them")
    return lines

"""`conntrackd-py upgrade`: makes the daemon hand its queues over to a new process of the installed version."""

import argparse
import sys
import time
from typing import Any, Final

from conntrackd_py.cli.conntrackd.reload import connected
from conntrackd_py.control.client import Client, ClientError
from conntrackd_py.control.escape import escaped, escaped_lines
from conntrackd_py.control.protocol.requests import DaemonStatus, Upgrade

PATIENCE: Final = 60.0  # seconds for the new process to start
TRIES: Final = 600
EVERY: Final = 0.05  # seconds


def main(args: argparse.Namespace) -> int:
    """0 when the new process answers, or 1: if it did not start, the former one goes on."""
    try:
        with connected(args.socket, args.config, PATIENCE) as client:
            path = client.path
            pid = next(client.ask(Upgrade()))["upgrade"]["pid"]
        status = _status(path, pid)
    except ClientError as error:
        sys.stderr.write(f"conntrackd-py upgrade: {escaped_lines(str(error))}\n")
        return 1
    pause = status["journal"]["pause"]
    waited = f"; packets waited {pause:.3f} s" if pause is not None else ""
    sys.stdout.write(f"version {escaped(status['version'])}, process {pid}{waited}\n")
    return 0


def _status(path: str, pid: int) -> dict[str, Any]:
    """The status of this process, as soon as it answers. ClientError when it does not."""
    why = ""
    for _ in range(TRIES):
        try:
            with Client(path) as client:
                status: dict[str, Any] = next(client.ask(DaemonStatus()))["status"]
            if status["pid"] == pid:
                return status
        except (ClientError, StopIteration) as error:  # between the two processes
            why = f": {error}"
        time.sleep(EVERY)
    raise ClientError(f"the new process does not answer; its messages are in the log{why}")

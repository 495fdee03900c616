"""Tells the daemon that a command changes the steering rules, so that it does not restore the former ones."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from conntrackd_py.cli.conntrackd.reload import configured_socket
from conntrackd_py.control.client import DEFAULT_PATH, VARIABLE, Client, ClientError
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Steering
from conntrackd_py.control.steering import network

PATIENCE: Final = 3.0  # seconds
UNTOLD: Final = "conntrackd-py rules: the daemon may undo this, it could not be told: {}\n"


@contextlib.contextmanager
def held(config: Path) -> Iterator["Hold"]:
    """The daemon leaves the rules alone meanwhile, and takes over what it finds afterwards. An exception: it restores.

    Without a daemon nothing happens. A daemon that cannot be told is reported; the command goes on.
    """
    with contextlib.ExitStack() as stack:
        hold = Hold(_begin(config, stack))
        yield hold
        hold.say("done")


class Hold:
    """client: None if no daemon was told."""

    def __init__(self, client: Client | None) -> None:
        self.client = client

    def say(self, step: Literal["trial", "done"]) -> None:
        if self.client is not None:
            _ask(self.client, Steering(step))


def _begin(config: Path, stack: contextlib.ExitStack) -> Client | None:
    """The connection that holds the guard."""
    path = os.environ.get(VARIABLE) or configured_socket(config) or DEFAULT_PATH
    try:
        client = stack.enter_context(Client(path, PATIENCE))
    except ClientError as error:
        if not isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            _report(error)
        return None
    return client if _ask(client, Steering(network=network())) else None


def _ask(client: Client, request: Steering) -> bool:
    """Whether the daemon agrees; it does not if its rules are those of another network namespace."""
    try:
        return bool(next(client.ask(request))["steering"])
    except ClientError as error:
        _report(error)
        return False


def _report(error: ClientError) -> None:
    sys.stderr.write(UNTOLD.format(escaped(str(error))))

"""`conntrackd-py export`: prints the connections of the daemon, one JSON object a line."""

import argparse
import sys
from typing import Final

from msgspec.json import Encoder

from conntrackd_py.cli.conntrack.request import filter_of
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.cli.conntrackd.options import EXPORT_FILTERS
from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import Export

encode: Final = Encoder().encode


def main(args: argparse.Namespace) -> int:
    """0, or 1 if the daemon does not answer to the end: then the last line is missing. 2: a wrong filter."""
    given = {key: value for key in EXPORT_FILTERS if (value := getattr(args, key)) is not None}
    if "state" in given and "proto" not in given:
        return _failed("--state needs --protonum", 2)
    try:
        request = Export(filter_of(given))
    except UsageError as error:
        return _failed(str(error), 2)
    write = sys.stdout.buffer.write
    try:
        with Client(socket_path(args.socket)) as client:
            for line in client.ask(request):
                if "done" in line:
                    write(encode({"connections": line["done"]}) + b"\n")
                    break
                write(encode(line) + b"\n")
    except ClientError as error:
        return _failed(str(error), 1)
    return 0


def _failed(why: str, status: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"conntrackd-py export: {escaped(why)}\n")
    return status

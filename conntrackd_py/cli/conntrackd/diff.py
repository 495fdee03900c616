"""`conntrackd-py diff`: compares the daemon's table with the kernel's, in mode observe.

Both tables change while they are read. A difference is reported only if it is in each of TRIES comparisons, unchanged.
Loopback is left out: the daemon does not see it.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from conntrackd_py.cli.conntrack.format import connection_line
from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import IPPROTO_SCTP, IPPROTO_TCP, PROTO_NAMES, STATUS_NAMES
from conntrackd_py.control.client import Client, ClientError, socket_path
from conntrackd_py.control.escape import escaped
from conntrackd_py.control.protocol.requests import List
from conntrackd_py.control.view import names, tuple_fields
from conntrackd_py.kernel.ctnetlink import Ctnetlink, Entry
from conntrackd_py.proto import sctp, tcp_states

Fields = Mapping[str, Any]
Table = dict[str, Fields]

TRIES: Final = 3
BETWEEN: Final = 0.5  # seconds
STATES: Final = {IPPROTO_TCP: tcp_states.STATE_NAMES, IPPROTO_SCTP: sctp.STATE_NAMES}
# Set by the kernel when its NAT has handled the connection; the observing daemon does no NAT.
NOT_COMPARED: Final = {"SRC_NAT_DONE", "DST_NAT_DONE"}


def main(args: argparse.Namespace) -> int:
    """0 if both tables are equal, 1 if they differ, 2 if one cannot be read."""
    try:
        found = persistent(socket_path(args.socket))
    except ClientError as error:
        print(f"conntrackd-py diff: {escaped(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"conntrackd-py diff: cannot read the kernel's table: {error.strerror or error}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    print(f"conntrackd-py diff: {len(found) or 'no'} difference{'' if len(found) == 1 else 's'}", file=sys.stderr)
    return 1 if found else 0


def persistent(path: str) -> list[str]:
    """The differences that all comparisons have in common."""
    seen: dict[str, str] = {}
    for attempt in range(TRIES):
        if attempt:
            time.sleep(BETWEEN)
        now = differences(of_kernel(), of_daemon(path))
        seen = now if not attempt else {key: text for key, text in now.items() if key in seen}
        if not seen:
            break
    return list(seen.values())


def differences(kernel: Table, daemon: Table) -> dict[str, str]:
    """The differences as text, by connection and kind."""
    found = {}
    for key in sorted(kernel.keys() | daemon.keys()):
        if key not in daemon:
            found[f"{key} kernel"] = f"only the kernel has  {_line(kernel[key])}"
        elif key not in kernel:
            found[f"{key} daemon"] = f"only the daemon has  {_line(daemon[key])}"
        else:
            for name in ("state", "status", "reply"):
                in_kernel, in_daemon = _comparable(kernel[key], name), _comparable(daemon[key], name)
                if in_kernel != in_daemon:
                    found[f"{key} {name} {in_kernel} {in_daemon}"] = (
                        f"{name} differs: kernel {in_kernel}, daemon {in_daemon}  {_line(daemon[key])}"
                    )
    return found


def _comparable(ct: Fields, name: str) -> str:
    value = ct.get(name, "")
    if name == "status":
        return ",".join(flag for flag in value if flag not in NOT_COMPARED)
    if name == "reply":
        return " ".join(f"{key}={part}" for key, part in value.items() if key not in ("packets", "bytes"))
    return str(value)


def _line(ct: Fields) -> str:
    return connection_line(ct, frozenset())


def of_daemon(path: str) -> Table:
    found = []
    with Client(path) as client:
        for line in client.ask(List()):
            if "done" in line:
                break
            found.append(line["ct"])
    return {_key(ct): ct for ct in found if not _loopback(ct)}


def of_kernel() -> Table:
    with Ctnetlink() as ctnetlink:
        found = [describe(entry) for entry in ctnetlink.dump()]
    return {_key(ct): ct for ct in found if not _loopback(ct)}


def describe(entry: Entry) -> dict[str, Any]:
    """An entry of the kernel with the keys of control/view.py."""
    protonum = tuples.protonum(entry.original)
    described: dict[str, Any] = {
        "family": "ipv4" if tuples.address_length(entry.original) == 4 else "ipv6",
        "proto": PROTO_NAMES.get(protonum, "unknown"),
        "protonum": protonum,
        "timeout": entry.timeout,
        "status": names(entry.status, STATUS_NAMES),
        "orig": tuple_fields(entry.original),
        "reply": tuple_fields(entry.reply),
        "mark": 0,
    }
    if protonum in STATES:
        described["state"] = STATES[protonum][entry.state]
    zone = tuples.zone(entry.original)
    if zone:
        described["zone"] = zone
    return described


def _key(ct: Fields) -> str:
    orig = " ".join(f"{key}={part}" for key, part in ct["orig"].items() if key not in ("packets", "bytes"))
    return f"{ct['protonum']} {orig} {ct.get('zone', 0)}"


def _loopback(ct: Fields) -> bool:
    return bool(ct["orig"]["src"].startswith("127.") or ct["orig"]["src"] == "::1")

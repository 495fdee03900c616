"""Whether this command runs in an SSH session that the steering rules would cut off.

sshd gives the session SSH_CONNECTION; sudo removes it, so the parent processes are asked too.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conntrackd_py.kernel.queues.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.steering.plan import Plan
from conntrackd_py.kernel.steering.programs import program

VARIABLE: Final = b"SSH_CONNECTION="
PROC: Final = Path("/proc")


def cut_off(plan: Plan) -> str:
    """The client of the session that the rules would cut off; empty if there is none.

    Rules drop packets while no daemon reads the queue. They do not affect interfaces in exclude_interfaces, and other
    network namespaces (the lab).
    """
    if plan.bypass or any(row.number == plan.queue for row in queue_rows(QUEUES)):
        return ""
    client, process = ssh_client(os.getpid())
    if not client or _namespace(process) != _namespace(os.getpid()):
        return ""
    return "" if _interface_to(client) in plan.exclude_interfaces else client


def ssh_client(pid: int) -> tuple[str, int]:
    """The address of the SSH client of this process, and its oldest ancestor in the session; ("", 0) without one."""
    client, oldest = "", 0
    for process in _ancestors(pid):
        try:
            variables = (PROC / str(process) / "environ").read_bytes().split(b"\0")
        except OSError:  # of another user, or it has ended
            continue
        for variable in variables:
            if variable.startswith(VARIABLE):
                client = variable.removeprefix(VARIABLE).split(b" ")[0].decode(errors="replace")
                oldest = process
    return client, oldest


def _namespace(pid: int) -> str:
    """The network namespace of a process; empty if it cannot be read."""
    try:
        return str((PROC / str(pid) / "ns" / "net").readlink())
    except OSError:
        return ""


def _ancestors(pid: int) -> Iterator[int]:
    """The process, its parent, and so on."""
    while pid > 0:
        yield pid
        try:
            # The name in parentheses may contain anything; the parent is the second field after it.
            pid = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


def _interface_to(address: str) -> str:
    """The interface by which packets to the address leave; empty if it cannot be found out."""
    ip = program("ip")
    if ip is None:
        return ""
    done = subprocess.run([ip, "route", "get", address], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[words.index("dev") + 1] if "dev" in words[:-1] else ""

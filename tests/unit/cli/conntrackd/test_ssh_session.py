"""The SSH client of a process, also below sudo, which removes SSH_CONNECTION."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conntrackd_py.cli.conntrackd.ssh_session import ssh_client

ASK = "import os; from conntrackd_py.cli.conntrackd.ssh_session import ssh_client; print(ssh_client(os.getpid())[0])"
SUDO = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], env={})"


def asked(*words: str, connection: str) -> str:
    env = {**os.environ, "SSH_CONNECTION": connection}
    done = subprocess.run([sys.executable, "-c", *words], capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


@pytest.mark.parametrize("words", [(ASK,), (SUDO, ASK)], ids=["sshd", "sudo"])
@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7"])
def test_the_client_of_the_session(words: tuple[str, ...], client: str) -> None:
    assert asked(*words, connection=f"{client} 50000 192.0.2.1 22") == client


def test_init_has_no_client() -> None:
    assert ssh_client(1) == ("", 0)
    assert ssh_client(0) == ("", 0)

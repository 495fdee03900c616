"""FTP with a real server and client, active and passive, in both roles: through conntrackd-py and through the kernel.

Both routers have the same rules. What each end reads, and what is expected, must be the same but for ports.
"""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from conntrackd_py.lab.namespaces import ROUTER, ROUTER6, SERVER, SERVER6, Topology
from tests.support import helped
from tests.support.helped import Net, listening
from tests.support.waiting import wait_until

CONTENT = bytes(range(256)) * 1200
# The data ports are none of helped.KEPT: the comparison writes N for all other ports.
VSFTPD = """
background=NO
listen=NO
listen_ipv6=YES
anonymous_enable=YES
anon_root={folder}/files
secure_chroot_dir={folder}/empty
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file={folder}/{name}.log
isolate_network=NO
seccomp_sandbox=NO
connect_from_port_20=YES
pasv_min_port=20000
pasv_max_port=60000
"""
# Each mode of curl.
MODES = {
    "pasv": ("--disable-epsv",),
    "epsv": (),
    "port": ("--ftp-port", "-", "--disable-eprt"),
    "eprt": ("--ftp-port", "-"),
}
ROLES = {"source": (SERVER, SERVER6), "destination": (ROUTER, ROUTER6)}
# One session: active and passive in turn, each time after a line of input.
SESSION = """
import ftplib, hashlib, sys
ftp = ftplib.FTP(timeout=50)
ftp.connect(sys.argv[1])
ftp.login()
print("ready", flush=True)
for line in sys.stdin:
    ftp.set_pasv(line == "passive\\n")
    digest = hashlib.sha256()
    ftp.retrbinary("RETR data", digest.update)
    print(digest.hexdigest(), flush=True)
"""
COMMAND = re.compile(r'FTP command: Client "[^"]*", "((?:PORT|EPRT|PASV|EPSV)[^"]*)"')


def serve(net: Net) -> None:
    """An FTP server at both ends."""
    folder = net.topology.folder
    (folder / "files").mkdir()
    (folder / "empty").mkdir()
    (folder / "files" / "data").write_bytes(CONTENT)
    for name, where in (("inside", net.topology.client), ("outside", net.topology.server)):
        config = folder / f"{name}.conf"
        config.write_text(VSFTPD.format(folder=folder, name=name))
        where.start("vsftpd", str(config))
        wait_until(partial(listening, where, 21), "no FTP server")


def fetch(net: Net, role: str, family: int, mode: str) -> tuple[list[str], list[str], str]:
    """What the client reads, what the server reads, and the digest of the file."""
    topology = net.topology
    who, server = (topology.client, "outside") if role == "source" else (topology.server, "inside")
    host = ROLES[role][family == 6]
    host = f"[{host}]" if family == 6 else host
    log, got = topology.folder / f"{server}.log", topology.folder / "got"
    before = len(log.read_text()) if log.exists() else 0
    done = who.complete("curl", "-svS", "--max-time", "50", *MODES[mode], "-o", str(got), f"ftp://{host}/data")
    assert done.returncode == 0, done.stderr
    answers = [line[2:] for line in done.stderr.splitlines() if line.startswith("< 22")]
    commands = COMMAND.findall(log.read_text()[before:])
    return (
        [anyport(line) for line in answers],
        [anyport(line) for line in commands],
        hashlib.sha256(got.read_bytes()).hexdigest(),
    )


def anyport(text: str) -> str:
    """Without the port: the last two numbers of four and two, or the number before the last delimiter."""
    return re.sub(r"(\d+,\d+,\d+,\d+),\d+,\d+", r"\1,P,P", re.sub(r"\|\d+\|(?=\D*$)", "|P|", text))


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Net, Net]]:
    with helped.both() as nets:
        for net in nets:
            serve(net)
        yield nets


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("role", ROLES)
def test_a_file_through_both(both: tuple[Net, Net], role: str, family: int, mode: str) -> None:
    """Both ends read the same, both routers expect the same, and the file arrives."""
    mine, kernels = (fetch(net, role, family, mode) for net in both)
    assert mine == kernels
    assert mine[0]
    assert mine[2] == hashlib.sha256(CONTENT).hexdigest()
    wait_until(lambda: all(net.expected() for net in both), "nothing expected")
    assert both[0].expected()[-1:] == both[1].expected()[-1:]


def test_at_the_end_the_expectations_were_the_same(both: tuple[Net, Net]) -> None:
    assert both[0].expected() == both[1].expected()


def test_a_control_connection_with_losses(both: tuple[Net, Net]) -> None:
    """One packet in five is lost: retransmissions and SACK blocks of a control connection that was changed."""
    where = both[0].topology.server
    lossy = ("INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP")
    where.run("ip6tables", "-A", *lossy)
    try:
        for mode in ("eprt", "epsv"):
            assert fetch(both[0], "source", 6, mode)[2]
    finally:
        where.run("ip6tables", "-D", *lossy)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "kill"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_session_lives_on_through_restarts(family: int, number: int) -> None:
    """Changed commands before and behind each restart: the numbers stay right, and the helper goes on."""
    with Topology() as topology:
        net = Net(topology, kernel=False)
        serve(net)
        router = net.daemon
        assert router is not None
        for where, role in ((topology.client, "source"), (topology.server, "destination")):
            words = (sys.executable, "-P", "-c", SESSION, ROLES[role][family == 6])
            session = where.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert session.stdin is not None
            assert session.stdout is not None
            assert session.stdout.readline() == "ready\n"
            for mode in ("active", "passive", "passive", "active"):
                session.stdin.write(f"{mode}\n")
                session.stdin.flush()
                assert session.stdout.readline().strip() == hashlib.sha256(CONTENT).hexdigest(), mode
                router.stop(number)
                router.start()
            session.stdin.close()
            assert session.wait(20) == 0
        assert router.said().count('"event": "restored"') == 8


def test_the_kernel_tracks_beside_the_daemon() -> None:
    """It sees the numbers that each end sent, so nothing is INVALID for it, whatever was changed."""
    with Topology() as topology:
        net = Net(topology, kernel=False, keep=True)
        serve(net)
        for program in ("iptables", "ip6tables"):
            for chain in ("INPUT", "FORWARD"):
                net.topology.router.run(program, "-A", chain, "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
        for role in ROLES:
            for mode in MODES:
                assert fetch(net, role, 6, mode)[2] == hashlib.sha256(CONTENT).hexdigest()
        for program in ("iptables", "ip6tables"):
            counters = net.topology.router.run(program, "-vxnL", "FORWARD").splitlines()[2].split()
            assert counters[0] == "0"

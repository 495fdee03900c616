"""FTP with a real server and client, active and passive, in both roles: through conntrackd-py and through the kernel.

Both routers have the same rules. What each end reads, and what is expected, must be the same but for ports.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import (
    CLIENT,
    CLIENT6,
    ROUTER,
    ROUTER6,
    SERVER,
    SERVER6,
    Namespace,
    Topology,
)
from conntrackd_py.lab.router import CONNTRACK, Router
from tests.support.processes import MASQUERADE
from tests.support.waiting import wait_until

SIZE = 300_000
VSFTPD = """
background=NO
listen=NO
listen_ipv6=YES
anonymous_enable=YES
anon_root={folder}/files
anon_upload_enable=NO
secure_chroot_dir={folder}/empty
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file={folder}/{name}.log
isolate_network=NO
seccomp_sandbox=NO
connect_from_port_20=YES
"""
CONFIG = f"""
mode = "nat"
[metrics]
listen = ""
[control]
socket = "%s"
[[raw]]
proto = "tcp"
dport = 21
helper = "ftp"
{MASQUERADE}
[[nat]]
in_interface = "wan0"
destination = "{ROUTER}"
proto = "tcp"
dport = 21
action = "DNAT"
to = "{CLIENT}"
[[nat]]
in_interface = "wan0"
destination = "{ROUTER6}"
proto = "tcp"
dport = 21
action = "DNAT"
to = "{CLIENT6}"
"""
# The mode of curl, and what only this mode says.
MODES = {
    "pasv": ("--disable-epsv",),
    "epsv": (),
    "port": ("--ftp-port", "-", "--disable-eprt"),
    "eprt": ("--ftp-port", "-"),
}
ROLES = {"source": (SERVER, SERVER6), "destination": (ROUTER, ROUTER6)}


class Net:
    """A topology with an FTP server at both ends, and a router."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.log = topology.folder / "expected"

    def serve(self) -> None:
        folder = self.topology.folder
        (folder / "files").mkdir()
        (folder / "empty").mkdir()
        (folder / "files" / "data").write_bytes(bytes(range(256)) * (SIZE // 256))
        for name, where in (("inside", self.topology.client), ("outside", self.topology.server)):
            config = folder / f"{name}.conf"
            config.write_text(VSFTPD.format(folder=folder, name=name))
            config.chmod(0o600)
            process = where.start("vsftpd", str(config))
            wait_until(partial(_listening, where), "no FTP server")
            assert process.poll() is None

    def fetch(self, role: str, family: int, mode: str) -> tuple[list[str], list[str], str]:
        """What the client reads, what the server reads, and the digest of the file."""
        folder = self.topology.folder
        who, server = (self.topology.client, "outside") if role == "source" else (self.topology.server, "inside")
        host = ROLES[role][family == 6]
        host = f"[{host}]" if family == 6 else host
        log, got = folder / f"{server}.log", folder / "got"
        before = len(log.read_text()) if log.exists() else 0
        words = ("curl", "-svS", "--max-time", "60", *MODES[mode], "-o", str(got), f"ftp://{host}/data")
        done = who.complete(*words)
        assert done.returncode == 0, done.stderr
        client = [line[2:] for line in done.stderr.splitlines() if line.startswith("< 22")]
        server_read = re.findall(
            r'FTP command: Client "[^"]*", "((?:PORT|EPRT|PASV|EPSV)[^"]*)"', log.read_text()[before:]
        )
        return client, server_read, hashlib.sha256(got.read_bytes()).hexdigest()

    def expected(self) -> list[str]:
        """New expectations, without times and ports that a host chooses."""
        lines = [line for line in self.log.read_text().splitlines() if "[NEW]" in line]
        return [
            re.sub(r"(\[NEW\]) \d+|(?<=sport=)(?!0\b|65535\b|21\b)\d+|(?<=dport=)(?!0\b|65535\b|21\b)\d+", "N", line)
            for line in lines
        ]


def ours(topology: Topology) -> None:
    router = Router(topology, CONFIG)
    router.install_rules()
    router.start()
    words = (*CONNTRACK, "--socket", str(router.socket), "-E", "expect")
    _listen(topology.router, topology.folder, words)


def kernels(topology: Topology) -> None:
    where = topology.router
    for program, inside in (("iptables", CLIENT), ("ip6tables", CLIENT6)):
        helper = ("-p", "tcp", "--dport", "21", "-j", "CT", "--helper", "ftp")
        where.run(program, "-t", "raw", "-A", "PREROUTING", *helper)
        where.run(program, "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
        target = ("-i", "wan0", "-p", "tcp", "--dport", "21", "-j", "DNAT", "--to", inside)
        where.run(program, "-t", "nat", "-A", "PREROUTING", *target)
    _listen(where, topology.folder, ("conntrack", "-E", "expect"))


def _listening(where: Namespace) -> bool:
    return ":21 " in where.run("ss", "-Hltn")


def _listen(where: Namespace, folder: Path, words: tuple[str, ...]) -> None:
    with (folder / "expected").open("w") as out, (folder / "problems").open("w") as problems:
        process = where.start(*words, stdout=out, stderr=problems)
    wait_until(lambda: process.poll() is None, "no listener")


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Net, Net]]:
    """conntrackd-py, the kernel."""
    with Topology() as first, Topology() as second:
        nets = Net(first), Net(second)
        ours(first)
        kernels(second)
        for net in nets:
            net.serve()
        yield nets


def anyport(text: str) -> str:
    """Without the port: the last two numbers of four and two, or the number before the last delimiter."""
    return re.sub(r"(\d+,\d+,\d+,\d+),\d+,\d+", r"\1,P,P", re.sub(r"\|\d+\|(?=\D*$)", "|P|", text))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("role", ROLES)
def test_a_file_through_both(both: tuple[Net, Net], role: str, family: int, mode: str) -> None:
    """Both ends read the same, both routers expect the same, and the file arrives."""
    whole = hashlib.sha256((both[0].topology.folder / "files" / "data").read_bytes()).hexdigest()
    found = []
    for net in both:
        client, server, digest = net.fetch(role, family, mode)
        assert digest == whole
        found.append(([anyport(line) for line in client], [anyport(line) for line in server]))
    assert found[0] == found[1]
    assert any(found[0])
    wait_until(lambda: bool(both[0].expected()) and bool(both[1].expected()), "nothing expected")
    assert both[0].expected()[-1:] == both[1].expected()[-1:]


def test_at_the_end_the_expectations_were_the_same(both: tuple[Net, Net]) -> None:
    assert both[0].expected() == both[1].expected()


def test_a_stream_with_a_loss_after_a_change(both: tuple[Net, Net]) -> None:
    """One packet in five is lost: retransmissions and SACK blocks of a control connection that was changed."""
    where = both[0].topology.server
    lossy = ("INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP")
    where.run("ip6tables", "-A", *lossy)
    try:
        for mode in ("eprt", "epsv"):
            assert both[0].fetch("source", 6, mode)[2]
    finally:
        where.run("ip6tables", "-D", *lossy)

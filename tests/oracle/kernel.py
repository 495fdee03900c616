"""The kernel as oracle: packets go into a namespace by TUN, and nf_conntrack's opinion of each comes back.

    client side  tunc ─► [ namespace: nf_conntrack, forwarding ] ─► tuns  server side

Rules in mangle PREROUTING, right behind the kernel's conntrack_in, write ctstate and ctdir of each packet
into its mark and queue it; the verdict is always accept, so it goes on to be confirmed. Then ctnetlink is
asked for the connection: state, status, timeout left, both tuples. (This kernel's queue cannot hand out
the connection with the packet.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyroute2 import netns

from conntrackd_py.kernel.ctnetlink import Ctnetlink, Entry, attributes
from conntrackd_py.kernel.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST, attribute

CLIENT_SIDE, SERVER_SIDE = "tunc", "tuns"

QUEUE = 3 << 8  # NFNL_SUBSYS_QUEUE
MSG_PACKET, MSG_VERDICT, MSG_CONFIG = QUEUE | 0, QUEUE | 1, QUEUE | 2
CFG_CMD, CFG_PARAMS = 1, 2
NFQA_PACKET_HDR, NFQA_VERDICT_HDR, NFQA_MARK = 1, 2, 3
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


CONDITIONS = {
    0: "--ctstate ESTABLISHED --ctdir ORIGINAL",
    1: "--ctstate RELATED --ctdir ORIGINAL",
    2: "--ctstate NEW",
    3: "--ctstate ESTABLISHED --ctdir REPLY",
    4: "--ctstate RELATED --ctdir REPLY",
    5: "--ctstate INVALID",
    7: "--ctstate UNTRACKED",
}  # by ctinfo


@dataclass(frozen=True)
class Held:
    """A packet that waits in the queue."""

    ident: bytes
    ctinfo: int


@dataclass
class Kernel:
    """A namespace with conntrack in it. Use as a context manager. nat: with nf_nat as well, and no rule of its own."""

    sysctls: dict[str, int] = field(default_factory=dict)
    nat: bool = False

    def __enter__(self) -> Kernel:
        self.name = f"ctpy-oracle-{secrets.token_hex(4)}"
        netns.create(self.name)
        try:
            netns.pushns(self.name)
            try:
                self._set_up()
            finally:
                netns.popns()
        except BaseException:
            netns.remove(self.name)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.tuns.values():
            os.close(fd)
        self.queue.close()
        self.ctnetlink.close()
        netns.remove(self.name)

    def _set_up(self) -> None:
        self.tuns = {name: _tun(name) for name in (CLIENT_SIDE, SERVER_SIDE)}
        commands = [
            f"ip link set {CLIENT_SIDE} up mtu 9000",
            f"ip link set {SERVER_SIDE} up mtu 9000",
            f"ip route add 192.168.0.0/16 dev {CLIENT_SIDE}",
            f"ip route add 198.51.100.0/24 dev {SERVER_SIDE}",
            f"ip -6 route add fd00::/16 dev {CLIENT_SIDE}",
            f"ip -6 route add 2001:db8:2::/48 dev {SERVER_SIDE}",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        ]
        for program in ("iptables", "ip6tables"):
            for ctinfo, condition in CONDITIONS.items():
                commands.append(
                    f"{program} -t mangle -A PREROUTING -m conntrack {condition} -j MARK --set-mark {8 + ctinfo}"
                )
            commands.append(f"{program} -t mangle -A PREROUTING -j NFQUEUE --queue-num 0")
            if self.nat:
                commands.append(f"{program} -t nat -A POSTROUTING -j ACCEPT")
        commands += [f"sysctl -qw net.netfilter.{key}={int(value)}" for key, value in self.sysctls.items()]
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        self.queue = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.queue.bind((0, 0))
        self.queue.settimeout(1)
        self._configure(attribute(CFG_CMD, struct.pack(">BBH", 1, 0, socket.AF_INET)))
        self._configure(attribute(CFG_PARAMS, struct.pack(">IB", 0xFFFF, 2)))
        self.ctnetlink = Ctnetlink()

    def _send(self, kind: int, body: bytes, flags: int = NLM_F_REQUEST) -> None:
        message = struct.pack(">BBH", 0, 0, 0) + body
        self.queue.send(struct.pack("=IHHII", 16 + len(message), kind, flags, 1, 0) + message)

    def _configure(self, body: bytes) -> None:
        self._send(MSG_CONFIG, body, NLM_F_REQUEST | NLM_F_ACK)
        answer = self.queue.recv(8192)
        (error,) = struct.unpack_from("=i", answer, 16)
        if error:
            raise OSError(-error, os.strerror(-error))

    def see(self, packet: bytes, side: str) -> int | None:
        """Inject one packet and let it pass; its ctinfo, or None when the kernel dropped it before tracking."""
        held = self.arrive(packet, side)
        if held is None:
            return None
        self.leave(held)
        return held.ctinfo

    def arrive(self, packet: bytes, side: str) -> Held | None:
        """Inject one packet and hold it between tracking and confirmation; None as above."""
        self._drain()
        os.write(self.tuns[side], packet)
        try:
            message = self.queue.recv(0x20000)
        except TimeoutError:
            return None
        found = attributes(message[20:])
        (mark,) = struct.unpack(">I", found[NFQA_MARK])
        return Held(found[NFQA_PACKET_HDR][:4], int(mark) - 8)

    def leave(self, held: Held) -> None:
        """Send a held packet on; when this returns, its connection has been confirmed or the packet dropped."""
        self._send(MSG_VERDICT, attribute(NFQA_VERDICT_HDR, struct.pack(">I", 1) + held.ident))

    def entry(self, t: bytes) -> Entry | None:
        """The connection with this tuple as its original one, or None."""
        return self.ctnetlink.get(t)

    def _drain(self) -> None:
        for fd in self.tuns.values():
            with contextlib.suppress(BlockingIOError):
                while os.read(fd, 0x10000):
                    pass


def _tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


@contextlib.contextmanager
def kernel(nat: bool = False, /, **sysctls: int) -> Iterator[Kernel]:
    with Kernel(sysctls, nat) as one:
        yield one

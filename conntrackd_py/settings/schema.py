"""The configuration as frozen dataclasses, one per table, with a comment per key and the default values.

The [tunables] table is conntrack/tunables.py. A [[nat]] rule is a NatRule (natrule.py), a [[filter.rule]] a FilterRule
(filterrule.py), a [[connmark]] rule a MarkRule (raw_mangle.py). config/conntrackd.toml is the annotated sample.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP, PRE_ROUTING
from conntrackd_py.engine.raw_mangle import MarkRule
from conntrackd_py.filter import nft_ruleset
from conntrackd_py.filter.policy import Chain, FilterRule, Policy
from conntrackd_py.match import address
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rewrite import mss
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.settings import tls
from conntrackd_py.settings.errors import Finding

if TYPE_CHECKING:
    from ssl import SSLContext

NAT: Final = "nat"
TRACK: Final = "track"
OBSERVE: Final = "observe"
MODES: Final = (NAT, TRACK, OBSERVE)

NETFILTER: Final = "netfilter"
RFC7857: Final = "rfc7857"
TCP_TRACKERS: Final = (NETFILTER, RFC7857)

FAMILIES: Final = tuple(address.FAMILIES)

NFLOG: Final = "nflog"
NFQUEUE: Final = "nfqueue"
VIAS: Final = (NFLOG, NFQUEUE)

HEADERS: Final = "headers"
WHOLE: Final = "whole"
LARGE_PACKETS: Final = (WHOLE, HEADERS)
ON_ERROR: Final = ("drop", "accept")
DROP: Final = "drop"
REJECT: Final = "reject"
NAT_EXHAUSTED: Final = (DROP, REJECT)
ON_STOP: Final = ("remove", "keep")
AUTO: Final = "auto"
NFT: Final = "nft"
IPTABLES: Final = "iptables"
PROGRAMS: Final = (AUTO, NFT, IPTABLES)
KEEP: Final = "keep"
OFF: Final = "off"
ESTABLISHED: Final = "established"
OFFLOADS: Final = (OFF, ESTABLISHED)
KERNEL_CONNTRACK: Final = (AUTO, KEEP, OFF)
GUARDS: Final = ("restore", "alarm")
SYNC_ROLES: Final = ("active", "standby")
SYNC_SCHEMES: Final = ("redis", "rediss", "unix")
VERDICTS: Final = ("accept", "drop")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("auto", "json", "console")


@dataclass(frozen=True)
class Queue:
    first: int = 0  # queue number of incoming packets; outgoing packets have the next number
    max_length: int = 8192  # packets waiting in the kernel; it drops further ones
    socket_buffer: int = 16777216  # receive buffer of the queue's socket, in bytes
    gso: bool = True  # receive super-packets whole, not cut into segments
    known_first: bool = True  # serve packets of known connections before those of new ones
    large_packets: str = HEADERS  # of known connections: only their headers are queued, the kernel rewrites them
    on_error: str = "drop"  # verdict on a packet on which the daemon's own code failed
    fail_open: bool = False  # accept packets while no daemon is bound to the queue; not in mode nat


@dataclass(frozen=True)
class Observe:
    via: str = NFLOG  # nflog: copies, nothing is held; nfqueue: packets wait for the daemon
    group: int = 9466  # NFLOG group of the copies
    socket_buffer: int = 16777216  # receive buffer of the copies, in bytes


@dataclass(frozen=True)
class Offload:
    mode: str = OFF  # established: the kernel forwards packets of established connections, no queue sees them
    packets: int = 16  # that a connection must have had
    bytes: int = 0  # or so many bytes, if that is reached first; 0: only packets count


@dataclass(frozen=True)
class Steering:
    mark_mask: int = 0xFFFFFF00  # bits of the packet mark that the daemon uses; 0: none
    exclude_interfaces: tuple[str, ...] = ("lo",)  # never queued; + at the end matches any continuation
    families: tuple[str, ...] = FAMILIES  # steered to the queue
    program: str = AUTO  # which program's rules queue packets; auto: nft if the kernel takes it, otherwise iptables
    kernel_conntrack: str = AUTO  # keep or switch off the kernel's tracking; auto: keep it if other rules need it
    local: bool = True  # also the router's own traffic (INPUT and OUTPUT)
    on_stop: str = "remove"  # the steering rules when the service stops; keep: no packet passes
    guard: str = "restore"  # the steering rules when another program deletes them; alarm: only report it


@dataclass(frozen=True)
class Filter:
    default_in: str = "accept"  # verdict if no rule matches, on packets to the router
    default_forward: str = "accept"  # on forwarded packets
    default_out: str = "accept"  # on packets from the router
    rule: tuple[FilterRule, ...] = ()  # in order, the first match decides
    nft: str = ""  # a ruleset in nft's syntax, applied after the rules
    file: str = ""  # the file of that ruleset; `nft` then holds its text

    def chains(self) -> list[Chain]:
        """A chain per hook that has rules or another default than accept, then the chains of the ruleset."""
        found: list[Chain] = []
        defaults = ((LOCAL_IN, self.default_in), (FORWARD, self.default_forward), (LOCAL_OUT, self.default_out))
        for hook, default in defaults:
            rules = [rule for rule in self.rule if hook in rule.hooks]
            if rules or default != "accept":
                found.append(Chain(hook, rules, NF_ACCEPT if default == "accept" else NF_DROP, label="filter"))
        return found + nft_ruleset.parse(self.nft)

    def policy(self) -> Policy | None:
        """A new policy with counters at zero; None when nothing is filtered."""
        chains = self.chains()
        return Policy(chains) if chains else None


@dataclass(frozen=True)
class RawSpec:
    match: Match
    notrack: bool = False  # do not track the packet
    zone_orig: int = 0  # zone of the original tuple
    zone_reply: int = 0  # zone of the reply tuple
    tcp_tracker: str = ""  # TCP tracker of new connections; empty: the usual one
    timeouts: tuple[tuple[str, int], ...] = ()  # other tunables for new connections
    helper: str = ""  # reads the control connection and expects the connections that it announces
    hooks: tuple[int, ...] = (PRE_ROUTING, LOCAL_OUT)


@dataclass(frozen=True)
class Metrics:
    listen: str = "127.0.0.1:9466"  # address:port of the Prometheus endpoint; empty: off
    tls_certificate: str = ""  # PEM file of certificate and chain; empty: plain HTTP
    tls_key: str = ""  # PEM file of its key
    client_ca: str = ""  # PEM file; clients need a certificate signed by it; empty: no client certificate
    node_exporter_names: bool = False  # also publish metrics under the names of node_exporter

    def address(self) -> tuple[str, int] | None:
        """(address, port) to listen on, or None when metrics are off."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    def tls(self) -> "SSLContext | None":
        """None for plain HTTP. Raises OSError when a file can no longer be used."""
        if not self.tls_certificate:
            return None
        return tls.context(self.tls_certificate, self.tls_key, self.client_ca)


@dataclass(frozen=True)
class Control:
    socket: str = "/run/conntrackd-py/control.sock"  # path
    mode: int = 0o660  # permissions; in the file an octal string
    group: str = ""  # group; empty: the daemon's own
    max_clients: int = 64  # commands connected at once
    max_request: int = 65536  # bytes of one request


@dataclass(frozen=True)
class Journal:
    enabled: bool = True  # connections live on through a restart and a crash of the daemon
    file: str = ""  # path; empty: that of the control socket, with .journal instead of .sock
    snapshot: str = ""  # path of a copy that a clean stop writes, for a reboot; empty: none

    def path(self, socket: str) -> str:
        """The file, for a daemon with this control socket. Each daemon of a machine has another one."""
        return self.file or f"{socket.removesuffix('.sock')}.journal"


@dataclass(frozen=True)
class Limits:
    connections_per_host: int = 0  # most connections that one address has opened; 0: no limit
    ports_per_host: int = 0  # most outer ports of one inside address, with endpoint-independent mapping; 0: no limit
    hosts: tuple[str, ...] = ()  # the networks whose hosts have a limit of connections; empty: all
    ipv6_prefix: int = 128  # bits of an IPv6 address that are one host; a multiple of 8

    def networks(self) -> list[bytes]:
        """First and last address of each of `hosts`."""
        return [bound for host in self.hosts for bound in address.network(host)]


@dataclass(frozen=True)
class Sync:
    url: str = ""  # of the Valkey or Redis server of the hot standby; rediss: is TLS; empty: off
    role: str = "standby"  # at the start; `conntrackd-py sync` changes it
    name: str = "conntrackd-py"  # of the pair of routers: a prefix of their keys
    username: str = ""  # of the server's access list
    password_file: str = ""  # whose first line is the password
    ca: str = ""  # PEM file that the server's certificate must be signed by; empty: those of the system
    certificate: str = ""  # PEM file of an own certificate
    key: str = ""  # PEM file of its key
    stale_after: int = 30  # seconds without a message after which a standby counts as stale


@dataclass(frozen=True)
class NatLog:
    file: str = ""  # path; empty: off
    connections: bool = True  # lines when a translated connection begins and ends
    destination: bool = True  # also of connections whose destination alone is translated
    blocks: bool = True  # lines when a block of ports is allocated and released
    buffer: int = 65536  # lines that wait for a slow disk; further ones are lost and counted


@dataclass(frozen=True)
class Log:
    level: str = "info"  # lowest severity that is logged
    format: str = "auto"  # auto: console on a terminal, json otherwise


@dataclass(frozen=True)
class Settings:
    profile: str = "netfilter"  # the defaults of other keys: as the kernel, or rfc: profile.py
    mode: str = NAT  # nat: track and translate; track: only track; observe: copies of packets only
    leak_guard: bool = True  # drop at POSTROUTING packets without a connection that a source rule matches
    avoid_bound_ports: bool = True  # a forwarded connection gets no port that a socket of the router holds
    nat_exhausted: str = DROP  # drop a packet for which no port is free; reject: with an answer to its sender
    clamp_mss: int = mss.OFF  # largest MSS in a forwarded SYN: OFF, PMTU (that of the two links) or a number
    queue: Queue = field(default_factory=Queue)
    observe: Observe = field(default_factory=Observe)
    offload: Offload = field(default_factory=Offload)
    steering: Steering = field(default_factory=Steering)
    limits: Limits = field(default_factory=Limits)
    tunables: Tunables = field(default_factory=Tunables)
    tcp_tracker: str = NETFILTER  # netfilter: the kernel's; rfc7857: ten states, no windows
    raw: tuple[RawSpec, ...] = ()  # before tracking, the first match decides
    connmark: tuple[MarkRule, ...] = ()  # after tracking, every match acts
    nat: tuple[NatRule, ...] = ()  # in order, the first match binds
    filter: Filter = field(default_factory=Filter)
    metrics: Metrics = field(default_factory=Metrics)
    control: Control = field(default_factory=Control)
    journal: Journal = field(default_factory=Journal)
    sync: Sync = field(default_factory=Sync)
    nat_log: NatLog = field(default_factory=NatLog)
    log: Log = field(default_factory=Log)
    warnings: tuple[Finding, ...] = field(default=(), compare=False)  # not a key: what the file may not mean

    def answers(self) -> bool:
        """Whether packets may be rejected with an answer."""
        return self.filter.policy() is not None or self.nat_exhausted == REJECT

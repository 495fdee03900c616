"""The configuration as frozen dataclasses: one a table, a comment a key, the defaults of an absent file.

The [tunables] table is conntrack/tunables.py; a [[nat]] rule is nat/rules.py, read by natrule.py; a
[[filter.rule]] is filter/policy.py, read by filterrule.py.
config/conntrackd.toml shows all of it as an administrator writes it.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP
from conntrackd_py.filter import nftfile
from conntrackd_py.filter.policy import Chain, FilterRule, Policy
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.settings import tls

if TYPE_CHECKING:
    from ssl import SSLContext

NAT: Final = "nat"
TRACK: Final = "track"
OBSERVE: Final = "observe"
MODES: Final = (NAT, TRACK, OBSERVE)

NETFILTER: Final = "netfilter"
RFC7857: Final = "rfc7857"
TCP_TRACKERS: Final = (NETFILTER, RFC7857)

IPV4: Final = "ipv4"
IPV6: Final = "ipv6"
FAMILIES: Final = (IPV4, IPV6)

ON_ERROR: Final = ("drop", "accept")
ON_STOP: Final = ("remove", "keep")
VERDICTS: Final = ("accept", "drop")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("auto", "json", "console")


@dataclass(frozen=True)
class Queue:
    first: int = 0  # number of the queue where packets come in; the next one is for those going out
    count: int = 1  # how many queues; only 1 so far
    max_length: int = 8192  # packets waiting in the kernel before it drops
    socket_buffer: int = 16777216  # bytes of receive buffer of the queue's socket
    gso: bool = True  # take super-packets whole instead of cut into segments
    on_error: str = "drop"  # verdict on a packet our own code failed on
    fail_open: bool = False  # let packets pass while no daemon is bound to the queue; never in mode nat


@dataclass(frozen=True)
class Steering:
    mark_mask: int = 0xFFFFFF00  # bits of the packet mark that are ours; 0: leave the mark alone
    exclude_interfaces: tuple[str, ...] = ("lo",)  # never queued; a trailing + matches any continuation
    families: tuple[str, ...] = FAMILIES  # which of ipv4, ipv6 are steered to the queue
    local: bool = True  # also the router's own traffic (INPUT and OUTPUT)
    on_stop: str = "remove"  # what becomes of the rules when the service is stopped; keep: nothing passes


@dataclass(frozen=True)
class Filter:
    default_in: str = "accept"  # verdict on a packet to the router itself that no rule decides
    default_forward: str = "accept"  # the same for a forwarded one
    default_out: str = "accept"  # and for one of the router's own
    rule: tuple[FilterRule, ...] = ()  # in order, the first match decides
    nft: str = ""  # a ruleset as nft writes it, asked behind the rules
    file: str = ""  # where that ruleset stands instead; its text is then in `nft`

    def chains(self) -> list[Chain]:
        """The chain of rules and default at each hook that has either, then those of the ruleset."""
        found: list[Chain] = []
        defaults = ((LOCAL_IN, self.default_in), (FORWARD, self.default_forward), (LOCAL_OUT, self.default_out))
        for hook, default in defaults:
            rules = [rule for rule in self.rule if hook in rule.hooks]
            if rules or default != "accept":
                found.append(Chain(hook, rules, NF_ACCEPT if default == "accept" else NF_DROP, label="filter"))
        return found + nftfile.parse(self.nft)

    def policy(self) -> Policy | None:
        """A new one, its counters at zero; None when nothing is filtered."""
        chains = self.chains()
        return Policy(chains) if chains else None


@dataclass(frozen=True)
class RawSpec:
    match: FilterRule  # its matches
    notrack: bool = False  # leave the packet alone
    zone_orig: int = 0  # zone of its tuple as an original one
    zone_reply: int = 0  # zone of its tuple as a reply
    tcp_tracker: str = ""  # another TCP tracker for new connections; empty: the usual one
    timeouts: tuple[tuple[str, int], ...] = ()  # tunables that differ for new connections


@dataclass(frozen=True)
class MarkSpec:
    match: FilterRule  # its matches, hooks and ct expression included
    action: str  # set, save, restore: the connection's mark; label: its labels
    value: int = 0
    mask: int = 0xFFFFFFFF


@dataclass(frozen=True)
class Metrics:
    listen: str = "127.0.0.1:9466"  # address:port of the Prometheus endpoint; empty: none
    tls_certificate: str = ""  # its certificate with the chain, in PEM; empty: plain HTTP
    tls_key: str = ""  # the key of the certificate
    client_ca: str = ""  # clients need a certificate that this one signed; empty: anybody may ask
    node_exporter_names: bool = False  # also publish the table under the names of node_exporter

    def address(self) -> tuple[str, int] | None:
        """(address, port) to listen on, or None when metrics are off."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    def tls(self) -> "SSLContext | None":
        """None for plain HTTP. Raises OSError when the files have changed for the worse since they were checked."""
        if not self.tls_certificate:
            return None
        return tls.context(self.tls_certificate, self.tls_key, self.client_ca)


@dataclass(frozen=True)
class Control:
    socket: str = "/run/conntrackd-py/control.sock"  # path of the control socket
    mode: int = 0o660  # its permissions, in the file an octal string
    group: str = ""  # its group; empty: the daemon's own
    max_clients: int = 64  # commands connected at once
    max_request: int = 65536  # bytes of one request


@dataclass(frozen=True)
class Log:
    level: str = "info"  # least severity that is written
    format: str = "auto"  # auto: console on a terminal, json otherwise


@dataclass(frozen=True)
class Settings:
    mode: str = NAT  # nat: track and translate; track: translate nothing; observe: only look
    leak_guard: bool = True  # drop at POSTROUTING what a source NAT rule covers but has no connection
    queue: Queue = field(default_factory=Queue)
    steering: Steering = field(default_factory=Steering)
    tunables: Tunables = field(default_factory=Tunables)
    tcp_tracker: str = NETFILTER  # netfilter: the kernel's; rfc7857: ten states, no windows
    raw: tuple[RawSpec, ...] = ()  # before tracking, the first match decides
    connmark: tuple[MarkSpec, ...] = ()  # after it, every match acts
    nat: tuple[NatRule, ...] = ()  # in order, the first match binds
    filter: Filter = field(default_factory=Filter)
    metrics: Metrics = field(default_factory=Metrics)
    control: Control = field(default_factory=Control)
    log: Log = field(default_factory=Log)

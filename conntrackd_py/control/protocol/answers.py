"""Keys of the answers. They may be added to, never renamed. An absent key means unknown or not applicable.

TypedDicts, not Structs: the commands print these objects as they come, with keys of a newer daemon, and test for
absent ones. msgspec encodes both about equally fast.
"""

from typing import Any, Final, Required, TypedDict

from msgspec.json import Encoder

Line = dict[str, Any]  # one line of an answer

encode: Final = Encoder().encode


class Userspace(TypedDict, total=False):
    pid: Required[int]
    program: str


class Side(TypedDict, total=False):
    """The tuple of one direction, and its counters while accounting is on."""

    src: Required[str]
    dst: Required[str]
    sport: int
    dport: int
    type: int  # ICMP
    code: int
    id: int
    srckey: int  # GRE
    dstkey: int
    zone: int  # if the other direction has another zone
    packets: int
    bytes: int
    vtag: int  # SCTP


# Of the first packet, in a listing only.
_Interfaces = TypedDict("_Interfaces", {"in": str, "out": str}, total=False)


class Connection(_Interfaces, total=False):
    """timeout: whole seconds left. start, stop: seconds since 1970, while timestamps are on."""

    family: Required[str]
    proto: Required[str]
    protonum: Required[int]
    timeout: Required[int]
    state: str
    status: Required[list[str]]
    orig: Required[Side]
    reply: Required[Side]
    zone: int  # of both directions
    mark: Required[int]
    id: Required[int]
    labels: list[int]  # numbers of the bits that are set
    start: float
    stop: float


class _Event(TypedDict, total=False):
    """time: seconds since 1970. userspace: the process whose request caused the event."""

    event: Required[str]
    seq: Required[int]
    time: Required[float]
    userspace: Userspace


class ConnectionEvent(_Event, Connection, total=False):
    changed: Required[list[str]]  # names of IPCT_* bits
    reason: str  # of a DESTROY


_Class = TypedDict("_Class", {"class": int})


class Expectation(_Class, total=False):
    timeout: Required[int]  # whole seconds left
    family: Required[str]
    proto: Required[str]
    protonum: Required[int]
    tuple: Required[Side]
    mask: Required[Side]
    master: Required[Side]
    flags: Required[list[str]]
    id: Required[int]
    zone: int
    helper: str


class ExpectationEvent(_Event, Expectation, total=False):
    pass


class ExpiredInUse(TypedDict):
    """Seconds. after: the timeout. ago: since the end. keepalive: an interval that keeps the connection."""

    proto: str
    after: float
    ago: float
    keepalive: float


class RefusedConnection(TypedDict, total=False):
    id: Required[int]
    state: str
    status: Required[list[str]]
    timeout: Required[int]
    orig: Required[Side]


class RefusedPacket(TypedDict, total=False):
    """outcome: INVALID, IGNORED or DROPPED; ACCEPTED if only `expired_in_use` is reported. time: seconds since 1970."""

    sequence: Required[int]
    time: Required[float]
    hook: Required[str]
    outcome: Required[str]
    reason: Required[str]
    cause: str  # why it was INVALID before it was dropped
    numbers: Required[list[int]]
    why: Required[str]
    ctinfo: Required[str]
    packet: Required[dict[str, object]]  # explain/packet_line.py
    text: Required[str]
    connection: RefusedConnection
    expired_in_use: ExpiredInUse


class Table(TypedDict):
    entries: int
    limit: int  # 0: no limit
    unconfirmed: int
    dying: int


class Queue(TypedDict):
    """dropped: the queue was full. user_dropped: the daemon's socket was full."""

    queue: int
    waiting: int
    limit: int
    dropped: int
    user_dropped: int


class Queues(TypedDict):
    queues: list[Queue]
    queue: dict[str, int]  # enobufs, verdict_errors, truncated: of all queues


class FilterRule(TypedDict):
    rule: str
    comment: str
    action: str
    packets: int
    bytes: int


class ReloadState(TypedDict):
    """successful: the last reload. stale: connections that its rules would not create, counted then."""

    successful: bool
    error: str
    restart: tuple[str, ...]  # keys that take effect at a restart
    stale: int


class Status(Table, Queues):
    """Times in seconds; started and reloaded since 1970 (null: never). invalid, dropped: packets by reason.

    states: confirmed connections by protocol and state, {"tcp": {"ESTABLISHED": 3}, "udp": {"": 5}}.
    """

    version: str
    compiled: bool
    python: str
    pid: int
    mode: str
    started: float
    uptime: float
    reloaded: float | None
    reload: ReloadState
    expectations: dict[str, int]  # entries, limit
    states: dict[str, dict[str, int]]
    nat: dict[str, int]  # allocations, failures
    helpers: list[str]
    hints: dict[str, int]  # expired_in_use, one_sided_flows
    invalid: dict[str, int]
    dropped: dict[str, int]
    filter: list[FilterRule]  # rules and chain defaults that refused packets, most packets first
    clients: int
    refused_clients: int
    subscribers: int
    events_lost: int


class Traffic(TypedDict, total=False):
    """Packets and bytes while accounting is on."""

    connections: Required[int]
    packets: int
    sent: int
    received: int


class Host(Traffic, total=False):
    """The source of the original direction. moved: since the previous walk, connections that ended included."""

    address: Required[str]
    moved: Traffic


class PoolPorts(TypedDict, total=False):
    connections: Required[int]
    ports: int  # in use, each counted once
    available: int  # of the source rules for the address, or those that a source port above 1023 may get


class Pool(TypedDict, total=False):
    address: Required[str]
    connections: Required[int]
    protocols: Required[dict[str, PoolPorts]]
    share: float  # ports in use of the fullest protocol, 0 to 1


class Counted(TypedDict, total=False):
    """The walk over the table. Milliseconds, `at` of the engine's clock."""

    at: Required[int]
    took: Required[int]
    period: int  # since the previous walk; absent in the first
    hosts: Required[int]
    others: Required[int]  # connections of hosts beyond the limit of explain/hosts.py


class Hook(TypedDict):
    accepted: int
    dropped: int
    bytes: int


class Top(Table, Queues):
    """Counters of now, and hosts and pools of the last walk. A rate is a difference divided by that of `clock` (ms)."""

    clock: int
    accounting: bool
    created: int
    ended: dict[str, int]  # by reason
    hooks: dict[str, Hook]
    invalid: dict[str, int]
    ignored: dict[str, int]
    dropped: dict[str, int]
    states: dict[str, dict[str, int]]
    counted: Counted
    hosts: list[Host]
    pools: list[Pool]
    unpooled: int  # connections of pools beyond the limit of explain/hosts.py


class Reloaded(TypedDict):
    restart: tuple[str, ...]
    stale: dict[str, int]  # by nat, filter
    flushed: int

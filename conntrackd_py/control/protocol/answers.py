"""Keys of the answers. They may be added to, never renamed. An absent key means unknown or not applicable.

TypedDicts, not Structs: the commands print these objects as they come, with keys of a newer daemon, and test for
absent ones. msgspec encodes both about equally fast.
"""

from typing import Any, Final, Required, TypedDict

from msgspec.json import Encoder

Line = dict[str, Any]  # one line of an answer

encode: Final = Encoder().encode


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
    helper: str
    start: float
    stop: float


class _Event(TypedDict, total=False):
    """time: seconds since 1970. userspace: the process whose request caused the event."""

    event: Required[str]
    seq: Required[int]
    time: Required[float]
    userspace: dict[str, object]  # pid [program]


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


class RefusedPacket(TypedDict, total=False):
    """outcome: INVALID, IGNORED or DROPPED; ACCEPTED if only `expired_in_use` is reported. time: seconds since 1970.

    expired_in_use: seconds: after (the timeout), ago (since the end), keepalive (a sufficient interval).
    """

    sequence: Required[int]
    time: Required[float]
    hook: Required[str]
    outcome: Required[str]
    reason: Required[str]
    cause: str  # why it was INVALID before it was dropped
    rule: str  # the filter rule or default that dropped it
    numbers: Required[list[int]]
    why: Required[str]
    ctinfo: Required[str]
    packet: Required[dict[str, object]]  # explain/packet_line.py
    text: Required[str]
    connection: dict[str, object]  # id [state] status timeout orig
    expired_in_use: dict[str, object]  # proto after ago keepalive


class NotShown(TypedDict):
    """Refused packets that a follower did not get, since the line before."""

    overwritten: int  # in the ring, before they were read: of any kind
    over_rate: int  # that matched, over the lines a second of a follower


class QueueState(TypedDict):
    """name: what the queue holds. dropped: the queue was full. user_dropped: the daemon's socket was full."""

    queue: int
    name: str
    waiting: int
    dropped: int
    user_dropped: int
    limit: int


class Counters(TypedDict):
    """Of `status` and `top`. invalid, dropped: packets by reason. limit: 0: none.

    states: confirmed connections by protocol and state, {"tcp": {"ESTABLISHED": 3}, "udp": {"": 5}}.
    """

    entries: int
    limit: int
    unconfirmed: int
    dying: int
    states: dict[str, dict[str, int]]
    invalid: dict[str, int]
    dropped: dict[str, int]
    queues: list[QueueState]
    queue: dict[str, int]  # enobufs verdict_errors truncated
    offload: dict[str, int]  # on connections added refused failures
    copies: dict[str, int]  # of mode observe: lost translations translations_lost (reports of the kernel)


class Status(Counters):
    """Times in seconds; started and reloaded since 1970 (null: never)."""

    version: str
    compiled: bool
    python: str
    pid: int
    mode: str
    started: float
    uptime: float
    reloaded: float | None
    reload: dict[str, object]  # successful error restart stale: class Reloads
    steering: dict[str, object]  # guard installed missing restored error held leak_table untranslated: class Steering
    journal: dict[
        str, object
    ]  # enabled error written unwritten side_unwritten shortened restored refused damaged aside away pause
    sync: dict[str, object]  # role, and with [sync] the keys of class SyncState
    expectations: dict[str, int]  # entries limit
    nat: dict[str, int]  # allocations failures
    blocks: list[Any]  # class BlockUse, of rules with port_block or deterministic
    nat_log: dict[str, object]  # file lines waiting lost errors error, empty without [nat_log]: class NatLogKeeper
    targets: list[Any]  # rule comment target weight down connections: of DNAT rules with several
    helpers: list[str]
    hints: dict[str, int]  # expired_in_use one_sided_flows mark_overwritten
    mark_rule: str  # that probably overwrites the packet mark; empty: none known
    filter: list[dict[str, object]]  # rule comment action packets bytes: that refused packets, most packets first
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


class Pool(TypedDict, total=False):
    """available: ports of the source rules for the address, or those that a source port above 1023 may get."""

    address: Required[str]
    connections: Required[int]
    protocols: Required[dict[str, dict[str, int]]]  # connections [ports (in use) available]
    share: float  # ports in use of the fullest protocol, 0 to 1


class Top(Counters):
    """Counters of now, hosts and pools of the last walk. A rate is a difference divided by that of `clock` (ms).

    counted: of the walk: at, took [period since the previous walk] (ms), hosts, others (connections of further hosts).
    """

    clock: int
    accounting: bool
    created: int
    ended: dict[str, int]  # by reason
    hooks: dict[str, dict[str, int]]  # accepted dropped bytes
    ignored: dict[str, int]  # by reason
    counted: dict[str, int]
    hosts: list[Host]
    pools: list[Pool]
    unpooled: int  # connections of pools beyond the limit of explain/hosts.py

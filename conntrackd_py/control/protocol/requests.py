"""Requests, with the type and the bounds of each argument. An unknown key, a wrong type or a null is an error.

No type contains itself, so a request nests at most four levels. The server bounds its bytes; lists are bounded here.
"""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder

from conntrackd_py.explain.hosts import RANKED

U8 = Annotated[int, Meta(ge=0, le=0xFF)]
U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Count = Annotated[int, Meta(ge=0)]
Labels = Annotated[tuple[Annotated[int, Meta(ge=0, le=127)], ...], Meta(max_length=128)]  # numbers of bits
StatusName = (
    Literal["EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED", "SRC_NAT", "DST_NAT", "SEQ_ADJUST", "SRC_NAT_DONE"]
    | Literal["DST_NAT_DONE", "DYING", "FIXED_TIMEOUT", "TEMPLATE", "NAT_CLASH", "HELPER", "OFFLOAD", "HW_OFFLOAD"]
    | Literal["UNSET"]
)
Status = Annotated[tuple[StatusName, ...], Meta(max_length=32)]
Family = Literal["ipv4", "ipv6"]
Table = Literal["conntrack", "unconfirmed", "dying", "expect"]
KeptTable = Literal["conntrack", "expect"]
EventName = Literal["NEW", "UPDATES", "DESTROY", "ALL"]

TEXT_LIMIT: Final = 200  # characters of an error that quotes a request


class RequestError(ValueError):
    """A request that is wrong whatever the table holds."""


class RefusedError(ValueError):
    """A correct request that cannot be carried out; reads as conntrack(8) says it after `Operation failed: `."""


class TupleFields(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tuple: of the original direction, of the reply, or both. What is absent is 0, or inverted from the other."""

    proto: U8 | UnsetType = UNSET
    src: str | UnsetType = UNSET
    dst: str | UnsetType = UNSET
    reply_src: str | UnsetType = UNSET
    reply_dst: str | UnsetType = UNSET
    sport: U16 | UnsetType = UNSET
    dport: U16 | UnsetType = UNSET
    reply_sport: U16 | UnsetType = UNSET
    reply_dport: U16 | UnsetType = UNSET
    srckey: U16 | UnsetType = UNSET  # GRE
    dstkey: U16 | UnsetType = UNSET
    reply_srckey: U16 | UnsetType = UNSET
    reply_dstkey: U16 | UnsetType = UNSET
    icmp_type: U8 | UnsetType = UNSET
    icmp_code: U8 | UnsetType = UNSET
    icmp_id: U16 | UnsetType = UNSET
    zone: U16 | UnsetType = UNSET  # of both directions
    orig_zone: U16 | UnsetType = UNSET
    reply_zone: U16 | UnsetType = UNSET


class Change(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    timeout: U32 | UnsetType = UNSET  # seconds
    status: Status | UnsetType = UNSET
    state: str | UnsetType = UNSET
    mark: U32 | UnsetType = UNSET
    mark_mask: U32 | UnsetType = UNSET
    orig_vtag: U32 | UnsetType = UNSET  # SCTP
    reply_vtag: U32 | UnsetType = UNSET
    label_add: Labels = ()
    label_del: Labels = ()


class NewConnection(TupleFields, frozen=True):
    """A connection to create: a tuple, the fields of a Change, and its translations.

    src_nat, dst_nat: "address", "address:port" or "[address]:port"; the port counts for protocols that have ports.
    """

    timeout: U32 | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    state: str | UnsetType = UNSET
    mark: U32 | UnsetType = UNSET
    mark_mask: U32 | UnsetType = UNSET
    orig_vtag: U32 | UnsetType = UNSET
    reply_vtag: U32 | UnsetType = UNSET
    label_add: Labels = ()
    label_del: Labels = ()
    src_nat: str | UnsetType = UNSET
    dst_nat: str | UnsetType = UNSET


class UpdateFilter(TupleFields, frozen=True):
    """The filter of an update: all must match. An address may have a mask: "address/bits" or "address/mask".

    zone: both directions are in it. orig_zone, reply_zone: one direction is in it and the other is not.
    src_nat, dst_nat: translated (true), or translated to "address", "address:port" or "[address]:port".
    """

    family: Family | UnsetType = UNSET
    src_nat: bool | str | UnsetType = UNSET
    dst_nat: bool | str | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET  # all these bits are set


class Filter(UpdateFilter, frozen=True):
    """The filter of the other commands.

    status: all these bits; UNSET: none of the bits that conntrack -u can name. secmark: accepted, never compared.
    host: "address[/bits]" of either end, before or after translation. interface: "name" or "begin+", inbound or
    outbound, of the first packet. older_than, younger_than: seconds since the first packet. timeout: seconds left.
    stale: true: the current rules would translate it differently, or the filter would drop its first packet.
    """

    any_nat: bool | str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    status: Annotated[Status, Meta(min_length=1)] | UnsetType = UNSET
    mark: U32 | UnsetType = UNSET
    mark_mask: U32 | UnsetType = UNSET
    secmark: U32 | UnsetType = UNSET
    orig_vtag: U32 | UnsetType = UNSET
    reply_vtag: U32 | UnsetType = UNSET
    host: str | UnsetType = UNSET
    interface: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    older_than: U32 | UnsetType = UNSET
    younger_than: U32 | UnsetType = UNSET
    timeout: U32 | UnsetType = UNSET
    stale: bool | UnsetType = UNSET


class Mask(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """dst and dport are accepted and ignored: the kernel always compares them in full."""

    src: str | UnsetType = UNSET
    dst: str | UnsetType = UNSET
    sport: U16 | UnsetType = UNSET
    dport: U16 | UnsetType = UNSET


class NewExpectation(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    master: TupleFields
    tuple: TupleFields
    mask: Mask
    timeout: U32 = 0  # seconds


class Request(Struct, forbid_unknown_fields=True, omit_defaults=True, tag_field="command"):
    """The base of all requests; the tag is the command's name."""


class List(Request, tag="list"):
    """zero: set the counters to 0 after each is listed. Of table expect: the filter is by family, and no zero."""

    table: Table = "conntrack"
    filter: Filter = Filter()
    limit: Count | UnsetType = UNSET
    zero: bool = False


class Get(Request, tag="get"):
    tuple: TupleFields
    table: KeptTable = "conntrack"


class Create(Request, tag="create"):
    """exclusive: an error if the connection exists, instead of {"done": 0}."""

    table: KeptTable = "conntrack"
    ct: NewConnection | UnsetType = UNSET
    expect: NewExpectation | UnsetType = UNSET
    exclusive: bool = False


class Update(Request, tag="update"):
    set: Change
    filter: UpdateFilter = UpdateFilter()


class Delete(Request, tag="delete"):
    """Of table conntrack: filter; of table expect: tuple."""

    table: KeptTable = "conntrack"
    filter: Filter | UnsetType = UNSET
    tuple: TupleFields | UnsetType = UNSET


class Flush(Request, tag="flush"):
    table: KeptTable = "conntrack"
    filter: Filter | UnsetType = UNSET


class Counts(Request, tag="count"):
    table: KeptTable = "conntrack"


class Stats(Request, tag="stats"):
    table: KeptTable = "conntrack"


class Recent(Request, tag="recent"):
    """follow: also the refusals that come, until the client closes; count is then 0 by default, else all.

    host: "address[/bits]" of either end of the packet or of its connection. port: of either end. reasons: one of them;
    names of reasons.py, expired_in_use, mark_overwritten and helper_not_enabled.
    """

    count: Count | UnsetType = UNSET
    follow: bool = False
    host: str | UnsetType = UNSET
    port: U16 | UnsetType = UNSET
    proto: U8 | UnsetType = UNSET
    reasons: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class DaemonStatus(Request, tag="status"):
    pass


class Ping(Request, tag="ping"):
    pass


class Reload(Request, tag="reload"):
    """flush_stale: delete the connections that the new rules would not create."""

    flush_stale: bool = False


class Upgrade(Request, tag="upgrade"):
    pass


class Steering(Request, tag="steering"):
    """A command is about to change the steering rules of this network namespace (inode number).

    The daemon does not guard them until step `done`. trial: they are changed for a time. A connection that closes
    without `done`: the command failed.
    """

    step: Literal["begin", "trial", "done"] = "begin"
    network: Count = 0


class Targets(Request, tag="targets"):
    """set: mark the targets of DNAT rules that `target` names: "address", "address:port" or "[address]:port"."""

    set: Literal["down", "up"] | UnsetType = UNSET
    target: str | UnsetType = UNSET


class Mappings(Request, tag="mappings"):
    """The endpoint-independent mappings, or the port blocks."""

    blocks: bool = False


class Top(Request, tag="top"):
    hosts: Annotated[int, Meta(ge=0, le=RANKED)] = 20
    sort: Literal["connections", "bytes", "new"] = "connections"
    family: Family | Literal[""] = ""


class Export(Request, tag="export"):
    filter: Filter = Filter()


class Import(Request, tag="import"):
    """connections: each as in an answer of `export`. replace: end the connections whose tuples they need."""

    connections: Annotated[tuple[Raw, ...], Meta(max_length=1024)]
    replace: bool = False


class Sync(Request, tag="sync"):
    """stale: with takeover: also if this daemon may lack connections."""

    step: Literal["status", "takeover", "standby"] = "status"
    stale: bool = False


class Events(Request, tag="events"):
    table: KeptTable = "conntrack"
    mask: Annotated[tuple[EventName, ...], Meta(min_length=1, max_length=32)] = ("ALL",)
    filter: Filter = Filter()
    buffer: Count | UnsetType = UNSET  # events


_DECODER: Final[Decoder[Request]] = Decoder(
    List
    | Get
    | Create
    | Update
    | Delete
    | Flush
    | Counts
    | Stats
    | Recent
    | DaemonStatus
    | Ping
    | Reload
    | Upgrade
    | Steering
    | Targets
    | Mappings
    | Top
    | Export
    | Import
    | Sync
    | Events
)


def decode(line: bytes) -> Request:
    """The request of a line. Raises RequestError, which names the key and the type or bound that it needs."""
    try:
        return _DECODER.decode(line)
    except RecursionError:  # in the value of an unknown key
        raise RequestError("nested too deeply") from None
    except ValueError as error:
        raise RequestError(str(error)[:TEXT_LIMIT]) from error

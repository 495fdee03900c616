"""The table of the options of conntrack-py. The parser, --help, completion and the manual page are made from it.

Names, and the commands that take an option, are those of conntrack(8). Others are marked `extension`.
"""

from typing import Final, NamedTuple

from conntrackd_py.const import (
    IPPROTO_DCCP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    PROTO_NAMES,
    WITH_PORTS,
)

MAPPINGS: Final = "mappings"  # not in conntrack(8): endpoint-independent mappings
TABLES: Final = ("conntrack", "expect", "dying", "unconfirmed", MAPPINGS)


class Option(NamedTuple):
    """key: of the value in Parsed.values; argument: its name in the help, [in brackets] if optional.

    commands, expect: letters of the commands that take it, on connections and on expectations.
    protos: it needs one of these protocols; empty: none.
    """

    key: str
    short: str
    long: tuple[str, ...]  # the first is its name in messages
    argument: str
    help: str
    commands: str = ""
    expect: str = ""
    protos: tuple[int, ...] = ()
    extension: bool = False

    @property
    def names(self) -> list[str]:
        """As typed, with dashes; the short one first."""
        return ([f"-{self.short}"] if self.short else []) + [f"--{name}" for name in self.long]

    @property
    def protocols(self) -> list[str]:
        """The names of `protos`."""
        return [PROTO_NAMES[number] for number in self.protos]


COMMANDS: Final = (
    Option("L", "L", ("dump",), "[table]", "List the table"),
    Option("G", "G", ("get",), "[table]", "Show one entry"),
    Option("D", "D", ("delete",), "[table]", "Delete the entries that match"),
    Option("I", "I", ("create",), "[table]", "Create an entry"),
    Option("A", "A", ("add",), "[table]", "Create an entry unless it exists"),
    Option("U", "U", ("update",), "[table]", "Update the entries that match"),
    Option("E", "E", ("event",), "[table]", "Show events as they happen"),
    Option("F", "F", ("flush",), "[table]", "Empty the table"),
    Option("C", "C", ("count",), "[table]", "Show the number of entries"),
    Option("S", "S", ("stats",), "[table]", "Show statistics"),
    Option("R", "R", ("load-file",), "file", "Execute the commands in a file, as -o save writes them; - is stdin"),
    Option("V", "V", ("version",), "", "Show the version"),
    Option("h", "h", ("help",), "", "Show this help"),
)
ALL: Final = "LGDIAUEFCSRVh"

ICMP: Final = (IPPROTO_ICMP, IPPROTO_ICMPV6)
SCTP: Final = (IPPROTO_SCTP,)
GRE: Final = (IPPROTO_GRE,)
WITH_STATES: Final = (IPPROTO_TCP, IPPROTO_SCTP, IPPROTO_DCCP)

OPTIONS: Final = (
    Option("src", "s", ("src", "orig-src"), "ip[/bits]", "Source address, original direction", "LGDIAUE", "GDI"),
    Option("dst", "d", ("dst", "orig-dst"), "ip[/bits]", "Destination address, original direction", "LGDIAUE", "GDI"),
    Option("reply_src", "r", ("reply-src",), "ip[/bits]", "Source address, reply direction", "LGDIAUE", "GDI"),
    Option("reply_dst", "q", ("reply-dst",), "ip[/bits]", "Destination address, reply direction", "LGDIAUE", "GDI"),
    Option("proto", "p", ("protonum",), "proto", "Layer 4 protocol, name or number", "LGDIAUEh", "GDI"),
    Option("family", "f", ("family",), "family", "Layer 3 protocol: ipv4 or ipv6", "LDUEF", "L"),
    Option("timeout", "t", ("timeout",), "seconds", "Timeout to set", "DIAU", "I"),
    Option("status", "u", ("status",), "flag[,...]", "Status to match or set: ASSURED, SEEN_REPLY, ...", "LDIAU", "I"),
    Option("mark", "m", ("mark",), "mark[/mask]", "Connection mark to match or set", "LDIAUE"),
    Option("secmark", "c", ("secmark",), "secmark", "SELinux mark; no connection of the daemon has one", "LE"),
    Option("label", "l", ("label",), "label[,...]", "Labels to match", "LGDUE"),
    Option("label_add", "", ("label-add",), "label[,...]", "Labels to set", "IAU"),
    Option("label_del", "", ("label-del",), "[label[,...]]", "Labels to clear; all if none is given", "U"),
    Option("zone", "w", ("zone",), "zone", "Zone of both directions", "LDIAE"),
    Option("orig_zone", "", ("orig-zone",), "zone", "Zone of the original direction only", "LDIAE"),
    Option("reply_zone", "", ("reply-zone",), "zone", "Zone of the reply direction only", "LDIAE"),
    Option("src_nat", "n", ("src-nat",), "[ip[:port]]", "Source NAT to match or set", "LDIAUE"),
    Option("dst_nat", "g", ("dst-nat",), "[ip[:port]]", "Destination NAT to match or set", "LDIAUE"),
    Option("any_nat", "j", ("any-nat",), "[ip[:port]]", "Source or destination NAT to match", "LE"),
    Option("nat_range", "a", ("nat-range",), "ip", "Ignored, as in conntrack(8)", "LGDIAUEFCSVh", "LGDIEFCS"),
    Option("zero", "z", ("zero",), "", "Reset the counters after listing", "L"),
    Option("mask", "e", ("event-mask",), "event[,...]", "Events to show: NEW, UPDATES, DESTROY, ALL", "E"),
    Option("buffer", "b", ("buffer-size",), "bytes", "Buffer size for events", "E"),
    Option("output", "o", ("output",), "form[,...]", "Output form; see below", "LGDUE", "LE"),
    Option("src_mask", "", ("mask-src",), "mask", "Mask of the source address", "LDUE", "I"),
    Option("dst_mask", "", ("mask-dst",), "mask", "Mask of the destination address", "LDUE", "I"),
    Option("tuple_src", "", ("tuple-src",), "ip", "Expected source address", "", "I"),
    Option("tuple_dst", "", ("tuple-dst",), "ip", "Expected destination address", "", "I"),
    Option("sport", "", ("sport", "orig-port-src"), "port", "Source port", "LGDIAUE", "GDI", WITH_PORTS),
    Option("dport", "", ("dport", "orig-port-dst"), "port", "Destination port", "LGDIAUE", "GDI", WITH_PORTS),
    Option("reply_sport", "", ("reply-port-src",), "port", "Source port of replies", "LGDIAUE", "GDI", WITH_PORTS),
    Option("reply_dport", "", ("reply-port-dst",), "port", "Destination port of replies", "LGDIAUE", "GDI", WITH_PORTS),
    Option("state", "", ("state",), "state", "State, for example ESTABLISHED", "LGDIAUE", "", WITH_STATES),
    Option("icmp_type", "", ("icmp-type", "icmpv6-type"), "number", "ICMP type", "LGDIAUE", "", ICMP),
    Option("icmp_code", "", ("icmp-code", "icmpv6-code"), "number", "ICMP code", "LGDIAUE", "", ICMP),
    Option("icmp_id", "", ("icmp-id", "icmpv6-id"), "number", "ICMP identifier", "LGDIAUE", "", ICMP),
    Option("orig_vtag", "", ("orig-vtag",), "tag", "Verification tag", "GIAU", "", SCTP),
    Option("reply_vtag", "", ("reply-vtag",), "tag", "Verification tag of replies", "GIAU", "", SCTP),
    Option("role", "", ("role",), "role", "DCCP role: client, server or none; ignored", "IA", "", (IPPROTO_DCCP,)),
    Option("srckey", "", ("srckey", "orig-key-src"), "key", "Source key", "LGDIAUE", "GDI", GRE),
    Option("dstkey", "", ("dstkey", "orig-key-dst"), "key", "Destination key", "LGDIAUE", "GDI", GRE),
    Option("reply_srckey", "", ("reply-key-src",), "key", "Source key of replies", "LGDIAUE", "GDI", GRE),
    Option("reply_dstkey", "", ("reply-key-dst",), "key", "Destination key of replies", "LGDIAUE", "GDI", GRE),
    Option("tuple_sport", "", ("tuple-port-src",), "port", "Expected source port", "", "I", WITH_PORTS),
    Option("tuple_dport", "", ("tuple-port-dst",), "port", "Expected destination port", "", "I", WITH_PORTS),
    Option("sport_mask", "", ("mask-port-src",), "mask", "Mask of the source port", "", "I", WITH_PORTS),
    Option("dport_mask", "", ("mask-port-dst",), "mask", "Ignored: the whole port is compared", "", "I", WITH_PORTS),
    Option("host", "", ("host",), "ip[/bits]", "Address of either end, either direction", "LDE", extension=True),
    Option("interface", "", ("interface",), "name", "Input or output interface", "LDE", extension=True),
    Option("older_than", "", ("older-than",), "time", "Minimum age: seconds, or 15m, 2h, 3d", "LD", extension=True),
    Option("younger_than", "", ("younger-than",), "time", "Maximum age: seconds, or 15m, 2h, 3d", "LD", extension=True),
    Option("stale", "", ("stale",), "", "Connections that the current rules would not create", "LD", extension=True),
    Option("sort", "", ("sort",), "key[,...]", "Sort keys; -key sorts descending", "L", extension=True),
    Option("limit", "", ("limit",), "number", "Maximum number of entries to list", "L", "L", extension=True),
    Option("socket", "", ("socket",), "path", "The daemon's control socket", "LGDIAUEFCSR", "LGDIEFCS", extension=True),
)
EVERYTHING: Final = COMMANDS + OPTIONS
SHORT: Final = {option.short: option for option in EVERYTHING if option.short}
LONG: Final = {name: option for option in EVERYTHING for name in option.long}
BY_KEY: Final = {option.key: option for option in OPTIONS}

FORMS: Final = {
    "extended": "also show the layer 3 protocol",
    "id": "also show the id",
    "timestamp": "also show the time of an event or expectation",
    "ktimestamp": "also show start and stop times (needs nf_conntrack_timestamp)",
    "labels": "also show the labels",
    "userspace": "no effect: changes made by a user are always marked",
    "xml": "XML",
    "save": "commands that -R reads; excludes other forms",
    "json": "one object a line; excludes other forms",
}
FORM_OF_EVERY_COMMAND: Final = "json"  # the form that every command has
STATUSES: Final = ("ASSURED", "SEEN_REPLY", "UNSET", "FIXED_TIMEOUT", "EXPECTED", "OFFLOAD", "HW_OFFLOAD")
EVENTS: Final = ("ALL", "NEW", "UPDATES", "DESTROY")
ROLES: Final = ("client", "server", "none")
SORT_KEYS: Final = (
    *("proto", "src", "dst", "sport", "dport", "state", "timeout", "packets", "bytes", "mark", "zone", "start", "id"),
)


class Need(NamedTuple):
    """Options that a command needs: all options of at least one of the choices."""

    commands: str
    table: str
    protos: tuple[int, ...]  # empty: any
    choices: tuple[tuple[str, ...], ...]


NEEDS: Final = (
    Need("IAG", "conntrack", (), (("proto",),)),
    Need("IA", "conntrack", (), (("timeout",),)),
    Need("IAG", "conntrack", (), (("src", "dst"), ("reply_src", "reply_dst"))),
    Need("IAG", "conntrack", WITH_PORTS, (("sport", "dport"), ("reply_sport", "reply_dport"))),
    Need("IA", "conntrack", WITH_STATES, (("state",),)),
    Need("IA", "conntrack", SCTP, (("orig_vtag", "reply_vtag"),)),
    Need("IA", "conntrack", (IPPROTO_DCCP,), (("role",),)),
    Need("IAG", "conntrack", ICMP, (("icmp_type", "icmp_code"),)),
    Need("IAG", "conntrack", GRE, (("srckey", "dstkey"), ("reply_srckey", "reply_dstkey"))),
    Need("IGD", "expect", (), (("src", "dst", "proto"),)),
    Need("I", "expect", (), (("timeout", "tuple_src", "tuple_dst", "src_mask", "dst_mask"),)),
    Need("IGD", "expect", WITH_PORTS, (("sport", "dport"),)),
    Need("I", "expect", WITH_PORTS, (("tuple_sport", "tuple_dport", "sport_mask", "dport_mask"),)),
)

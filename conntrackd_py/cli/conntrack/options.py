"""The options of conntrack-py, one table: parsing, legality, --help, completion and manual page are all made of it.

What conntrack(8) has is here as it is there, names, legality and all; what it has not is marked `ours`.
"""

from typing import Final, NamedTuple

from conntrackd_py.const import (
    IPPROTO_DCCP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    WITH_PORTS,
)

TABLES: Final = ("conntrack", "expect", "dying", "unconfirmed")


class Option(NamedTuple):
    """key: where the value goes; argument: its name in the help, [in brackets] when it may be absent.

    commands, expect: the short letters of the commands that take it, on connections and on expectations.
    protos: only with one of these protocols.
    """

    key: str
    short: str
    long: tuple[str, ...]  # the first is its name in messages
    argument: str
    help: str
    commands: str = ""
    expect: str = ""
    protos: tuple[int, ...] = ()
    ours: bool = False


COMMANDS: Final = (
    Option("L", "L", ("dump",), "[table]", "List the table"),
    Option("G", "G", ("get",), "[table]", "Show one entry"),
    Option("D", "D", ("delete",), "[table]", "Delete the entries that match"),
    Option("I", "I", ("create",), "[table]", "Create an entry"),
    Option("A", "A", ("add",), "[table]", "Create an entry, unless it is there"),
    Option("U", "U", ("update",), "[table]", "Update the entries that match"),
    Option("E", "E", ("event",), "[table]", "Show events as they happen"),
    Option("F", "F", ("flush",), "[table]", "Empty the table"),
    Option("C", "C", ("count",), "[table]", "Show how many entries there are"),
    Option("S", "S", ("stats",), "[table]", "Show statistics"),
    Option("R", "R", ("load-file",), "file", "Carry out the commands in a file, as -o save writes them; - is stdin"),
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
    Option("secmark", "c", ("secmark",), "secmark", "SELinux mark; no connection has one here", "LE"),
    Option("label", "l", ("label",), "label[,...]", "Labels to match", "LGDUE"),
    Option("label_add", "", ("label-add",), "label[,...]", "Labels to set", "IAU"),
    Option("label_del", "", ("label-del",), "[label[,...]]", "Labels to take away, all when none is named", "U"),
    Option("zone", "w", ("zone",), "zone", "Zone, of both directions", "LDIAE"),
    Option("orig_zone", "", ("orig-zone",), "zone", "Zone of the original direction only", "LDIAE"),
    Option("reply_zone", "", ("reply-zone",), "zone", "Zone of the reply direction only", "LDIAE"),
    Option("src_nat", "n", ("src-nat",), "[ip[:port]]", "Source translation to match or make", "LDIAUE"),
    Option("dst_nat", "g", ("dst-nat",), "[ip[:port]]", "Destination translation to match or make", "LDIAUE"),
    Option("any_nat", "j", ("any-nat",), "[ip[:port]]", "Either translation", "LE"),
    Option("nat_range", "a", ("nat-range",), "ip", "Ignored, as it is by conntrack(8)", "LGDIAUEFCSVh", "LGDIEFCS"),
    Option("zero", "z", ("zero",), "", "Set the counters to zero while listing", "L"),
    Option("mask", "e", ("event-mask",), "event[,...]", "Events to show: NEW, UPDATES, DESTROY, ALL", "E"),
    Option("buffer", "b", ("buffer-size",), "bytes", "Room for events that wait to be shown", "E"),
    Option("output", "o", ("output",), "form[,...]", "Form of what is shown; see below", "LGDUE", "LE"),
    Option("src_mask", "", ("mask-src",), "mask", "Bits of the source address that count", "LDUE", "I"),
    Option("dst_mask", "", ("mask-dst",), "mask", "Bits of the destination address that count", "LDUE", "I"),
    Option("tuple_src", "", ("tuple-src",), "ip", "Source address that is expected", "", "I"),
    Option("tuple_dst", "", ("tuple-dst",), "ip", "Destination address that is expected", "", "I"),
    # of certain protocols
    Option("sport", "", ("sport", "orig-port-src"), "port", "Source port", "LGDIAUE", "GDI", WITH_PORTS),
    Option("dport", "", ("dport", "orig-port-dst"), "port", "Destination port", "LGDIAUE", "GDI", WITH_PORTS),
    Option("reply_sport", "", ("reply-port-src",), "port", "Source port of replies", "LGDIAUE", "GDI", WITH_PORTS),
    Option("reply_dport", "", ("reply-port-dst",), "port", "Destination port of replies", "LGDIAUE", "GDI", WITH_PORTS),
    Option("state", "", ("state",), "state", "State, as ESTABLISHED", "LGDIAUE", "", WITH_STATES),
    Option("icmp_type", "", ("icmp-type", "icmpv6-type"), "number", "ICMP type", "LGDIAUE", "", ICMP),
    Option("icmp_code", "", ("icmp-code", "icmpv6-code"), "number", "ICMP code", "LGDIAUE", "", ICMP),
    Option("icmp_id", "", ("icmp-id", "icmpv6-id"), "number", "ICMP identifier", "LGDIAUE", "", ICMP),
    Option("orig_vtag", "", ("orig-vtag",), "tag", "Verification tag", "GIAU", "", SCTP),
    Option("reply_vtag", "", ("reply-vtag",), "tag", "Verification tag of replies", "GIAU", "", SCTP),
    Option(
        "role", "", ("role",), "role", "client, server or none; nothing asks for it here", "IA", "", (IPPROTO_DCCP,)
    ),
    Option("srckey", "", ("srckey", "orig-key-src"), "key", "Source key", "LGDIAUE", "GDI", GRE),
    Option("dstkey", "", ("dstkey", "orig-key-dst"), "key", "Destination key", "LGDIAUE", "GDI", GRE),
    Option("reply_srckey", "", ("reply-key-src",), "key", "Source key of replies", "LGDIAUE", "GDI", GRE),
    Option("reply_dstkey", "", ("reply-key-dst",), "key", "Destination key of replies", "LGDIAUE", "GDI", GRE),
    Option("tuple_sport", "", ("tuple-port-src",), "port", "Source port that is expected", "", "I", WITH_PORTS),
    Option("tuple_dport", "", ("tuple-port-dst",), "port", "Destination port that is expected", "", "I", WITH_PORTS),
    Option("sport_mask", "", ("mask-port-src",), "mask", "Bits of the source port that count", "", "I", WITH_PORTS),
    Option("dport_mask", "", ("mask-port-dst",), "mask", "All of the port counts", "", "I", WITH_PORTS),
    # ours
    Option("host", "", ("host",), "ip[/bits]", "Address at either end, whoever called", "LDE", ours=True),
    Option("interface", "", ("interface",), "name", "Interface it came in or went out by", "LDE", ours=True),
    Option("older_than", "", ("older-than",), "time", "Age: seconds, or 15m, 2h, 3d", "LD", ours=True),
    Option("younger_than", "", ("younger-than",), "time", "Age: seconds, or 15m, 2h, 3d", "LD", ours=True),
    Option("stale", "", ("stale",), "", "What today's rules would not let begin so", "LD", ours=True),
    Option("sort", "", ("sort",), "key[,...]", "Order of the list; -key for descending", "L", ours=True),
    Option("limit", "", ("limit",), "number", "Most entries to list", "L", "L", ours=True),
    Option("socket", "", ("socket",), "path", "The daemon's control socket", "LGDIAUEFCSR", "LGDIEFCS", ours=True),
)
EVERYTHING: Final = COMMANDS + OPTIONS
SHORT: Final = {option.short: option for option in EVERYTHING if option.short}
LONG: Final = {name: option for option in EVERYTHING for name in option.long}
BY_KEY: Final = {option.key: option for option in OPTIONS}

FORMS: Final = {
    "extended": "the layer 3 protocol too",
    "id": "the entry's id too",
    "timestamp": "when it happened (events)",
    "ktimestamp": "when it began and ended, where that is kept",
    "labels": "the labels too",
    "userspace": "accepted: what somebody ordered always says so",
    "xml": "XML",
    "save": "what -R reads back; alone",
    "json": "an object a line; alone",
}
OURS_EVERYWHERE: Final = "json"  # the form that every command has
STATUSES: Final = ("ASSURED", "SEEN_REPLY", "UNSET", "FIXED_TIMEOUT", "EXPECTED", "OFFLOAD", "HW_OFFLOAD")
EVENTS: Final = ("ALL", "NEW", "UPDATES", "DESTROY")
ROLES: Final = ("client", "server", "none")
SORT_KEYS: Final = (
    *("proto", "src", "dst", "sport", "dport", "state", "timeout", "packets", "bytes", "mark", "zone", "start", "id"),
)


class Need(NamedTuple):
    """What a command cannot do without: all of one of these sets of options."""

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

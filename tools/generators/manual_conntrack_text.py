"""The prose of conntrack-py(8). `bold`, <italic>."""

from typing import Final

from conntrackd_py.cli.conntrack.values import LABEL_FILES
from conntrackd_py.control.client import DEFAULT_PATH, VARIABLE

NAME: Final = "list, watch and change the connections of conntrackd-py"

SYNOPSIS: Final = (
    "`conntrack-py` <command> [<table>] [<options>]",
    "`conntrack-py -L` [`conntrack`|`expect`|`dying`|`unconfirmed`] [<filters>] [`-o` <form>]",
    "`conntrack-py -L mappings` [`-o json`]",
    "`conntrack-py -E` [`-e` <events>] [<filters>] [`-o` <form>]",
    "`conntrack-py -R` <file>",
)

DESCRIPTION: Final = """
`conntrack-py` lists, watches and changes the connections that a running `conntrackd-py run` tracks. It is conntrack(8)
for the table of that daemon: commands, options, output and exit statuses are the same, so scripts keep working. It does
not read or change the kernel's own table.

A line has one command, at most one table, and options in any order. Short options can be joined (`-Lp tcp`), a value
can follow without a blank (`-ptcp`, `--protonum=tcp`), and long names can be shortened to a unique prefix.

Everyone who may open the daemon's control socket may use it; by default only root may.
"""

OPTIONS: Final = """
With `-L`, `-D` and `-E` the options are a filter: an entry must match all of them. With `-I`, `-A` and `-U` some of
them are values to set. The commands that take an option are listed with it; `-L` includes all tables
except `expect` and `mappings`.
"""

PROTOCOL_OPTIONS: Final = """
These options need `-p`, anywhere on the line.
"""

EXTENSIONS: Final = """
`-o json` is not in conntrack(8) either. Every command except `-R` takes it.
"""

# After the help of an option or a command, by its key; the key of a command is its letter.
MORE: Final = {
    "L": "Without a table: confirmed connections that are not dying. `mappings`, which is not in conntrack(8), are the "
    "endpoint-independent mappings with their timers, as `conntrackd-py mappings` lists them.",
    "D": "Each deleted entry is shown. Without a filter all entries are deleted.",
    "I": "Fails if the entry exists.",
    "A": "Does nothing and succeeds if the entry exists.",
    "U": "Each updated entry is shown. Options that are not values to set are a filter.",
    "E": "Runs until it is interrupted. A line reports how many events were dropped, if any.",
    "F": "With `-f` only the entries of one family are deleted.",
    "R": "Allowed are `-A`, `-I`, `-D`, `-U` and `-F`, one a line; a line that begins with # is a comment. The whole "
    "file is checked first. The first command that fails ends it.",
    "timeout": "With `-D` it matches the remaining seconds.",
    "status": "All given flags must be set. UNSET matches connections without any other of these flags.",
    "mark": "With a mask, only its bits are compared or set.",
    "zone": "A connection with a different zone in each direction has zone 0 here.",
    "zero": "Cannot be combined with a filter.",
    "src_nat": "Without an address it matches every source NAT.",
    "dst_nat": "Without an address it matches every destination NAT.",
    "any_nat": "Without an address it matches every NAT. Cannot be combined with `-n` or `-g`.",
    "src_mask": "Used with `-s`, instead of its number of bits.",
    "dst_mask": "Used with `-d`, instead of its number of bits.",
    "buffer": "Each event is counted as 256 bytes.",
    "host": "Matches addresses before and after translation.",
    "interface": "A + at the end matches any suffix.",
    "sort": "The first key has priority.",
    "limit": "With `--sort`, the first entries in that order.",
    "socket": f"The default is the value of {VARIABLE}, then {DEFAULT_PATH}.",
}

VALUES: Final = (
    ("Number", "Decimal, hexadecimal with 0x, or octal with a leading 0."),
    ("Time", "Seconds, or a number followed by `s`, `m`, `h` or `d`."),
    ("Label", f"A name in {LABEL_FILES[0]}, or the number of a bit from 0 to 127."),
)

FORMS: Final = """
Without `-o`: one connection a line, as conntrack(8) prints it. Counters need `nf_conntrack_acct`, times need
`nf_conntrack_timestamp`. Several forms can be combined, separated by commas or as several `-o`:
"""

JSON: Final = """
A connection is one object on one line. Later versions may add keys, but do not rename or remove any. A key is absent if
its value is unknown or does not apply.
"""

JSON_KEYS: Final = {
    "family": "`ipv4` or `ipv6`.",
    "proto": "The name of the protocol, `unknown` without one.",
    "protonum": "The number of the protocol.",
    "timeout": "Whole seconds until the connection expires if no packet comes.",
    "state": "The state, for protocols with states.",
    "status": "An array of the status bits that are set, for example `SEEN_REPLY`, `ASSURED`, `SRC_NAT`.",
    "orig": "The original direction, an object: `src`, `dst`; `sport` and `dport`, or `type`, `code` and `id` (ICMP), "
    "or `srckey` and `dstkey` (GRE); `zone`, if only this direction has it; `packets` and `bytes` with "
    "`nf_conntrack_acct`; `vtag` (SCTP).",
    "reply": "The reply direction, an object with the same keys.",
    "mark": "The mark.",
    "id": "A unique number.",
    "zone": "The zone of both directions; absent if it is 0.",
    "labels": "An array of the label bits that are set, as numbers.",
    "in": "The input interface of the first packet (`-L` only).",
    "out": "The output interface of the first packet (`-L` only).",
    "start": "The time of the first packet, in seconds since 1970, with `nf_conntrack_timestamp`.",
    "stop": "The time of the end, likewise.",
}

JSON_EVENTS: Final = """
An event is the object of its connection with these keys added:
"""

JSON_EVENT_KEYS: Final = {
    "event": "`NEW`, `UPDATE` or `DESTROY`. `LOST` is an object without a connection; its key `lost` is the number of "
    "dropped events.",
    "seq": "A number that grows with each event.",
    "time": "The time of the event, in seconds since 1970.",
    "changed": "An array of what changed: new, related, destroy, reply, assured, protoinfo, helper, mark, seqadj.",
    "reason": "Why the connection ended (DESTROY only).",
    "userspace": "The process that requested the change: an object with `pid` and `program`.",
}

JSON_EXPECTATIONS: Final = """
An expectation has `timeout`, `family`, `proto`, `protonum`, `id` and `zone` as a connection has them, an event of one
`event`, `seq` and `time`, and:
"""

JSON_EXPECTATION_KEYS: Final = {
    "tuple": "The expected tuple, an object like `orig`.",
    "mask": "The mask of the tuple.",
    "master": "The original direction of the master connection.",
    "flags": "An array of names.",
    "class": "The class of the expectation, set by the helper.",
    "helper": "The name of the helper.",
}

JSON_OTHERS: Final = """
The keys of `-C` are `count` and `limit`, of `-F` `flushed`, of `-V` `version`; `-S` has the keys of its line.
"""

EXIT_STATUS: Final = (
    ("0", "Done. `-L` also if no entry was found."),
    (
        "1",
        "The daemon did not answer or refused the request; `-G`, `-D` or `-U` found no entry; forms of `-o` that "
        "exclude each other.",
    ),
    ("2", "Wrong usage; no request was sent."),
    ("130", "Interrupted. `-E` exits with 0 instead."),
    ("141", "The reader of the output closed it, as head(1) does."),
)

EXAMPLES: Final = (
    ("conntrack-py -L", "List all connections:"),
    ("conntrack-py -L -p tcp --dport 443 --state ESTABLISHED", "List established connections to port 443:"),
    ("conntrack-py -L --host 192.168.1.10", "List connections from or to 192.168.1.10, also translated ones:"),
    ("conntrack-py -L --sort -bytes --limit 10", "List the ten connections with most bytes (with nf_conntrack_acct):"),
    ("conntrack-py -L -p udp -u SEEN_REPLY --older-than 1h", "List answered UDP connections older than an hour:"),
    ("conntrack-py -L -j", "List connections with source or destination NAT:"),
    ("conntrack-py -L -o json | jq -r .orig.src | sort | uniq -c", "Count connections by the host that opened them:"),
    ("conntrack-py -C", "Show the number of connections:"),
    ("conntrack-py -E -e NEW,DESTROY -o timestamp", "Watch connections begin and end:"),
    ("conntrack-py -E -p tcp --dport 22 -o json", "Print the events of one service for a program:"),
    ("conntrack-py -D -s 192.168.1.10", "Delete the connections that 192.168.1.10 opened:"),
    ("conntrack-py -D -m 0x10/0xf0", "Delete the connections with a mark:"),
    ("conntrack-py -U -p tcp --dport 80 -m 5", "Set the mark of existing connections:"),
    (
        "conntrack-py -I -s 192.168.1.10 -d 198.51.100.7 -p udp --sport 5060 --dport 5060 -t 120 -n 203.0.113.1:5060",
        "Create a connection with source NAT before its first packet:",
    ),
    ("conntrack-py -L -o save > connections\nconntrack-py -R connections", "Save and restore the table:"),
    ("conntrack-py -L expect", "List expectations:"),
)

DIFFERENCES: Final = """
The same line has the same exit status and output in both programs; tests compare them line by line. These lines differ
on purpose. The examples assume a table with a matching entry:
"""

MORE_DIFFERENCES: Final = f"""
Labels without a name in {LABEL_FILES[0]} are shown by their number; conntrack(8) leaves them out. With `-o xml` the
states of SCTP have their own names, and `-G` writes the closing tag. `-U` shows every updated connection, also if there
are several. `-F -f` deletes one family only. `--label-del=name` clears only that label. GRE keys filter, and so does
`-j` with an address together with other filters. `-R` restores both ports of a connection with source and destination
NAT; SCTP and UDP-Lite ports are translated too. `-G expect` and `-D expect` need no `--reply-port-src`, and find
existing expectations.

Two options are accepted without effect: no connection has a `--secmark`, and `--role` is ignored.
"""

FILES: Final = (
    (DEFAULT_PATH, "The daemon's control socket."),
    (LABEL_FILES[0], f"The names of labels. If it cannot be read: {LABEL_FILES[1]}."),
)

ENVIRONMENT: Final = ((f"`{VARIABLE}`", "The control socket, if `--socket` is not given."),)

SEE_ALSO: Final = "`conntrackd-py`(8), `conntrackd.toml`(5), `conntrack`(8), `jq`(1)"

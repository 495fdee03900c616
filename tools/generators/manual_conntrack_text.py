"""The prose of conntrack-py(8). `bold`, <italic>."""

from typing import Final

from conntrackd_py.cli.conntrack.values import LABEL_FILES
from conntrackd_py.control.client import DEFAULT_PATH, VARIABLE

NAME: Final = "list, watch and change the connections of conntrackd-py"

SYNOPSIS: Final = (
    "`conntrack-py` <command> [<table>] [<options>]",
    "`conntrack-py -L` [`conntrack`|`expect`|`dying`|`unconfirmed`] [<filters>] [`-o` <form>]",
    "`conntrack-py -E` [`-e` <events>] [<filters>] [`-o` <form>]",
    "`conntrack-py -R` <file>",
)

DESCRIPTION: Final = """
`conntrack-py` asks a running `conntrackd-py run` about the connections it tracks, and gives it orders. It does for that
daemon's table what conntrack(8) does for the kernel's: commands, options, lines and exit statuses are the same, so
that scripts and habits go on working. The kernel's own table it neither sees nor touches.

A line holds one command, at most one table, and options in any order. Short options may be joined (`-Lp tcp`), a value
may follow at once (`-ptcp`, `--protonum=tcp`), and long names may be cut short as long as one option alone begins so.

Whoever may open the daemon's control socket may use it; by default that is root.
"""

OPTIONS: Final = """
Given to `-L`, `-D` and `-E` these are a filter: what fits all of them is meant. Given to `-I`, `-A` and `-U` some of
them say what the connection is to become. Which command takes an option stands behind it; `-L` stands for all of its
tables but `expect`.
"""

PROTOCOL_OPTIONS: Final = """
They need the protocol, somewhere on the line.
"""

OUR_OPTIONS: Final = """
Beside these, `-o json` is ours, and every command but `-R` takes it.
"""

# Behind the help of an option or a command, by its key; of a command the key is its letter.
MORE: Final = {
    "L": "Without a table: connections that are confirmed and alive.",
    "D": "Each is shown as it was. Without a filter that is all of them.",
    "I": "It fails when it is there already.",
    "A": "When it is there already nothing happens, and that is no failure.",
    "U": "Each is shown as it has become. What is not told to change is a filter.",
    "E": "Until it is interrupted. Where events were lost because they could not be read in time, it says so.",
    "F": "With `-f` only of one family.",
    "R": "Only `-A`, `-I`, `-D`, `-U` and `-F` may stand in it, one a line; lines that begin with # are comments. The "
    "file is checked as a whole before anything is done, and the first command that fails ends it.",
    "timeout": "With `-D`, of so many seconds left.",
    "status": "To match, all of them; UNSET matches connections that have none of the others.",
    "mark": "Of a mask only those bits are compared, or set.",
    "zone": "A connection whose directions are in different zones is in zone 0 here.",
    "zero": "It cannot be joined with a filter.",
    "src_nat": "Without an address: whatever has its source translated.",
    "dst_nat": "Without an address: whatever has its destination translated.",
    "any_nat": "Without an address: whatever is translated. Not beside `-n` or `-g`.",
    "src_mask": "Together with `-s`, in place of its bits.",
    "dst_mask": "Together with `-d`, in place of its bits.",
    "buffer": "An event is taken for 256 bytes.",
    "host": "Addresses before and after translation count.",
    "interface": "A + at the end matches any continuation.",
    "sort": "The keys count in their order.",
    "limit": "With `--sort`, the first ones of that order.",
    "socket": f"Otherwise {VARIABLE}, otherwise {DEFAULT_PATH}.",
}

VALUES: Final = (
    ("Number", "Decimal, hexadecimal with 0x, or octal with 0 before it."),
    ("Time", "Seconds, or with a letter behind it: `s`, `m`, `h` or `d`."),
    ("Label", f"A name in {LABEL_FILES[0]}, or a bit's number from 0 to 127."),
)

FORMS: Final = """
Without `-o`: a connection a line, as conntrack(8) prints it. Counters are there while `nf_conntrack_acct` is on,
times while `nf_conntrack_timestamp` is. Several forms may be joined, with commas or as several `-o`:
"""

JSON: Final = """
A connection is one object on one line. Keys may be added in later versions; none is renamed or removed. A key is
absent when what it says is not known, or does not apply.
"""

JSON_KEYS: Final = {
    "family": "`ipv4` or `ipv6`.",
    "proto": "The protocol's name, `unknown` when it has none here.",
    "protonum": "Its number.",
    "timeout": "Whole seconds until the connection ends, unless a packet comes.",
    "state": "Of a protocol that has states.",
    "status": "An array of the names of the status bits that are set, as `SEEN_REPLY`, `ASSURED`, `SRC_NAT`.",
    "orig": "The original direction, an object: `src`, `dst`; then `sport` and `dport`, or `type`, `code` and `id` "
    "(ICMP), or `srckey` and `dstkey` (GRE); `zone`, when it is that of this direction alone; `packets` and `bytes` "
    "while `nf_conntrack_acct` is on; `vtag` (SCTP).",
    "reply": "The reply direction, likewise.",
    "mark": "The connection's mark.",
    "id": "A number that no other connection has.",
    "zone": "The zone of both directions, unless it is 0.",
    "labels": "An array of the numbers of the bits that are set.",
    "in": "The interface its first packet came in by (`-L` only).",
    "out": "The interface its first packet left by (`-L` only).",
    "start": "When it began, in seconds since 1970, while `nf_conntrack_timestamp` is on.",
    "stop": "When it ended, likewise.",
}

JSON_EVENTS: Final = """
An event is the object of its connection, with these keys too:
"""

JSON_EVENT_KEYS: Final = {
    "event": "`NEW`, `UPDATE` or `DESTROY`. `LOST` is an object of its own: so many events, `lost`, are missing here.",
    "seq": "A number that grows with each event.",
    "time": "When it happened, in seconds since 1970.",
    "changed": "An array of what changed: new, related, destroy, reply, assured, protoinfo, helper, mark, seqadj.",
    "reason": "Why the connection ended (DESTROY only).",
    "userspace": "Who ordered it, when it was an order: an object with `pid` and `program`.",
}

JSON_EXPECTATIONS: Final = """
An expectation has `timeout`, `family`, `proto`, `protonum`, `id` and `zone` as a connection has them,
an event of one `event`, `seq` and `time`, and:
"""

JSON_EXPECTATION_KEYS: Final = {
    "tuple": "What is expected, an object as `orig`.",
    "mask": "Which bits of it count.",
    "master": "The original direction of the connection that expects it.",
    "flags": "An array of names.",
    "class": "The helper's number for this kind of connection.",
    "helper": "The helper's name.",
}

JSON_OTHERS: Final = """
With `-C` the keys are `count` and `limit`, with `-F` `flushed`, with `-V` `version`; with `-S` those that the line has.
"""

EXIT_STATUS: Final = (
    ("0", "Done. For `-L` also when nothing was found."),
    (
        "1",
        "The daemon could not be asked, or refused; nothing was found to show with `-G`, to delete with `-D` or to "
        "update with `-U`; forms that exclude each other.",
    ),
    ("2", "The line makes no sense; nothing was asked."),
    ("130", "Interrupted. `-E` ends with 0 instead: it is the ordinary end."),
    ("141", "Who reads the output has left, as head(1) does."),
)

EXAMPLES: Final = (
    ("conntrack-py -L", "List all connections:"),
    ("conntrack-py -L -p tcp --dport 443 --state ESTABLISHED", "Established connections to port 443:"),
    ("conntrack-py -L --host 192.168.1.10", "Whatever 192.168.1.10 takes part in, whoever called, also translated:"),
    ("conntrack-py -L --sort -bytes --limit 10", "The ten connections that have moved most (with nf_conntrack_acct):"),
    ("conntrack-py -L -p udp -u SEEN_REPLY --older-than 1h", "UDP with an answer that has lasted more than an hour:"),
    ("conntrack-py -L -j", "Connections with a translated address or port:"),
    ("conntrack-py -L -o json | jq -r .orig.src | sort | uniq -c", "How many connections each address began:"),
    ("conntrack-py -C", "How many there are:"),
    ("conntrack-py -E -e NEW,DESTROY -o timestamp", "Watch connections come and go:"),
    ("conntrack-py -E -p tcp --dport 22 -o json", "Events of one service, for a program:"),
    ("conntrack-py -D -s 192.168.1.10", "End every connection that 192.168.1.10 began:"),
    ("conntrack-py -D -m 0x10/0xf0", "End those with this mark:"),
    ("conntrack-py -U -p tcp --dport 80 -m 5", "Mark connections that are there already:"),
    (
        "conntrack-py -I -s 192.168.1.10 -d 198.51.100.7 -p udp --sport 5060 --dport 5060 -t 120 -n 203.0.113.1:5060",
        "Make a connection before its first packet comes, with its source translated:",
    ),
    ("conntrack-py -L -o save > connections\nconntrack-py -R connections", "Save the table, and load it again:"),
    ("conntrack-py -L expect", "Connections that are expected:"),
)

DIFFERENCES: Final = """
The same line has the same exit status and the same output with both programs; that is compared line by line. These
differ on purpose; the examples are of a table in which they would find something:
"""

MORE_DIFFERENCES: Final = f"""
Labels that have no name in {LABEL_FILES[0]} are shown by their number, where conntrack(8) leaves them out. In `-o xml` the
states of SCTP have their own names, and the document of `-G` ends. Lists of several connections that were updated are
complete. `-F -f` empties one family only. `--label-del=name` takes away that label and no other. GRE's keys filter, and
so does `-j` with an address beside other filters. `-R` remembers the ports of a connection that is translated both
ways, and SCTP's and UDP-Lite's ports are translated too. `-G expect` and `-D expect` need no `--reply-port-src`, and
find what there is.

Some options are taken so that lines need not be changed, but have nothing to work on: no connection has a `--secmark`,
and `--role` is asked of nobody.
"""

FILES: Final = (
    (DEFAULT_PATH, "The daemon's control socket."),
    (LABEL_FILES[0], f"The names of labels. When it cannot be read, {LABEL_FILES[1]}."),
)

ENVIRONMENT: Final = ((f"`{VARIABLE}`", "The control socket, when `--socket` does not say."),)

SEE_ALSO: Final = "`conntrackd-py`(8), `conntrackd.toml`(5), `conntrack`(8), `jq`(1)"

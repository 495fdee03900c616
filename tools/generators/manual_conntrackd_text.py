"""The prose of conntrackd-py(8). `bold`, <italic>. A subcommand without a word here is still on the page."""

from typing import Final

from conntrackd_py.control.client import DEFAULT_PATH, VARIABLE
from conntrackd_py.settings import load

NAME: Final = "connection tracking and address translation in userspace"

DESCRIPTION: Final = """
`conntrackd-py run` is a daemon for a router. iptables(8) hands it every packet through NFQUEUE; it tracks the
connections they belong to as nf_conntrack of the kernel does, translates their addresses as the configuration says,
and hands them back. The other subcommands check its configuration, put the iptables rules in place, and explain what
it did. `conntrack-py`(8) shows and changes the connections.

In mode `nat` nothing passes while the daemon does not run: after `rules install` the machine can be reached from
outside only while it does, and that includes the session the command was typed in.
"""

# By the words of the subcommand, behind its help.
MORE: Final = {
    "run": """
It stays in the foreground and writes its log to standard error. It needs root, or CAP_NET_ADMIN and CAP_NET_RAW, and
sends nothing through the queue by itself: see `rules install`.
""",
    "check-config": """
It reads the file and those of conf.d beside it as the daemon would, and names every mistake.
""",
    "reload": """
The daemon reads its configuration file again. It takes over all of it in one step, between two packets, or none of
it. NAT, filter, raw and connmark rules hold for connections that begin from then on; tunables, metrics, control and log
settings hold at once; steering rules that are installed are brought in line. `mode`, the table `queue` and
`steering.mark_mask` wait for a restart and are named. Connections that the new rules would not let begin, or would
translate otherwise, are counted and go on; `--flush-stale` ends them. `SIGHUP` does the same without an answer.
""",
    "rules install": """
Rules that others have put there stay where they are.
""",
    "rules remove": """
The ruleset is then as it was found.

With `--on-stop`, the result is taken from SERVICE_RESULT, as systemd.exec(5) sets it. In doubt the rules stay: packets
are then dropped, not sent untranslated.
""",
    "explain": """
With a capture, each packet goes through an engine of its own, without a daemon and without root, and what the
tracking makes of it is printed: hooks, ctinfo, status bits, state, timeout, and the reason when it is refused. With
`--recent`, the daemon tells the last packets it refused, ignored or dropped, and why.

A capture made on the machine that sent the packets has checksums that its network card had still to fill in: add
`--no-checksum`.
""",
    "diff": """
It needs root, to read the kernel's table. A difference is told when it is still there after a moment.
""",
    "lab": """
It needs root. Nothing is left of it afterwards.
""",
}

EXITS: Final = {
    "reload": "0 when the configuration was taken over, 1 when it was not: then the former one stays in force.",
    "status": "0, or 1 when no daemon answers.",
    "top": "0 when it was left or all frames were shown, 1 when no daemon answers, or answers no more.",
    "run": "0 after a signal, 1 when it could not start or had to give up.",
    "check-config": "0 when it is right, 1 when it is not.",
    "rules print": "0, or 1 when the configuration is wrong.",
    "rules install": "0, or 1 when the configuration is wrong or iptables(8) refused.",
    "rules remove": "0, or 1 when iptables(8) refused.",
    "rules status": "0 when they are in place, 3 when they are not or only in part, 1 when it cannot be told.",
    "explain": "0, 1 when there is nothing to explain from, 2 when neither or both of a file and `--recent` are given, "
    "130 when interrupted.",
    "diff": "0 when both tables are the same, 1 when they differ, 2 when one cannot be read.",
    "lab": "0 when all that was shown worked, 1 when it did not, 130 when interrupted.",
}

EXIT_STATUS: Final = """
Unless a subcommand says otherwise:
"""

EXIT_STATUSES: Final = (("0", "Done."), ("1", "Failed."), ("2", "The line makes no sense."))

SIGNALS: Final = (
    (
        "SIGTERM, SIGINT",
        "`run` ends: packets that wait get their verdict, for a second at most, and the control socket is removed.",
    ),
    ("SIGHUP", "`run` logs that it cannot take over a changed configuration without being restarted."),
)

CONTROL: Final = f"""
The daemon listens on a unix socket, {DEFAULT_PATH} unless the configuration or `--socket` says otherwise. Who may
open it is a matter of its mode and group, in `[control]` of the configuration.

A request is a JSON object on one line, the answer one or several. `command` is one of `list`, `get`, `create`,
`update`, `delete`, `flush`, `count`, `stats`, `events`, `recent`, `status` and `ping`; `table` and `filter` say of
what. A list ends with a line that holds `done`, and how many there were; a line with `error` says in words what was
wrong. The keys of a connection are those of `conntrack-py -o json`.
"""

CONTROL_EXAMPLE: Final = f"""echo '{{"command": "list", "filter": {{"proto": 6}}}}' | socat - {DEFAULT_PATH}"""

EXAMPLES: Final = (
    ("conntrackd-py check-config", "Is the configuration right?"),
    ("conntrackd-py rules print", "Which rules would be put in place?"),
    ("conntrackd-py run &\nconntrackd-py rules install\nconntrackd-py rules status", "Start, and let packets come:"),
    ("conntrackd-py explain --recent --last 5", "Why were packets refused?"),
    (
        "conntrackd-py explain --only-problems --host 192.0.2.1 wan.pcap",
        "What was wrong with the packets of one host in a capture?",
    ),
    (
        f"conntrackd-py explain -c {load.DEFAULT_PATH} --inside 192.168.1.0/24 --address 203.0.113.1 lan.pcap",
        "How would the packets of a capture have been translated?",
    ),
)

FILES: Final = (
    (f"{load.DEFAULT_PATH}", "The configuration: see `conntrackd.toml`(5)."),
    (
        f"{load.DEFAULT_PATH.parent}/conf.d/*.toml",
        "Read after it in the order of their names: a key given again counts, rules are appended.",
    ),
    (DEFAULT_PATH, "The control socket."),
)

ENVIRONMENT: Final = (
    (f"`{VARIABLE}`", "The control socket of every command that asks the daemon, when `--socket` does not say."),
    (
        "`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`",
        "As systemd(1) sets them: `run` tells when it is ready and how many connections there are, and feeds the "
        "watchdog.",
    ),
    ("`JOURNAL_STREAM`", "When it is set, lines of the log carry no time: the journal has its own."),
    (
        "`CONNTRACKD_PY_REQUIRE_COMPILED`",
        "When it is 1, the program does not start unless its packet path was compiled.",
    ),
)

SEE_ALSO: Final = "`conntrack-py`(8), `conntrackd.toml`(5), `iptables`(8), `nft`(8), `conntrack`(8), `tcpdump`(1)"

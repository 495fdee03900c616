"""The prose of conntrackd-py(8). `bold`, <italic>. A subcommand without prose here is still on the page."""

from typing import Final

from conntrackd_py.control.client import DEFAULT_PATH, VARIABLE
from conntrackd_py.settings import load

NAME: Final = "connection tracking and NAT in userspace"

DESCRIPTION: Final = """
`conntrackd-py run` is a daemon for a router. Rules of nft(8) or iptables(8) queue every packet to it. The daemon tracks
the connection of the packet as nf_conntrack of the kernel does, translates its addresses by the configured rules, and
accepts or drops it. The other subcommands check the configuration, install these rules, and show and explain
what the daemon does. `conntrack-py`(8) lists and changes the connections.

In mode `nat` the rules drop all packets while the daemon does not run. After `rules install` the machine cannot be
reached from outside until the daemon runs; an SSH session stops too.
"""

# By the words of the subcommand, after its help.
MORE: Final = {
    "run": """
The daemon stays in the foreground and logs to standard error. It needs root, or CAP_NET_ADMIN and CAP_NET_RAW. It
receives packets only after `rules install`.
""",
    "check-config": """
Reads the file and the files of conf.d next to it, as the daemon does. It lists every rule with its family on standard
output. Errors and warnings go to standard error, with file, line and key. The daemon does not start with an error. A
warning is about a rule that is allowed and probably not meant: an earlier rule matches all its packets, MASQUERADE
without an outgoing interface, a timeout of another protocol. Only the first 1,000 rules of each kind and hook are
compared. Warnings are reported if there are no errors. The daemon logs them at its start and after a reload.
""",
    "reload": """
The daemon reads its configuration again and applies all of it between two packets, or none of it. NAT, filter, raw and
connmark rules apply to connections that begin afterwards. Tunables, metrics, control and log settings apply at once.
Installed steering rules are updated. `mode`, the table `queue` and `steering.mark_mask` need a restart; the answer
names those that changed. Connections that the new rules would not create, or would translate differently, are counted
and kept; `--flush-stale` ends them. `SIGHUP` does the same without an answer.
""",
    "upgrade": """
The daemon starts a new process of the installed version with the present configuration, and hands its queues over when
that is ready to serve. Packets wait in the kernel for some milliseconds; the command prints how long. Connections and
their translations stay. If the new process does not start, the former one goes on. It does not install steering rules:
after a change of `mode`, of the table `queue` or of `steering`, restart the service. systemd follows the main process;
another supervisor may take the end of the former process for the end of the service.
""",
    "rules install": """
Rules of others are not changed. `steering.program` selects nft(8) or iptables(8). `steering.kernel_conntrack` decides
whether the kernel tracks the packets too. The command prints both decisions with their reasons.

With `--for`, the command waits after the installation. If neither Enter nor `rules confirm` keeps the new rules in
time, it restores the former ones: an administrator cannot lock himself out. It goes on waiting if its terminal is lost.

In an SSH session, the command refuses to install rules that would cut off the session: no daemon reads the queue, and
the interface of the session is not in `steering.exclude_interfaces`. `--for` and `--force` install them all the same.
""",
    "rules confirm": """
Run it from another session, to be sure that a new session is possible. Only root, or the user who runs `rules install
--for`, may confirm.
""",
    "rules remove": """
The ruleset is then as it was before `rules install`.

With `--on-stop` the result of the service is read from SERVICE_RESULT, as systemd.exec(5) sets it. If the result or the
configuration cannot be read, the rules stay: packets are then dropped, and none leaves untranslated.
""",
    "rules check": """
Needs root. Reads the rules in force with iptables-save(8), ip6tables-save(8), their legacy variants and nft(8), and
some settings of the kernel. Each finding has a severity, the rule, what happens to packets, and a remedy. Rules that
are not understood are counted. `rules install` and `rules status` print the number of errors and warnings.
""",
    "rules translate": """
Use it where the steering rules switch the kernel's tracking off: ct state matches nothing there. The text of
iptables-save(8), ip6tables-save(8) or nft(8) is recognised by its first line. Only `-m conntrack` and `-m state` with
`--ctstate`, `--state` and `--ctdir`, or `ct state` and `ct direction`, are replaced; every other byte stays. One rule
stays one rule. A rule about packets of `steering.exclude_interfaces` too is kept beside the new one, for packets
without the daemon's mark.

Nothing is loaded. The remaining rules are listed on standard error with their line and the reason: other ct matches,
the OUTPUT chain, chains before the first visit. Without FILE the rules in force are printed, which needs root; with
several programs, a comment before each part names the program that loads it.
""",
    "import-rules": """
The text of iptables-save(8), ip6tables-save(8) or `nft list ruleset` is recognised by its first line. The command
reads the tables nat and raw of iptables, the chains of type nat of nft, and its chains before tracking that say notrack
or set a zone. A comment before each table names the lines that it comes from. Jumps are followed; the order of matching
stays.

Nothing is loaded. A rule that cannot be translated is listed on standard error with its line and the reason. It has no
effect in the result: its packets reach the rules after it.
""",
    "targets": """
Without an action, a line for each target: rule, address and port, weight, up or down, new connections since the rule is
in force. `down` and `up` need no change of the configuration. The mark stays over a reload and ends with the daemon. A
connection keeps its target, also when that goes down.
""",
    "mappings": """
A line for each mapping of rules with `mapping = "endpoint-independent"`: protocol, inside and outer endpoint, rule,
filtering, connections, and the time that it lives without a connection. A closed mapping refuses first packets from
outside; its port rests for its own inside endpoint.
""",
    "blocks": """
A line for each block of rules with `port_block`: inside address, outer address and ports, rule, ports in use by
protocol, and age. An empty block is released when it has rested. A contested one is held by connections of two hosts,
after a change of rules; nobody gets a port of it until it is empty.
""",
    "explain": """
With FILE, each packet of the capture goes through an engine in this process; that needs neither root nor a daemon. The
output shows the hooks, ctinfo, status bits, state and timeout, and for a refused packet the reason. With `--recent`,
the daemon lists the last packets that it refused, ignored or dropped, and why. With `--follow`, it shows them as they
come, at most 200 a second; a line counts the others. Packets that the kernel forwards by itself (offload) never reach
the daemon and are not shown.

A capture of all interfaces of a router (`tcpdump -i any`) has a forwarded packet twice, before and after its
translation. The second one is recognised and not tracked again; its connection gets the same translation. Fragments are
reassembled first. A checksum that a network card was still to fill in is recognised and not verified.

`--host` and `--port` also match the packet after its translation, and with `--recent` and `--follow` the original tuple
of its connection. `--reason` can be given several times. Packets that are not shown are tracked too.
""",
    "export": """
The options are filters of conntrack-py(8). The first line has the format and its version, the last one the number of
connections: without it the output is truncated.
""",
    "import": """
A connection whose two tuples a living one has is left alone, so a file can be imported again. A connection that
collides with a living one is refused, unless `--replace` is given. Lines with errors are named by their numbers; the
other lines are imported.
""",
    "who-had": """
Needs neither root nor a daemon, but a log that it may read. Without `--log` it reads `nat_log.file` of the
configuration and the rotated files beside it, compressed or not, oldest first. A time without seconds is the whole
minute, a date alone the whole day. A time without a zone is UTC.

A line for each inside host: its address and port, the outer address and port, the protocol, from when to when, the
remote end, the zone, the rule. Several hosts can have an outer port at a time, each for other remote ends:
`--destination` names the remote end. `possibly` marks a host whose end is not logged. Deterministic rules are read from
the log too. Damaged lines and files that cannot be read are counted and named on standard error.
""",
    "diff": """
Needs root, to read the kernel's table. A difference is reported only if it lasts for a second.
""",
    "lab": """
Needs root. Everything is deleted at the end.
""",
}

EXITS: Final = {
    "reload": "0 if the daemon applied the configuration; 1 if not, and the previous configuration stays in force.",
    "upgrade": "0 when the new process answers; 1 if it did not start, and the former one goes on.",
    "status": "0, or 1 if no daemon answers.",
    "top": "0 after the last frame, `q` or Ctrl-C; 1 if no daemon answers.",
    "run": "0 after a signal, 1 if the daemon could not start or gave up.",
    "check-config": "0 if the configuration has no error; 1 if it has one or, with `--strict`, a warning.",
    "rules print": "0, or 1 if the configuration is wrong.",
    "rules install": "0, or 1 if the configuration is wrong, nft(8) or iptables(8) failed, the rules would cut off "
    "this SSH session, or they were not confirmed.",
    "rules confirm": "0, or 1 if no `rules install --for` is waiting.",
    "rules remove": "0, or 1 if nft(8) or iptables(8) failed.",
    "rules status": "0 if the rules are installed, 3 if none or only some are, 1 if the rules cannot be read.",
    "rules check": "0 without warnings and errors, 1 for warnings, 3 for errors, or if the configuration is wrong or "
    "the rules cannot be read.",
    "rules translate": "0 if every rule was translated, 3 if some were not or only in part, 1 if the text or the "
    "configuration is wrong, or no packet mark is in use.",
    "import-rules": "0 if every rule was translated, 1 if some were not, 2 if the text cannot be used.",
    "mappings": "0, or 1 if no daemon answers.",
    "blocks": "0, or 1 if no daemon answers.",
    "targets": "0, or 1 if no daemon answers or no rule has such a target.",
    "export": "0, 1 if the daemon did not answer to the end, 2 for a wrong filter.",
    "import": "0 if all connections were imported or existed; 3 if some were not; 1 if the import stopped, or the "
    "file is truncated or no export.",
    "explain": "0, also if Ctrl-C ends `--follow`; 1 if the capture or the daemon cannot be read; 2 for wrong options; "
    "130 if interrupted.",
    "who-had": "0 if a host had it, 1 if no host had it, 2 if the log is incomplete: it does not cover the time, lines "
    "were lost near it, a file cannot be read, or the usage was wrong.",
    "diff": "0 if both tables are equal, 1 if they differ, 2 if one cannot be read.",
    "lab": "0 if every step passed, 1 if not, 130 if interrupted.",
}

EXIT_STATUS: Final = """
If the subcommand lists no others:
"""

EXIT_STATUSES: Final = (("0", "Done."), ("1", "Failed."), ("2", "Wrong usage."))

SIGNALS: Final = (
    (
        "SIGTERM, SIGINT",
        "`run` handles the packets in the queue, for at most one second, removes the control socket and exits.",
    ),
    ("SIGHUP", "`run` applies a changed configuration, as `reload` does, and logs the result."),
)

CONTROL: Final = f"""
The daemon listens on a unix socket, by default {DEFAULT_PATH}. `[control]` of the configuration sets its mode and
group, and so who may open it.

A request is a JSON object on one line. `command` is one of `list`, `get`, `create`, `update`, `delete`, `flush`,
`count`, `stats`, `events`, `recent`, `status`, `top`, `reload`, `upgrade`, `export`, `import` and `ping`; `table` and
`filter` select the entries. The answer is one line or several. The last line of a list has `done`, the number of
entries; a line with `error` holds an error message. The keys of a connection are those of `conntrack-py -o json`.
"""

CONTROL_EXAMPLE: Final = f"""echo '{{"command": "list", "filter": {{"proto": 6}}}}' | socat - {DEFAULT_PATH}"""

EXAMPLES: Final = (
    ("conntrackd-py check-config", "Check the configuration:"),
    ("conntrackd-py rules print", "Show the rules that would be installed:"),
    ("conntrackd-py run &\nconntrackd-py rules install\nconntrackd-py rules status", "Start without systemd:"),
    ("conntrackd-py rules check", "Find rules of the firewall that conflict with the daemon:"),
    ("conntrackd-py rules translate /etc/nftables.conf", "Print a firewall that matches the packet mark:"),
    ("conntrackd-py import-rules rules.v4", "Print the NAT rules of a firewall as configuration:"),
    ("conntrackd-py who-had 203.0.113.1 40000 2026-11-22T10:03 --proto tcp", "Show which inside host had a port:"),
    ("conntrackd-py explain --recent --last 5", "Show why the last packets were refused:"),
    ("conntrackd-py explain --follow --reason filter_drop", "Show which filter rules drop packets, as it happens:"),
    (
        "conntrackd-py explain --only-problems router.pcap",
        "Find the refused packets in a capture of the router, made with `tcpdump -i any -w router.pcap`:",
    ),
    (
        "conntrackd-py explain --only-problems --host 192.0.2.1 wan.pcap",
        "Find the refused packets of one host in a capture:",
    ),
    (
        f"conntrackd-py explain -c {load.DEFAULT_PATH} --inside 192.168.1.0/24 --address 203.0.113.1 lan.pcap",
        "Show how the NAT rules would translate the packets of a capture:",
    ),
)

FILES: Final = (
    (f"{load.DEFAULT_PATH}", "The configuration, see `conntrackd.toml`(5)."),
    (
        f"{load.DEFAULT_PATH.parent}/conf.d/*.toml",
        "Read after it in the order of their names. A key replaces an earlier one; rules are appended.",
    ),
    (DEFAULT_PATH, "The control socket."),
)

ENVIRONMENT: Final = (
    (f"`{VARIABLE}`", "The control socket, if `--socket` is not given."),
    (
        "`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`",
        "Set by systemd(1): `run` reports that it is ready, the number of connections, and resets the watchdog.",
    ),
    ("`JOURNAL_STREAM`", "If set, log lines carry no time: the journal adds its own."),
    (
        "`CONNTRACKD_PY_REQUIRE_COMPILED`",
        "If it is 1, the program refuses to start without a compiled packet path.",
    ),
)

SEE_ALSO: Final = "`conntrack-py`(8), `conntrackd.toml`(5), `iptables`(8), `nft`(8), `conntrack`(8), `tcpdump`(1)"

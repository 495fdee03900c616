"""TOML -> Settings. All mistakes are reported together; with any mistake there are no settings.

`load` reads a file, then conf.d/*.toml of its directory in the order of their names: a repeated key replaces the
earlier value; [[raw]], [[connmark]], [[nat]] and [[filter.rule]] rules are appended. A file may begin with a byte-order
mark.
"""

import grp
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, TypeGuard

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.match.address import packed_address
from conntrackd_py.match.interface import wrong_name
from conntrackd_py.nat.rewrite import mss
from conntrackd_py.settings import schema
from conntrackd_py.settings.carrier import reject_overlaps
from conntrackd_py.settings.errors import ABSENT, ConfigError
from conntrackd_py.settings.filterrule import filter_rule, reject_unvisited, ruleset
from conntrackd_py.settings.findings import find_warnings
from conntrackd_py.settings.lines import lines_of
from conntrackd_py.settings.match import free_marks, network_of, read_value
from conntrackd_py.settings.nat_log import nat_log_settings
from conntrackd_py.settings.natrule import nat_rule, reject_unsteered
from conntrackd_py.settings.profile import PROFILES, Profile
from conntrackd_py.settings.raw_mangle import mark_rule, raw_rule
from conntrackd_py.settings.schema import (
    Control,
    Filter,
    Journal,
    Limits,
    Log,
    Metrics,
    Observe,
    Offload,
    Queue,
    Settings,
    Steering,
)
from conntrackd_py.settings.sync import reject_sync, sync_settings
from conntrackd_py.settings.table import Report, Table, readable_file

DEFAULT_PATH: Final = Path("/etc/conntrackd-py/conntrackd.toml")
LARGEST: Final = 2**31 - 1
LEAST_BUFFER: Final = 65536
SMALL_BUFFER: Final = "a smaller buffer holds no packet of 64 kB, and the kernel drops what does not fit"
LEAST_MARK_BITS: Final = 8
MOST_OFFLOAD_BYTES: Final = 2_000_000  # what a connection can count
LEAST_MSS: Final = 88  # Linux sends no smaller segments
MOST_MSS: Final = 65495  # a packet has 65535 bytes with its headers
MAY_BE_ZERO: Final = ("udp_stream_after", "nat_mapping_lifetime", "nat_port_rest")
TABLES: Final = (
    *("queue", "offload", "observe", "steering", "tunables", "limits"),
    *("filter", "metrics", "control", "journal", "sync", "nat_log", "log"),
)
LAST_QUEUE: Final = 65535
RULES: Final = ("nat", "raw", "connmark", "filter.rule")

SYNTAX_AT: Final = re.compile(r" \(at line (\d+), (column \d+)\)$")  # how tomllib ends its messages

Document = dict[str, object]


def load(path: Path) -> Settings:
    """The settings of a file and its drop-ins. Raises ConfigError."""
    drop_ins = sorted((path.parent / "conf.d").glob("*.toml"))
    merged = _Merged(str(path))
    for file in (path, *drop_ins):
        text = _read(file)
        merged.add(str(file), _document(text, str(file)), lines_of(text))
    return merged.settings()


def parse(data: Document, source: str) -> Settings:
    """The settings of one document from tomllib. `source` names it in errors. Raises ConfigError."""
    merged = _Merged(source)
    merged.add(source, data, {})
    return merged.settings()


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError("", ABSENT, error.strerror or str(error), str(path)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError("", ABSENT, "is not UTF-8", str(path), line) from error


def _document(text: str, source: str) -> Document:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = SYNTAX_AT.search(str(error))
        why = SYNTAX_AT.sub(r" (\2)", str(error))
        raise ConfigError("", ABSENT, why, source, int(at[1]) if at else 0) from error


class _Merged:
    """Several documents as one, with the file of each key."""

    def __init__(self, main: str) -> None:
        self.report = Report()
        self.top = Table({}, "", {"": main}, self.report)
        self.tables = {name: Table({}, name, {"": main}, self.report) for name in TABLES}
        self.rules: dict[str, list[Table]] = {name: [] for name in RULES}

    def add(self, source: str, document: Document, lines: dict[str, int]) -> None:
        self.report.lines[source] = lines
        for key, value in document.items():
            if key in self.tables and isinstance(value, dict):
                rest = dict(value)
                if key == "filter" and _is_rules(rules := rest.get("rule")):
                    self.add_rules("filter.rule", rules, source)
                    del rest["rule"]
                self.tables[key].data.update(rest)
                self.tables[key].sources.update(dict.fromkeys(rest, source))
            elif key in RULES and _is_rules(value):
                self.add_rules(key, value, source)
            else:
                self.top.data[key] = value
                self.top.sources[key] = source

    def add_rules(self, key: str, rules: list[Document], source: str) -> None:
        """The rules of all files are numbered in the order of matching."""
        tables = self.rules[key]
        for at, rule in enumerate(rules):
            tables.append(Table(rule, f"{key}[{len(tables)}]", {"": source}, self.report, f"{key}[{at}]"))

    def settings(self) -> Settings:
        top, tables = self.top, self.tables
        profile = Profile(name := top.choice("profile", Settings.profile, PROFILES))
        result = Settings(
            profile=name,
            mode=top.choice("mode", Settings.mode, schema.MODES),
            leak_guard=top.boolean("leak_guard", Settings.leak_guard),
            avoid_bound_ports=top.boolean("avoid_bound_ports", Settings.avoid_bound_ports),
            nat_exhausted=top.choice("nat_exhausted", profile.nat_exhausted, schema.NAT_EXHAUSTED),
            clamp_mss=_clamp_mss(top),
            queue=_queue(tables["queue"]),
            observe=_observe(tables["observe"]),
            offload=_offload(tables["offload"]),
            steering=_steering(tables["steering"]),
            tunables=_tunables(tables["tunables"], profile.tunables),
            limits=_limits(tables["limits"]),
            tcp_tracker=top.choice("tcp_tracker", profile.tcp_tracker, schema.TCP_TRACKERS),
            raw=tuple(raw_rule(one) for one in self.rules["raw"]),
            connmark=tuple(mark_rule(one) for one in self.rules["connmark"]),
            nat=tuple(nat_rule(one, profile) for one in self.rules["nat"]),
            filter=self.filter(tables["filter"]),
            metrics=_metrics(tables["metrics"]),
            control=_control(tables["control"]),
            journal=_journal(tables["journal"]),
            sync=sync_settings(tables["sync"]),
            nat_log=nat_log_settings(tables["nat_log"]),
            log=_log(tables["log"]),
        )
        reject_sync(tables["sync"], result)
        for key, rules in (("raw", result.raw), ("connmark", result.connmark), ("nat", result.nat)):
            free_marks(self.rules[key], [rule.match for rule in rules], result.steering.mark_mask)
        self.reject_misplaced()
        self.reject_contradictions(result)
        self.report.raise_if_any()
        find_warnings(result, self.rules, tables["filter"], tables["offload"])
        return replace(result, warnings=tuple(self.report.in_order(self.report.warnings)))

    def reject_contradictions(self, result: Settings) -> None:
        tables = self.tables
        if result.mode == schema.NAT and result.queue.fail_open:
            why = "would let packets leave untranslated while no daemon runs; only for mode track or observe"
            tables["queue"].wrong("fail_open", why)
        if result.offload.mode != schema.OFF and not result.steering.mark_mask:
            tables["offload"].wrong("mode", "needs the packet mark: steering.mark_mask must not be 0")
        if result.offload.mode != schema.OFF and not result.queue.known_first:
            tables["offload"].wrong("mode", "needs queue.known_first")
        if not result.steering.local:
            reject_unvisited(tables["filter"], self.rules["filter.rule"], result.filter)
        reject_overlaps(self.rules["nat"], result.nat)
        steering = result.steering
        reject_unsteered(self.rules["nat"], result.nat, steering.local, "lo" not in steering.exclude_interfaces)

    def filter(self, table: Table) -> Filter:
        if table.value("rule") is not ABSENT:
            table.wrong("rule", "must be [[filter.rule]] tables")
        return Filter(
            default_in=table.choice("default_in", Filter.default_in, schema.VERDICTS),
            default_forward=table.choice("default_forward", Filter.default_forward, schema.VERDICTS),
            default_out=table.choice("default_out", Filter.default_out, schema.VERDICTS),
            rule=tuple(filter_rule(one) for one in self.rules["filter.rule"]),
            nft=ruleset(table),
            file=table.string("file", Filter.file),
        )

    def reject_misplaced(self) -> None:
        """Report values that should be tables, then unknown keys."""
        for name in (*TABLES, *RULES):
            if self.top.value(name) is not ABSENT:
                self.top.wrong(name, f"must be a [{name}] table" if name in TABLES else f"must be [[{name}]] tables")
        self.top.reject_unknown()
        for table in self.tables.values():
            table.reject_unknown()


def _is_rules(value: object) -> TypeGuard[list[Document]]:
    return isinstance(value, list) and all(isinstance(rule, dict) for rule in value)


def _clamp_mss(top: Table) -> int:
    value = top.value("clamp_mss")
    if value is ABSENT or value == "off":
        return mss.OFF
    if value == "pmtu":
        return mss.PMTU
    if isinstance(value, int) and not isinstance(value, bool) and LEAST_MSS <= value <= MOST_MSS:
        return value
    top.wrong("clamp_mss", f'must be "off", "pmtu", or a number from {LEAST_MSS} to {MOST_MSS}')
    return mss.OFF


def _queue(table: Table) -> Queue:
    return Queue(
        first=table.integer("first", Queue.first, 0, LAST_QUEUE - 3),
        max_length=table.integer("max_length", Queue.max_length, 1, LARGEST),
        socket_buffer=table.integer("socket_buffer", Queue.socket_buffer, LEAST_BUFFER, 2**30, SMALL_BUFFER),
        gso=table.boolean("gso", Queue.gso),
        known_first=table.boolean("known_first", Queue.known_first),
        large_packets=table.choice("large_packets", Queue.large_packets, schema.LARGE_PACKETS),
        on_error=table.choice("on_error", Queue.on_error, schema.ON_ERROR),
        fail_open=table.boolean("fail_open", Queue.fail_open),
    )


def _observe(table: Table) -> Observe:
    return Observe(
        via=table.choice("via", Observe.via, schema.VIAS),
        group=table.integer("group", Observe.group, 1, 65535),
        socket_buffer=table.integer("socket_buffer", Observe.socket_buffer, LEAST_BUFFER, 2**30),
    )


def _offload(table: Table) -> Offload:
    return Offload(
        mode=table.choice("mode", Offload.mode, schema.OFFLOADS),
        packets=table.integer("packets", Offload.packets, 2, 255),
        bytes=table.integer("bytes", Offload.bytes, 0, MOST_OFFLOAD_BYTES),
    )


def _steering(table: Table) -> Steering:
    mask = table.integer("mark_mask", Steering.mark_mask, 0, 0xFFFFFFFF)
    bits = mask.bit_count()
    if mask and (mask // (mask & -mask) != (1 << bits) - 1 or bits < LEAST_MARK_BITS):
        table.wrong("mark_mask", f"must be 0 or at least {LEAST_MARK_BITS} adjacent bits")
    excluded = table.strings("exclude_interfaces", Steering.exclude_interfaces)
    for name in excluded:
        if why := wrong_name(name):
            table.wrong("exclude_interfaces", f"{name!r} {why}")
    families = table.strings("families", Steering.families)
    if not families or not set(families) <= set(schema.FAMILIES):
        table.wrong("families", f"must name one or both of {', '.join(schema.FAMILIES)}")
    return Steering(
        mark_mask=mask,
        exclude_interfaces=excluded,
        families=families,
        program=table.choice("program", Steering.program, schema.PROGRAMS),
        kernel_conntrack=table.choice("kernel_conntrack", Steering.kernel_conntrack, schema.KERNEL_CONNTRACK),
        local=table.boolean("local", Steering.local),
        on_stop=table.choice("on_stop", Steering.on_stop, schema.ON_STOP),
        guard=table.choice("guard", Steering.guard, schema.GUARDS),
    )


def _limits(table: Table) -> Limits:
    hosts = table.strings("hosts", Limits.hosts)
    for host in hosts:
        read_value(table, "hosts", host, network_of)
    prefix = table.integer("ipv6_prefix", Limits.ipv6_prefix, 8, 128)
    if prefix % 8:
        table.wrong("ipv6_prefix", "must be a multiple of 8")
    return Limits(
        connections_per_host=table.integer("connections_per_host", Limits.connections_per_host, 0, LARGEST),
        ports_per_host=table.integer("ports_per_host", Limits.ports_per_host, 0, 65535),
        hosts=hosts,
        ipv6_prefix=prefix,
    )


def _tunables(table: Table, defaults: Tunables) -> Tunables:
    values: dict[str, int] = {}
    for field in fields(Tunables):
        default = getattr(defaults, field.name)
        if isinstance(default, bool):
            values[field.name] = table.boolean(field.name, default)
        elif isinstance(default, int):
            values[field.name] = table.integer(field.name, default, 0 if field.name in MAY_BE_ZERO else 1, LARGEST)
    return Tunables(**values)  # type: ignore[arg-type]  # a bool for a bool, an int for an int


def _metrics(table: Table) -> Metrics:
    metrics = Metrics(
        listen=table.string("listen", Metrics.listen),
        tls_certificate=readable_file(table, "tls_certificate"),
        tls_key=readable_file(table, "tls_key"),
        client_ca=readable_file(table, "client_ca"),
        node_exporter_names=table.boolean("node_exporter_names", Metrics.node_exporter_names),
    )
    try:
        address = metrics.address()
        valid = address is None or (bool(packed_address(address[0])) and 0 < address[1] < 65536)
    except ValueError:
        valid = False
    if not valid:
        table.wrong("listen", "must be address:port, [address]:port for IPv6, or empty")
    _check_tls(table, metrics)
    return metrics


def _check_tls(table: Table, metrics: Metrics) -> None:
    if bool(metrics.tls_certificate) != bool(metrics.tls_key):
        there, missing = ("tls_certificate", "tls_key") if metrics.tls_certificate else ("tls_key", "tls_certificate")
        table.wrong(there, f"needs {missing}")
    elif metrics.client_ca and not metrics.tls_certificate:
        table.wrong("client_ca", "needs tls_certificate and tls_key")
    elif metrics.tls_certificate and not table.report.errors:
        try:
            metrics.tls()
        except OSError as error:
            why = "cannot be used, or its key tls_key or client_ca cannot"
            table.wrong("tls_certificate", f"{why}: {error}")


def _control(table: Table) -> Control:
    text = table.string("mode", f"{Control.mode:04o}")
    mode = Control.mode
    if text and set(text) <= set("01234567") and int(text, 8) <= 0o777:
        mode = int(text, 8)
    else:
        table.wrong("mode", 'must be octal permissions such as "0660"')
    socket = table.string("socket", Control.socket)
    # sun_path has room for 107 bytes and a closing zero.
    if not socket.startswith("/") or len(socket.encode()) > 107:
        table.wrong("socket", "must be an absolute path of at most 107 bytes")
    return Control(
        socket=socket,
        mode=mode,
        group=_group(table),
        max_clients=table.integer("max_clients", Control.max_clients, 1, 4096),
        max_request=table.integer("max_request", Control.max_request, 1024, 2**24),
    )


def _group(table: Table) -> str:
    """As for the daemon, which cannot start without it: a name."""
    group = table.string("group", Control.group)
    try:
        if group:
            grp.getgrnam(group)
    except (KeyError, ValueError):
        table.wrong("group", "there is no such group on this machine")
    return group


def _journal(table: Table) -> Journal:
    journal = Journal(
        enabled=table.boolean("enabled", Journal.enabled),
        file=table.string("file", Journal.file),
        snapshot=table.string("snapshot", Journal.snapshot),
    )
    for key, path in (("file", journal.file), ("snapshot", journal.snapshot)):
        if path and not path.startswith("/"):
            table.wrong(key, "must be an absolute path")
    return journal


def _log(table: Table) -> Log:
    return Log(
        level=table.choice("level", Log.level, schema.LOG_LEVELS),
        format=table.choice("format", Log.format, schema.LOG_FORMATS),
    )

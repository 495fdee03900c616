"""The arguments of every subcommand, a function each.

This module imports nothing that is slow to import, so `--help` and usage errors come at once.
"""

import argparse
from pathlib import Path
from typing import Final

from conntrackd_py.cli.conntrack.options import BY_KEY
from conntrackd_py.const import PROTO_NUMBERS
from conntrackd_py.match.address import AddressError, Addresses, addresses, packed_address
from conntrackd_py.match.address import network as network_bounds
from conntrackd_py.reasons import REASON_NUMBERS
from conntrackd_py.settings.load import DEFAULT_PATH
from conntrackd_py.settings.schema import IPTABLES, NFT

RULES_ACTIONS: Final = {
    "print": "print the rules as text of nft or iptables-restore",
    "install": "install the rules, or update them after a change of the configuration; "
    "in mode nat nothing is forwarded until the daemon runs",
    "confirm": "keep the rules of `rules install --for`: from another session, to be sure that it still works",
    "remove": "remove the rules; needs no configuration",
    "status": "check whether the rules are installed: exit status 0 if they are, 3 if none or only some are",
    "check": "name the rules and settings of this machine that conflict with conntrackd-py, and the remedies: "
    "exit status 0 if there are none, 1 for warnings, 3 for errors",
    "translate": "print a ruleset of iptables or nft with its ct state matches as matches of the packet mark, for a "
    "firewall whose packets the kernel does not track; the rest stays as it is. Rules that cannot be translated are "
    "listed: exit status 0 if there are none, 3 if there are some, 1 after a failure",
}
SYNC_ACTIONS: Final = {
    "status": "show the state: exit status 0 if the server answers and a standby has every connection, 3 if not",
    "takeover": "become the active router, with the connections of the other one",
    "standby": "stop being the active router: forward nothing, follow the other one",
}
TRANSLATE_FORMATS: Final = ("iptables", "ip6tables", "nft")
TOP_KEYS: Final = "keys: q quit; c, b, n sort by connections, bytes, new connections; 4, 6 one family, a both"
TOP_ORDERS: Final = ("connections", "bytes", "new")
TOP_HOSTS_LIMIT: Final = 100
SECONDS_MIN, SECONDS_MAX, SECONDS_DEFAULT = 0.5, 60.0, 2.0  # between two samples of top
RECENT_DEFAULT: Final = 20
CONFIRM_MAX: Final = 3600  # seconds
EXPORT_FILTERS: Final = (  # options of conntrack-py -L, by key
    *("src", "dst", "reply_src", "reply_dst", "proto", "family", "state", "status", "mark", "label", "zone"),
    *("sport", "dport", "src_nat", "dst_nat", "any_nat", "host", "interface", "older_than", "younger_than"),
)


def run(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    _socket(parser, "control socket, instead of the configured one")


def check_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", type=Path, help="configuration file, same as -c FILE")
    _config(parser)
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if there are warnings")


def rules(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in RULES_ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        if name != "confirm":
            _config(action)
        if name == "install":
            _install(action)
        if name == "print":
            action.add_argument(
                "--format",
                choices=(NFT, IPTABLES),
                default="",
                help="print the rules of this program (steering.program)",
            )
        if name == "translate":
            _translate(action)
        if name == "check":
            action.add_argument("--json", action="store_true", help="print one JSON object a finding")
        if name == "remove":
            action.add_argument(
                "--on-stop",
                metavar="UNIT",
                default="",
                help="for this systemd unit, after the daemon stopped: keep the rules after a failure, during a "
                "restart, and if steering.on_stop is keep",
            )


def _install(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--on-start",
        action="store_true",
        help="for the systemd unit, before the daemon starts: if the configuration is wrong and no rules are "
        "installed, install rules that forward nothing",
    )
    action.add_argument(
        "--for",
        dest="seconds",
        metavar="SECONDS",
        type=seconds_to_confirm,
        default=0,
        help="restore the former rules after SECONDS, unless Enter or `rules confirm` keeps the new ones",
    )
    action.add_argument("--force", action="store_true", help="install the rules even if they cut off this SSH session")


def _translate(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "file", nargs="?", metavar="FILE", default="", help="ruleset, - for standard input (the rules in force)"
    )
    action.add_argument(
        "--format",
        dest="text_format",
        choices=TRANSLATE_FORMATS,
        default="",
        help="of FILE, if it is not recognised; without FILE, print only the rules of this program",
    )


def import_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="text of iptables-save, ip6tables-save or `nft list ruleset`; - for stdin",
    )
    parser.add_argument(
        "--format", dest="text_format", choices=TRANSLATE_FORMATS, default="", help="of FILE, if it is not recognised"
    )


def seconds_to_confirm(text: str) -> int:
    seconds = int(text)
    if not 1 <= seconds <= CONFIRM_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to {CONFIRM_MAX}")
    return seconds


def status(parser: argparse.ArgumentParser) -> None:
    _socket(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def reload(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    _socket(parser, "the daemon's control socket, instead of the configured one")
    parser.add_argument(
        "--flush-stale", action="store_true", help="end the connections that the new rules would not create"
    )


def upgrade(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    _socket(parser, "the daemon's control socket, instead of the configured one")


def targets(parser: argparse.ArgumentParser) -> None:
    _socket(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    actions = parser.add_subparsers(dest="state", metavar="ACTION")
    for name, what in (("down", "no new connections to this target"), ("up", "new connections again")):
        action = actions.add_parser(name, help=what, description=what)
        action.add_argument("target", metavar="ADDRESS[:PORT]", help="all targets with this address, and port")


def mappings(parser: argparse.ArgumentParser) -> None:
    _socket(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


blocks = mappings


def top(parser: argparse.ArgumentParser) -> None:
    parser.epilog = TOP_KEYS
    _socket(parser)
    parser.add_argument("--once", action="store_true", help="print one frame as plain text and exit")
    parser.add_argument("--json", action="store_true", help="print one JSON object a frame; one frame without --count")
    parser.add_argument(
        "-i",
        "--interval",
        metavar="SECONDS",
        type=seconds,
        default=SECONDS_DEFAULT,
        help=f"time between two samples, {SECONDS_MIN:g} to {SECONDS_MAX:g} (default {SECONDS_DEFAULT:g})",
    )
    parser.add_argument("-n", "--count", metavar="N", type=frames, help="exit after N frames")
    parser.add_argument(
        "--hosts", metavar="N", type=hosts, help="show at most N hosts (default: what fits; 20 without a terminal)"
    )
    parser.add_argument("--sort", choices=TOP_ORDERS, default=TOP_ORDERS[0], help="order of the hosts (connections)")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const="ipv4", default="", help="IPv4 hosts only")
    family.add_argument("-6", dest="family", action="store_const", const="ipv6", help="IPv6 hosts only")


def explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", type=Path, help="capture file, pcap or pcapng")
    parser.add_argument(
        "--recent", action="store_true", help="the packets that the daemon refused, ignored or dropped last"
    )
    parser.add_argument(
        "--follow", action="store_true", help="the packets that the daemon refuses, ignores or drops, as they come"
    )
    parser.add_argument(
        "--last",
        metavar="N",
        type=count,
        help=f"with --recent, the last N packets ({RECENT_DEFAULT}); with --follow, the last N first",
    )
    _socket(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a packet, then the summary as one")
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, help="use the tunables of FILE, and with --inside its NAT rules"
    )
    parser.add_argument(
        "--inside",
        metavar="NET",
        type=network,
        action="append",
        default=[],
        help="source addresses of the inner network; needed to apply the NAT rules of --config",
    )
    parser.add_argument("--address", metavar="IP", type=address, help="address of the outer interface, for MASQUERADE")
    parser.add_argument("--no-checksum", action="store_true", help="do not verify checksums")
    parser.add_argument("--only-problems", action="store_true", help="show only packets with a reason or a hint")
    _packet_filter(parser)


def _packet_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="IP[/BITS]", type=host, help="show only packets from or to this address")
    parser.add_argument("--port", metavar="N", type=port, help="show only packets from or to this port")
    parser.add_argument("--proto", metavar="PROTO", type=protocol, help="show only packets of this protocol")
    parser.add_argument(
        "--reason",
        metavar="REASON",
        choices=tuple(REASON_NUMBERS),
        action="append",
        default=[],
        help="show only packets with this reason; several options: with one of them",
    )


def export(parser: argparse.ArgumentParser) -> None:
    _socket(parser)
    for key in EXPORT_FILTERS:
        option = BY_KEY[key]
        optional = option.argument.startswith("[")
        parser.add_argument(
            *option.names,
            dest=key,
            metavar=option.argument.strip("[]").upper() if optional else option.argument,
            nargs="?" if optional else None,
            const="" if optional else None,
            help=option.help.removesuffix(" to match or set"),
        )


def import_(parser: argparse.ArgumentParser) -> None:
    _socket(parser)
    parser.add_argument("file", metavar="FILE", help="what `export` printed, - for standard input")
    parser.add_argument(
        "--from", dest="first", metavar="LINE", type=count, default=1, help="leave out the lines before this one"
    )
    parser.add_argument(
        "--replace", action="store_true", help="end the connections that have a tuple of an imported one"
    )
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")


def sync(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in SYNC_ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        _socket(action)
        action.add_argument("--json", action="store_true", help="print one JSON object")
        if name == "takeover":
            action.add_argument("--stale", action="store_true", help="also if connections may be missing")


def diff(parser: argparse.ArgumentParser) -> None:
    _socket(parser)


def lab(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="keep the lab running after the tests, until Ctrl-C")


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help=f"configuration file ({DEFAULT_PATH})"
    )


def _socket(parser: argparse.ArgumentParser, text: str = "the daemon's control socket") -> None:
    parser.add_argument("--socket", metavar="PATH", default="", help=text)


def seconds(text: str) -> float:
    value = float(text)
    if not SECONDS_MIN <= value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not from {SECONDS_MIN:g} to {SECONDS_MAX:g}")
    return value


def frames(text: str) -> int:
    return _between(text, 1, 1_000_000)


def hosts(text: str) -> int:
    return _between(text, 0, TOP_HOSTS_LIMIT)


def _between(text: str, least: int, most: int) -> int:
    value = int(text)
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
    return value


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def port(text: str) -> int:
    return _between(text, 0, 65535)


def host(text: str) -> str:
    """The text, if it is an address or a network."""
    network(text)
    return text


def protocol(text: str) -> int:
    """A name or a number."""
    try:
        return PROTO_NUMBERS[text] if text in PROTO_NUMBERS else _between(text, 0, 255)
    except ValueError as error:
        names = ", ".join(PROTO_NUMBERS)
        raise argparse.ArgumentTypeError(f"unknown protocol {text} (known: {names}, or a number)") from error


def network(text: str) -> Addresses:
    try:
        return addresses(network_bounds(text))
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def address(text: str) -> bytes:
    try:
        return packed_address(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

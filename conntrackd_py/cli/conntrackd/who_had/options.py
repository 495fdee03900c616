"""The arguments of `conntrackd-py who-had`."""

import argparse
from pathlib import Path

from conntrackd_py.cli.conntrackd.options import address, port, protocol
from conntrackd_py.cli.conntrackd.who_had.times import Span, span
from conntrackd_py.const import PROTO_NAMES
from conntrackd_py.match.address import AddressError, address_and_port
from conntrackd_py.settings.load import DEFAULT_PATH


def who_had(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", type=address, help="outer address")
    parser.add_argument("port", metavar="PORT", type=port, help="outer port; ICMP: identifier; GRE: key; others: 0")
    parser.add_argument(
        "time", metavar="TIME", type=moment, help="2026-11-22T10:03:00Z, '2026-11-22 10:03' (UTC) or a Unix time"
    )
    parser.add_argument("--proto", metavar="PROTO", type=protocol_name, help="only this protocol")
    parser.add_argument(
        "--destination",
        metavar="ADDRESS[:PORT]",
        type=endpoint,
        help="only connections with this remote end",
    )
    parser.add_argument(
        "--log",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="read this log and its rotated files instead of nat_log.file; may be repeated",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help=f"configuration file ({DEFAULT_PATH})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def protocol_name(text: str) -> str:
    """As the NAT log writes it."""
    number = protocol(text)
    return PROTO_NAMES.get(number, str(number))


def endpoint(text: str) -> tuple[bytes, int | None]:
    try:
        return address_and_port(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def moment(text: str) -> Span:
    try:
        return span(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error

"""The options of `conntrackd-py explain`; explain.py is what runs."""

import argparse
from pathlib import Path
from typing import Final

from conntrackd_py.match.address import AddressError, Addresses, addresses, packed_address
from conntrackd_py.match.address import network as network_bounds

LAST: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", type=Path, help="a capture, pcap or pcapng")
    parser.add_argument("--recent", action="store_true", help="what the daemon refused, ignored or dropped last")
    parser.add_argument("--last", metavar="N", type=count, default=LAST, help=f"of these the last N ({LAST})")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's control socket")
    parser.add_argument("--json", action="store_true", help="one JSON object a packet, and one with the summary")
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="tunables, and with --inside NAT rules")
    parser.add_argument(
        "--inside",
        metavar="NET",
        type=network,
        action="append",
        default=[],
        help="addresses that arrive from inside; the configuration's NAT rules then apply to the capture",
    )
    parser.add_argument("--address", metavar="IP", type=address, help="of the outside interface, for MASQUERADE")
    parser.add_argument("--no-checksum", action="store_true", help="do not verify checksums")
    parser.add_argument("--only-problems", action="store_true", help="show only packets with something to say about")
    parser.add_argument("--host", metavar="IP", help="show only packets from or to this address")
    parser.add_argument("--port", metavar="N", type=count, help="and this port")
    parser.add_argument("--proto", metavar="NAME", help="and of this protocol")


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


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

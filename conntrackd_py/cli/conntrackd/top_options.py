"""Options of `conntrackd-py top`, apart from what it imports."""

import argparse
from typing import Final

ORDERS: Final = ("connections", "bytes", "new")
LEAST, MOST, USUAL = 0.5, 60.0, 2.0  # seconds between two samples
MOST_HOSTS: Final = 100
KEYS: Final = "keys: q quit; c, b, n sort by connections, bytes, new connections; 4, 6 one family, a both"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = KEYS
    parser.add_argument("--socket", metavar="PATH", help="the daemon's control socket")
    parser.add_argument("--once", action="store_true", help="one frame as plain text, then end")
    parser.add_argument("--json", action="store_true", help="frames as JSON, one object a line; one without --count")
    parser.add_argument(
        "-i",
        "--interval",
        metavar="SECONDS",
        type=seconds,
        default=USUAL,
        help=f"between two samples, {LEAST:g} to {MOST:g} ({USUAL:g})",
    )
    parser.add_argument("-n", "--count", metavar="N", type=frames, help="end after N frames")
    parser.add_argument("--hosts", metavar="N", type=hosts, help="at most N hosts (what fits; 20 without a screen)")
    parser.add_argument("--sort", choices=ORDERS, default=ORDERS[0], help="order of the hosts (connections)")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const="ipv4", default="", help="hosts of IPv4 only")
    family.add_argument("-6", dest="family", action="store_const", const="ipv6", help="hosts of IPv6 only")


def seconds(text: str) -> float:
    value = float(text)
    if not LEAST <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text} is not from {LEAST:g} to {MOST:g}")
    return value


def frames(text: str) -> int:
    return _number(text, 1, 1_000_000)


def hosts(text: str) -> int:
    return _number(text, 0, MOST_HOSTS)


def _number(text: str, least: int, most: int) -> int:
    value = int(text)
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
    return value

"""Options of `conntrackd-py reload`, apart from what it imports."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", metavar="PATH", help="the daemon's control socket")
    parser.add_argument(
        "--flush-stale", action="store_true", help="end the connections that the new rules would not make"
    )

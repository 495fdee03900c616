"""Options of `conntrackd-py reload`, apart from what it imports."""

import argparse

from conntrackd_py.cli.conntrackd.options import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--socket", metavar="PATH", help="the daemon's control socket, instead of the configuration's")
    parser.add_argument(
        "--flush-stale", action="store_true", help="end the connections that the new rules would not make"
    )

"""`conntrackd-py run`: the daemon's options. service/daemon.py is what runs."""

import argparse

from conntrackd_py.cli.options import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--socket", metavar="PATH", default="", help="control socket, instead of the configuration's")

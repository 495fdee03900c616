"""`conntrackd-py run`: reads the configuration and starts the daemon (service/daemon.py)."""

import argparse

from conntrackd_py.cli.conntrackd.options import add_config, settings_or_none


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--socket", metavar="PATH", default="", help="control socket, instead of the configuration's")


def main(args: argparse.Namespace) -> int:
    """0 after a requested stop, 1 when the daemon could not start or had to give up."""
    settings = settings_or_none(args.config)
    if settings is None:
        return 1
    from conntrackd_py.service import daemon

    return daemon.run(settings, args.socket, args.config)

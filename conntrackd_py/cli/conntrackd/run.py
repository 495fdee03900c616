"""`conntrackd-py run`: reads the configuration and starts the daemon (service/daemon.py)."""

import argparse

from conntrackd_py.cli.conntrackd.check_config import settings_or_none


def main(args: argparse.Namespace) -> int:
    """0 after a requested stop, 1 if the daemon could not start or gave up."""
    settings = settings_or_none(args.config)
    if settings is None:
        return 1
    from conntrackd_py.service import daemon

    return daemon.run(settings, args.socket, args.config)

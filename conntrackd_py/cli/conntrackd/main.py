"""The command conntrackd-py: finds the subcommand and runs it, importing nothing of the others."""

import argparse
import importlib
import platform
import sys
from typing import Final, NamedTuple, NoReturn

from conntrackd_py import __version__, compiled
from conntrackd_py.control.escape import escaped


class Command(NamedTuple):
    """A subcommand: `arguments` has add_arguments(parser), `module` has main(args) -> exit status."""

    help: str
    arguments: str
    module: str


COMMANDS: Final = {
    "run": Command("run the daemon", "conntrackd_py.cli.conntrackd.run", "conntrackd_py.cli.conntrackd.run"),
    "check-config": Command(
        "check a configuration",
        "conntrackd_py.cli.conntrackd.check_config",
        "conntrackd_py.cli.conntrackd.check_config",
    ),
    "rules": Command(
        "the iptables rules that hand packets over",
        "conntrackd_py.cli.conntrackd.rules",
        "conntrackd_py.cli.conntrackd.rules",
    ),
    "status": Command(
        "how the daemon is, on one screen",
        "conntrackd_py.cli.conntrackd.status_options",
        "conntrackd_py.cli.conntrackd.status",
    ),
    "reload": Command(
        "take over a changed configuration",
        "conntrackd_py.cli.conntrackd.reload_options",
        "conntrackd_py.cli.conntrackd.reload",
    ),
    "top": Command(
        "who fills the table and what passes, live",
        "conntrackd_py.cli.conntrackd.top_options",
        "conntrackd_py.cli.conntrackd.top",
    ),
    "explain": Command(
        "why packets were refused: in a capture, or what the daemon saw last",
        "conntrackd_py.cli.conntrackd.explain_options",
        "conntrackd_py.cli.conntrackd.explain",
    ),
    "diff": Command(
        "the daemon's table beside the kernel's, in mode observe",
        "conntrackd_py.cli.conntrackd.diff_options",
        "conntrackd_py.cli.conntrackd.diff",
    ),
    "lab": Command(
        "client, router and server in namespaces", "conntrackd_py.cli.conntrackd.lab", "conntrackd_py.lab.run"
    ),
}


class Parser(argparse.ArgumentParser):
    """Escapes the words it repeats in an error."""

    def error(self, message: str) -> NoReturn:
        super().error(escaped(message))


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage; a subcommand may have more."""
    arguments = sys.argv[1:] if argv is None else argv
    parser, subparsers = _parser()
    # Only --version and --help may stand before the subcommand, so it is the first argument or missing.
    chosen = COMMANDS.get(arguments[0]) if arguments else None
    if chosen:
        importlib.import_module(chosen.arguments).add_arguments(subparsers[arguments[0]])
    args = parser.parse_args(arguments)
    status: int = importlib.import_module(COMMANDS[args.command].module).main(args)
    return status


def _parser() -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(prog="conntrackd-py", description="Connection tracking and NAT in userspace.")
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    subparsers = {
        name: commands.add_parser(name, help=command.help, description=command.help)
        for name, command in COMMANDS.items()
    }
    return parser, subparsers


def version() -> str:
    """What runs, in one line: version, build of the packet path, Python."""
    return f"conntrackd-py {__version__} ({'compiled' if compiled else 'pure'}, Python {platform.python_version()})"


if __name__ == "__main__":
    sys.exit(main())

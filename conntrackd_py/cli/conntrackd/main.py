"""The command conntrackd-py: parses the line, then imports and runs one subcommand."""

import argparse
import errno
import importlib
import platform
import sys
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from conntrackd_py import __version__, compiled
from conntrackd_py.cli.conntrackd import options
from conntrackd_py.cli.conntrackd.who_had import options as who_had
from conntrackd_py.cli.stdout import discard_stdout
from conntrackd_py.control.escape import escaped


class Command(NamedTuple):
    """A subcommand. `module` has main(args) -> exit status; it is imported only to run it."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    module: str


HERE: Final = "conntrackd_py.cli.conntrackd"
COMMANDS: Final = {
    "run": Command("run the daemon", options.run, f"{HERE}.run"),
    "check-config": Command(
        "check the configuration: report errors and warnings, list the rules",
        options.check_config,
        f"{HERE}.check_config",
    ),
    "rules": Command(
        "print, install, remove or check the nft or iptables rules that queue packets to the daemon",
        options.rules,
        f"{HERE}.rules",
    ),
    "import-rules": Command(
        "print the NAT and raw rules of a firewall of iptables or nft as configuration; list those that cannot be "
        "translated: exit status 0 if there are none, 1 if there are some, 2 if the text cannot be used",
        options.import_rules,
        f"{HERE}.import_rules",
    ),
    "status": Command("show the state of the daemon", options.status, f"{HERE}.status"),
    "reload": Command("make the daemon apply a changed configuration", options.reload, f"{HERE}.reload"),
    "upgrade": Command(
        "make the daemon hand over to a new process of the installed version", options.upgrade, f"{HERE}.upgrade"
    ),
    "targets": Command(
        "list the targets of DNAT rules with several, or mark one down: it gets no new connections",
        options.targets,
        f"{HERE}.targets",
    ),
    "mappings": Command("list the endpoint-independent mappings", options.mappings, f"{HERE}.mappings"),
    "blocks": Command("list the port blocks of inside hosts", options.blocks, f"{HERE}.blocks"),
    "top": Command("show the table, the traffic and the hosts, live", options.top, f"{HERE}.top.main"),
    "explain": Command(
        "explain why packets were refused, in a capture or by the running daemon",
        options.explain,
        f"{HERE}.explain.main",
    ),
    "export": Command("print the connections of the daemon, one JSON object a line", options.export, f"{HERE}.export"),
    "import": Command("give the daemon the connections of an export", options.import_, f"{HERE}.import_"),
    "sync": Command("show the hot standby, take over, or step down", options.sync, f"{HERE}.sync"),
    "who-had": Command(
        "say which inside host had an outer address and port at a time, by the NAT log; exit status: 0 a host had it, "
        "1 no host had it, 2 the log is incomplete",
        who_had.who_had,
        f"{HERE}.who_had.main",
    ),
    "diff": Command("compare the daemon's table with the kernel's, in mode observe", options.diff, f"{HERE}.diff"),
    "lab": Command("send real traffic through a daemon in network namespaces", options.lab, "conntrackd_py.lab.run"),
}


class Parser(argparse.ArgumentParser):
    """Escapes control characters of the command line in error messages."""

    def error(self, message: str) -> NoReturn:
        super().error(escaped(message))


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage; a subcommand may have more."""
    args = command_line().parse_args(argv)
    try:
        status: int = importlib.import_module(COMMANDS[args.command].module).main(args)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        discard_stdout()
        sys.stderr.write(f"conntrackd-py {args.command}: cannot write: {error.strerror}\n")
        return 1
    return status


def command_line() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(prog="conntrackd-py", description="Connection tracking and NAT in userspace.")
    parser.add_argument("--version", action="version", version=version(), help="show the version and the build")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    return parser


def version() -> str:
    """One line: the version, the build of the packet path, the version of Python."""
    return f"conntrackd-py {__version__} ({'compiled' if compiled else 'pure'}, Python {platform.python_version()})"


if __name__ == "__main__":
    sys.exit(main())

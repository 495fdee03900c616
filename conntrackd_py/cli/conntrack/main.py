"""conntrack-py: conntrack(8) for the daemon's table. Same options, same lines, same exit statuses.

Exit status: 0 done, 1 failed or nothing deleted, 2 wrong usage, 130 interrupted, 141 stdout was closed by its reader.
"""

import signal
import sys
from io import TextIOWrapper
from typing import Final

from conntrackd_py.cli.conntrack.commands import run_command
from conntrackd_py.cli.conntrack.output import NAME, PROGRAM, CombinationError, Output, report
from conntrackd_py.cli.conntrack.parse import Parsed, parse
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.cli.stdout import discard_stdout
from conntrackd_py.control.client import Client, ClientError, socket_path

INTERRUPTED: Final = 128 + signal.SIGINT
STDOUT_GONE: Final = 128 + signal.SIGPIPE


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a process may not fit the locale
    try:
        status = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except UsageError as error:
        report(str(error))
        print(f"Try `{PROGRAM} -h' or '{PROGRAM} --help' for more information.", file=sys.stderr)
        return 2
    except (ClientError, CombinationError) as error:
        report(str(error))
        return 1
    except BrokenPipeError:
        discard_stdout()
        return STDOUT_GONE
    except KeyboardInterrupt:
        discard_stdout()
        return INTERRUPTED
    except OSError as error:
        discard_stdout()
        report(f"cannot write: {error.strerror or error}")
        return 1


def run(arguments: list[str]) -> int:
    """Raises UsageError, CombinationError, ClientError, and OSError of stdout."""
    parsed = parse(arguments)
    if "nat_range" in parsed.values:
        print("WARNING: ignoring -a, deprecated option.", file=sys.stderr)
    if parsed.command in ("", "h", "V"):
        return about(parsed)
    if parsed.command == "R":
        from conntrackd_py.cli.conntrack.load import load

        return load(parsed.file, lambda: connected(parsed))
    return run_command(parsed, lambda: connected(parsed))


def about(parsed: Parsed) -> int:
    from conntrackd_py import __version__
    from conntrackd_py.cli.conntrack.help import usage

    output = Output(parsed.values)
    if parsed.command != "V":
        print(usage(PROGRAM, __version__))
    elif output.json:
        print(f'{{"version":"{__version__}"}}')
    else:
        print(NAME)
    return 0


def connected(parsed: Parsed) -> Client:
    return Client(socket_path(parsed.values.get("socket")))


if __name__ == "__main__":
    sys.exit(main())

"""The text of `conntrack-py --help`, made from the table of options."""

from typing import Final

from conntrackd_py.cli.conntrack.options import COMMANDS, FORMS, OPTIONS, SORT_KEYS, STATUSES, TABLES, Option

WIDTH: Final = 44


def usage(program: str, version: str) -> str:
    lines = [
        f"conntrack(8) for the table of conntrackd-py. Version {version}",
        f"Usage: {program} command [table] [options]",
        "",
        "Commands:",
        *(_line(option) for option in COMMANDS),
        "",
        f"Tables: {', '.join(TABLES)}",
        "",
        "Options:",
        *(_line(option) for option in OPTIONS if not option.protos and not option.extension),
        "",
        "Options of protocols:",
        *(_line(option) for option in OPTIONS if option.protos),
        "",
        "Options that conntrack(8) does not have:",
        *(_line(option) for option in OPTIONS if option.extension),
        "",
        "Output forms (-o):",
        *(f"  {form:<{WIDTH}} {text}" for form, text in FORMS.items()),
        "",
        f"Status: {', '.join(STATUSES)}",
        f"Keys of --sort: {', '.join(SORT_KEYS)}",
    ]
    return "\n".join(lines)


def _line(option: Option) -> str:
    names = f"{', '.join(option.names)} {option.argument}"
    only = f" ({', '.join(option.protocols)})" if option.protos else ""
    return f"  {names:<{WIDTH}} {option.help}{only}"

"""The [nat_log] table."""

from typing import Final

from conntrackd_py.settings.schema import NatLog
from conntrackd_py.settings.table import Table

LEAST: Final = 1024  # lines
MOST: Final = 10_000_000


def nat_log_settings(table: Table) -> NatLog:
    log = NatLog(
        file=table.string("file", NatLog.file),
        connections=table.boolean("connections", NatLog.connections),
        destination=table.boolean("destination", NatLog.destination),
        blocks=table.boolean("blocks", NatLog.blocks),
        buffer=table.integer("buffer", NatLog.buffer, LEAST, MOST),
    )
    if log.file and not log.file.startswith("/"):
        table.wrong("file", "must be an absolute path")
    elif "\0" in log.file:
        table.wrong("file", "must not contain a zero byte")
    return log

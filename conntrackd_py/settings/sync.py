"""The [sync] table. A password stands in a file of its own, so that the configuration may be read by others."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from conntrackd_py.settings.schema import OBSERVE, SYNC_ROLES, SYNC_SCHEMES, Settings, Sync
from conntrackd_py.settings.table import Table, readable_file

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
LONGEST: Final = 3600  # seconds


def sync_settings(table: Table) -> Sync:
    sync = Sync(
        url=table.string("url", Sync.url),
        role=table.choice("role", Sync.role, SYNC_ROLES),
        name=table.string("name", Sync.name),
        username=table.string("username", Sync.username),
        password_file=readable_file(table, "password_file"),
        ca=readable_file(table, "ca"),
        certificate=readable_file(table, "certificate"),
        key=readable_file(table, "key"),
        stale_after=table.integer("stale_after", Sync.stale_after, 1, LONGEST),
    )
    if not NAME.fullmatch(sync.name):
        table.wrong("name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
    if sync.url:
        _check_url(table, sync)
    if bool(sync.certificate) != bool(sync.key):
        there, missing = ("certificate", "key") if sync.certificate else ("key", "certificate")
        table.wrong(there, f"needs {missing}")
    return sync


def _check_url(table: Table, sync: Sync) -> None:
    try:
        parts = urlsplit(sync.url)
        valid = parts.scheme in SYNC_SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        valid = valid and parts.port != 0
    except ValueError:  # the port is no number
        table.wrong("url", "must be redis://host:port, rediss://host:port or unix:///path")
        return
    if not valid:
        table.wrong("url", "must be redis://host:port, rediss://host:port or unix:///path")
    elif parts.password is not None:
        table.wrong("url", "must not have a password: write it into a file and name it in password_file")
    elif parts.query:
        table.wrong("url", "must not have options after a question mark")
    elif parts.scheme != "rediss" and (sync.ca or sync.certificate):
        table.wrong("url", "ca and certificate need TLS: rediss://")


def reject_sync(table: Table, settings: Settings) -> None:
    """Report what other tables and this machine do not allow."""
    if settings.sync.url and find_spec("redis") is None:
        table.wrong("url", "needs the Python package redis, as conntrackd-py[sync] installs it")
    if settings.sync.url and not settings.journal.enabled:
        table.wrong("url", "needs journal.enabled")
    if settings.sync.url and settings.mode == OBSERVE:
        table.wrong("url", "is not for mode observe, which changes no packet")


def password(sync: Sync) -> str | None:
    """Raises OSError and ValueError."""
    if not sync.password_file:
        return None
    lines = Path(sync.password_file).read_text(encoding="utf-8").splitlines()
    if not lines:
        raise ValueError(f"{sync.password_file} is empty")
    return lines[0]

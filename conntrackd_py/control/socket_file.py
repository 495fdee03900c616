"""A unix socket's file: made with the right mode from the first moment, removed when it is ours.

It is bound under a temporary name, given its group and mode, set listening, and only then renamed to its
path. So nobody connects too early or with other permissions, and the file of a dead daemon is replaced
in one step.
"""

import os
import shutil
import socket
from pathlib import Path
from typing import Final

from conntrackd_py.settings.errors import ConfigError

BACKLOG: Final = 512  # acceptor.py takes them by and by


class SocketFile:
    """Raises ConfigError for what the operator can mend."""

    def __init__(self, path: Path, mode: int, group: str) -> None:
        self.path = path
        self.mode = mode
        self.group = group
        self._inode = 0

    def open(self) -> socket.socket:
        """A listening socket, not blocking."""
        listening = self.prepare()
        try:
            self.commit()
        except ConfigError:
            listening.close()
            raise
        return listening

    def prepare(self, former: "SocketFile | None" = None) -> socket.socket:
        """A listening socket that no client can find yet. former: ours, which may have the same path."""
        self._make_folder()
        if former is None or former.path != self.path:
            self._refuse_taken()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(listening, self._temporary)
        except (OSError, ConfigError) as error:
            listening.close()
            self.abandon()
            if isinstance(error, ConfigError):
                raise
            raise self._error(error.strerror or str(error)) from error
        return listening

    def commit(self) -> None:
        """Give the prepared socket its path, in the place of a file that is there."""
        try:
            self._temporary.rename(self.path)
        except OSError as error:
            self.abandon()
            raise self._error(error.strerror or str(error)) from error
        self._inode = self.path.stat().st_ino

    def abandon(self) -> None:
        """Forget the prepared socket's file."""
        self._temporary.unlink(missing_ok=True)

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}")

    def _make_folder(self) -> None:
        """/run is empty after a boot. Only the last part: a mistyped path makes no tree of folders."""
        try:
            self.path.parent.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error

    def remove(self) -> None:
        """Remove the file unless somebody else has put theirs in its place."""
        if self.path.exists() and self.path.stat().st_ino == self._inode:
            self.path.unlink()

    def _bind(self, listening: socket.socket, temporary: Path) -> None:
        temporary.unlink(missing_ok=True)
        before = os.umask(0o777)
        try:
            listening.bind(str(temporary))
        finally:
            os.umask(before)
        if self.group:
            try:
                shutil.chown(temporary, group=self.group)
            except LookupError as error:
                raise ConfigError("control.group", self.group, "there is no such group") from error
        temporary.chmod(self.mode)
        listening.setblocking(False)
        listening.listen(BACKLOG)

    def _refuse_taken(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_socket():
            raise self._error("is there already and not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                return  # left behind by a daemon that died
            except OSError as error:
                raise self._error(error.strerror or str(error)) from error
        raise self._error("another daemon answers there")

    def _error(self, why: str) -> ConfigError:
        return ConfigError("control.socket", str(self.path), why)

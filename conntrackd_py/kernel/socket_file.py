"""A listening unix socket: its file has the right mode from the start, and is removed at the end.

The socket is bound under a temporary name, gets its group and mode, listens, and is then renamed to its path. So no
client connects early or with other permissions, and the file of a dead daemon is replaced in one step.
"""

import os
import shutil
import socket
from pathlib import Path
from typing import Final

from conntrackd_py.settings.errors import ConfigError

BACKLOG: Final = 512  # acceptor.py accepts a few at a time


class SocketFile:
    """Raises ConfigError for a mistake of the operator."""

    def __init__(self, path: Path, mode: int, group: str) -> None:
        self.path = path
        self.mode = mode
        self.group = group
        self._inode = 0

    def open(self) -> socket.socket:
        """The listening socket, non-blocking."""
        listening = self.prepare()
        try:
            self.commit()
        except ConfigError:
            listening.close()
            raise
        return listening

    def prepare(self, former: "SocketFile | None" = None) -> socket.socket:
        """A listening socket without its path yet. former: the daemon's own file, which may have the same path."""
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
        """Rename the prepared socket to its path, replacing a file."""
        try:
            self._temporary.rename(self.path)
        except OSError as error:
            self.abandon()
            raise self._error(error.strerror or str(error)) from error
        self._inode = self.path.stat().st_ino

    def abandon(self) -> None:
        """Remove the prepared socket's file."""
        self._temporary.unlink(missing_ok=True)

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}")

    def _make_folder(self) -> None:
        """/run is empty after a boot. Only the last folder is made, so a mistyped path makes no tree."""
        try:
            self.path.parent.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error

    def remove(self) -> None:
        """Remove the file unless another program has replaced it."""
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
            raise self._error("exists and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                return  # of a dead daemon
            except OSError as error:
                raise self._error(error.strerror or str(error)) from error
        raise self._error("another daemon answers there")

    def _error(self, why: str) -> ConfigError:
        return ConfigError("control.socket", str(self.path), why)

"""A queue that raises ends the daemon; the running daemon: tests/e2e/test_daemon.py."""

import asyncio
import socket
from pathlib import Path

import pytest

from conntrackd_py.kernel.queues.queue import PacketQueue, QueueCounters
from conntrackd_py.kernel.queues.queue_pair import QueuePair
from conntrackd_py.service.daemon import Daemon
from conntrackd_py.settings.schema import Settings


class Raising(PacketQueue):
    """A packet waits, and drain raises an exception."""

    def __init__(self, error: Exception) -> None:
        self.counters = QueueCounters()
        self.error = error
        self.ours, self.kernel = socket.socketpair()
        self.kernel.send(b"packet")
        self.tries = 0

    def fileno(self) -> int:
        return self.ours.fileno()

    def drain(self, limit: int) -> int:
        self.tries += 1
        raise self.error

    def refuse(self) -> None:
        self.kernel.close()

    def close(self) -> None:
        self.ours.close()
        self.kernel.close()


@pytest.mark.parametrize("error", [OSError("gone"), MemoryError(), KeyError("ours")], ids=repr)
def test_an_exception_of_the_queue_ends_the_daemon_with_status_1(
    tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene() -> tuple[Daemon, Raising]:
        daemon = Daemon(Settings(), str(tmp_path / "control.sock"), tmp_path / "conntrackd.toml")
        queue = Raising(error)
        daemon.queue_pair = QueuePair(queue, None)
        asyncio.get_running_loop().add_reader(queue.fileno(), daemon.packets)
        await asyncio.wait_for(daemon.stopping.wait(), 10)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queue.close()
        return daemon, queue

    daemon, queue = asyncio.run(scene())
    assert daemon.status == 1
    assert queue.tries == 1
    assert "queue_lost" in capsys.readouterr().out


def test_the_status_names_refused_new_connections_once(tmp_path: Path) -> None:
    proc = tmp_path / "queues"
    proc.write_text("0 1 7 2 65531 30 0 900 1\n1 1 7 2 65531 50 0 900 1\n")

    async def scene() -> list[str]:
        daemon = Daemon(Settings(), str(tmp_path / "control.sock"), tmp_path / "conntrackd.toml")
        return [daemon.overload(proc), daemon.overload(proc)]

    assert asyncio.run(scene()) == ["; new connections refused (queue full): 30 in 5 s", ""]

"""A process of a chosen name that flushes the table: events show its name."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

SCRIPT = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[2]), 0, 0, 0)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.sendall(b'{"command": "flush"}\\n')
    print(client.recv(100).decode(), end="")
"""


async def flush(path: Path, name: bytes) -> str:
    """The answer. name: at most 15 bytes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(path), name.hex()), stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].decode()

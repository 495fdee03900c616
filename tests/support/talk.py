"""Live connections for tests of a restart: two programs, run by tests/support/processes.py."""

import subprocess
from typing import Final

# Echoes TCP and UDP, and remembers from which port each UDP stream came: another one means that it was re-mapped.
ECHO: Final = """
import asyncio, sys
host, port, udp_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()
class Streams(asyncio.DatagramProtocol):
    seen = {}
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, peer):
        known = self.seen.setdefault(data[:4], peer)
        self.transport.sendto(data if known == peer else b"mapped", peer)
async def main():
    if udp_port:
        await asyncio.get_running_loop().create_datagram_endpoint(Streams, local_addr=(host, udp_port))
    server = await asyncio.start_server(echo, host, port, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
# Opens connections, exchanges random bytes over each until a file exists, counts those on which every byte came back.
TALK: Final = """
import asyncio, hashlib, os, socket, struct, sys
host, stop, port, count, udp_port, streams = *sys.argv[1:3], *map(int, sys.argv[3:7])
every = float(sys.argv[7]) if len(sys.argv) > 7 else 0.1
async def talk(reader, writer):
    sent, got = hashlib.sha256(), hashlib.sha256()
    while not os.path.exists(stop):
        data = os.urandom(3000)
        sent.update(data)
        writer.write(data)
        got.update(await asyncio.wait_for(reader.readexactly(len(data)), 30))
        await asyncio.sleep(every)
    writer.close()
    return sent.digest() == got.digest()
async def stream(number):
    loop, answered = asyncio.get_running_loop(), False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, udp_port))
        while not os.path.exists(stop) or not answered:
            await loop.sock_sendall(sock, struct.pack(">I", number))
            try:
                answer = await asyncio.wait_for(loop.sock_recv(sock, 100), 0.2)
                answered = os.path.exists(stop)
                if answer == b"mapped":
                    return False
            except TimeoutError:
                pass
            await asyncio.sleep(every)
    return True
async def main():
    pairs = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(count)))
    print("ready", flush=True)
    work = [talk(*pair) for pair in pairs] + [stream(number) for number in range(streams)]
    good = await asyncio.gather(*work, return_exceptions=True)
    print(good.count(True), "good", {repr(one) for one in good if one is not True}, flush=True)
asyncio.run(main())
"""


def finished(process: subprocess.Popen[str]) -> str:
    """The last line of its output."""
    assert process.stdout is not None
    said = process.stdout.read()
    assert process.wait(60) == 0
    return said.strip()

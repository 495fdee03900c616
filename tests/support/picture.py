"""Makes the picture of `conntrackd-py top` in the README, from a real daemon and real packets. Needs root:

sudo .venv-compiled/bin/python -m tests.support.picture docs/top.svg
"""

from __future__ import annotations

import html
import io
import json
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from conntrackd_py.cli.conntrackd.top.screen import View, draw, rows_for
from conntrackd_py.lab.namespaces import CLIENT, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import DAEMON, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, UDP_PORT, WEB_PORT, start_servers

LIMIT = 2_000
SECONDS = 14.0
HOSTS = tuple(f"192.168.77.{number}" for number in range(20, 34))
WIDTH, HEIGHT = 96, 24
FONT_FACE = re.compile(r"\s*@font-face \{\{.*?\}\}\n", re.DOTALL)  # they would be fetched from elsewhere
TEXT = re.compile(r'(<text [^>]*x=")([\d.]+)("[^>]* textLength=")([\d.]+)("[^>]*>)([^<]*)(</text>)')
SPACE = "&#160;"

# Many hosts: some ask much, some little; one speaks to a closed port, one holds connections, one is not part of any.
MANY = """
import random, socket, sys, time
hosts, server, web, udp, seconds = sys.argv[1].split(","), *sys.argv[2:4], int(sys.argv[4]), float(sys.argv[5])
web, chosen, held = int(web), random.Random(1), []
until = time.monotonic() + seconds
while time.monotonic() < until:
    host = hosts[min(int(chosen.expovariate(0.35)), len(hosts) - 1)]
    kind = chosen.random()
    try:
        if kind < 0.5:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((host, 0))
                sender.sendto(bytes(chosen.randrange(100, 900)), (server, udp))
        elif kind < 0.75:
            with socket.create_connection((server, web), 3, (host, 0)) as stream:
                stream.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                stream.recv(4000)
        elif kind < 0.85 and len(held) < 60:
            held.append(socket.create_connection((server, web), 3, (host, 0)))
        else:
            socket.create_connection((server, 81), 1, (host, 0)).close()
    except OSError:
        pass
    time.sleep(0.02)
"""


def sampled(net: Topology, router: Router) -> str:
    """What `top --json` says in the midst of it."""
    for host in HOSTS:
        net.client.run("ip", "address", "add", f"{host}/24", "dev", "eth0")
    words = (",".join(HOSTS), SERVER, str(WEB_PORT), str(UDP_PORT), str(SECONDS))
    net.client.start(sys.executable, "-c", MANY, *words)
    for address in (SERVER, SERVER6):
        net.client.start("ping", "-i", "0.5", address)
    net.client.start(*TRAFFIC, "exchange", SERVER, str(EXCHANGE_PORT), "2000000000")
    net.client.start(*strays())
    top = (*DAEMON, "top", "--json", "--socket", str(router.socket), "--count", "5", "--hosts", str(rows_for(HEIGHT)))
    return net.router.run(*top).splitlines()[-1]


def strays() -> tuple[str, ...]:
    """SYN+ACKs without a SYN, as INVALID packets."""
    code = f"""
import time
from scapy.all import IP, TCP, send
for number in range(200):
    send(IP(src="{CLIENT}", dst="{SERVER}") / TCP(sport=number + 5000, dport=80, flags="SA"), verbose=False)
    time.sleep(0.05)
"""
    return (sys.executable, "-c", code)


def trimmed(text: re.Match[str]) -> str:
    """A piece of text that begins where its first letter does: not every program that draws it keeps the spaces."""
    before, x, between, length, after, shown, end = text.groups()
    characters = len(html.unescape(shown))
    width = float(length) / characters
    left = 0
    while shown.startswith(SPACE):
        shown = shown.removeprefix(SPACE)
        left += 1
    while shown.endswith(SPACE):
        shown = shown.removesuffix(SPACE)
    if not shown:
        return ""
    moved, kept = float(x) + left * width, len(html.unescape(shown)) * width
    return f"{before}{moved:.1f}{between}{kept:.1f}{after}{shown}{end}"


def main(file: Path) -> None:
    with Topology() as net:
        router = Router(net)
        router.config.write_text(
            router.config.read_text().replace("[tunables]", f"[tunables]\nnf_conntrack_max = {LIMIT}")
        )
        router.install_rules()
        router.start()
        start_servers(net)
        frame = json.loads(sampled(net, router))
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(draw(frame, View("connections", "", 2.0), keys=True))
    template = FONT_FACE.sub("", CONSOLE_SVG_FORMAT)
    picture = console.export_svg(title="conntrackd-py top", theme=MONOKAI, code_format=template)
    file.write_text(re.sub(r"\n[ \t]*(?=\n)", "", TEXT.sub(trimmed, picture)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

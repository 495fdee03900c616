"""NAT logs for tests of `who-had`: lines that the daemon's own code renders, of connections that are made up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPCT_DESTROY, IPCT_NEW, IPPROTO_TCP, IPS_CONFIRMED, IPS_SRC_NAT
from conntrackd_py.explain.nat_log import Connections, Texts, note_line
from conntrackd_py.match.address import packed_address
from conntrackd_py.proto.generic import Generic

BEGIN: Final = 1_795_341_780_000  # ms: 2026-11-22T10:03:00Z
OUTER: Final = "203.0.113.1"
HOST: Final = "192.168.1.2"
REMOTE: Final = "198.51.100.80"
GENERIC: Final = Generic(Tunables())


def translated(
    inside: str = HOST,
    port: int = 4711,
    outer: str = OUTER,
    outer_port: int = 1024,
    remote: str = REMOTE,
    remote_port: int = 80,
    proto: int = IPPROTO_TCP,
    born: int = 0,
    zone: int = 0,
) -> NfConn:
    """A connection with source NAT. born: ms after BEGIN."""
    there = packed_address(remote)
    l4, answer = ports(port, remote_port), ports(remote_port, outer_port)
    original = tuples.with_zone(tuples.make(packed_address(inside) + there, l4, proto), zone)
    reply = tuples.with_zone(tuples.make(there + packed_address(outer), answer, proto), zone)
    ct = NfConn(original, reply, GENERIC, born)
    ct.status = IPS_CONFIRMED | IPS_SRC_NAT
    ct.timeout = 2**60
    return ct


def ports(first: int, second: int) -> bytes:
    return first.to_bytes(2, "big") + second.to_bytes(2, "big")


def line(kind: str, ct: NfConn, at: int, rule: str = "", accounting: bool = False) -> bytes:
    """kind: NEW, OPEN or DESTROY. at: ms after BEGIN."""
    bits = {"NEW": IPCT_NEW, "OPEN": 0, "DESTROY": IPCT_DESTROY}[kind]
    return Connections([Event(bits, at, 0, ct)], [rule], BEGIN, accounting).lines(0, 1, Texts())


def note(kind: str, at: int, **fields: object) -> bytes:
    return note_line(kind, BEGIN + at, Texts(), fields)


def head(kind: str, at: int, run: str = "one", **fields: object) -> bytes:
    every = {"version": 1, "run": run, "connections": True, "rules": []}
    return note(kind, at, **{**every, **fields})


def begun(at: int = 0) -> bytes:
    """The first lines of a log, with an empty list."""
    return head("FILE", at) + head("START", at) + note("LIST", at) + note("LISTED", at, connections=0)


def written(path: Path, lines: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(lines))
    return path

"""NAT pools: how many connections each outer address carries, and how many of its ports are in use.

A port may serve many destinations at once, so connections may outnumber ports. While `ports` is below `available`, no
destination has run out of ports.
"""

from typing import Final

from conntrackd_py.const import ICMP_PROTOCOLS, PROTO_NAMES
from conntrackd_py.control.protocol.answers import Pool
from conntrackd_py.explain import hosts
from conntrackd_py.match.address import address_text
from conntrackd_py.nat.binding import leads_to
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.usage.pool import IDS, UNPRIVILEGED
from conntrackd_py.nat.usage.port_usage import span

SHOWN: Final = 16


def pools(nat: Nat, counted: dict[bytes, hosts.Pool]) -> list[Pool]:
    """SHOWN addresses with most connections, in that order."""
    totals: dict[bytes, int] = {}
    for key, pool in counted.items():
        totals[key[:-1]] = totals.get(key[:-1], 0) + pool.connections
    largest = sorted(totals, key=lambda address: (-totals[address], address))[:SHOWN]
    protos: dict[bytes, list[int]] = {address: [] for address in largest}
    for key in counted:
        if key[:-1] in protos:
            protos[key[:-1]].append(key[-1])
    return [_address(nat, address, sorted(protos[address]), counted) for address in largest]


def _address(nat: Nat, address: bytes, protonums: list[int], counted: dict[bytes, hosts.Pool]) -> Pool:
    protocols: dict[str, dict[str, int]] = {}
    connections = 0
    shares: list[float] = []
    for protonum in protonums:
        pool = counted[address + bytes([protonum])]
        connections += pool.connections
        described: dict[str, int] = {"connections": pool.connections}
        if pool.ports:
            used, available = usage(pool.ports, ranges(nat, address, protonum))
            described.update(ports=used, available=available)
            shares.append(used / available)
        protocols[PROTO_NAMES.get(protonum, str(protonum))] = described
    found: Pool = {
        "address": address_text(address),
        "connections": connections,
        "protocols": protocols,
    }
    if shares:
        found["share"] = round(max(shares), 4)
    return found


def usage(bits: bytearray, spans: set[tuple[int, int]]) -> tuple[int, int]:
    """Ports of these spans (inclusive) that are in use, and all of them."""
    wanted = 0
    for low, high in spans:
        wanted |= (1 << high + 1) - (1 << low)
    return (int.from_bytes(bits, "little") & wanted).bit_count(), wanted.bit_count()


def ranges(nat: Nat, address: bytes, protonum: int) -> set[tuple[int, int]]:
    """The spans of ports (or ids) that the source rules of this address choose from."""
    spans: set[tuple[int, int]] = set()
    for rule in nat.rules.source_rules:
        if rule.match.fits_protocol(protonum) and leads_to(rule, nat.interfaces, address):
            if not rule.to.has_ports:
                return {span(rule, protonum)}
            spans.add(span(rule, protonum))
    return spans or {IDS if protonum in ICMP_PROTOCOLS else UNPRIVILEGED}

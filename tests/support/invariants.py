"""What must hold of a table at any time; property tests call this after whatever they did."""

from collections import Counter

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING, IPS_SRC_NAT, MANIP_DST, MANIP_SRC
from conntrackd_py.engine.engine import Engine
from conntrackd_py.nat.carrier.blocks import host_key, outer_of, place_of, port_in
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.ports import answer_port


def check(engine: Engine) -> None:
    table = engine.core.table
    held = [ct for ct in table.slots if ct is not None]
    assert len({ct.slot for ct in held}) == len(held)
    assert sorted(table.free) == [i for i, ct in enumerate(table.slots) if ct is None]
    confirmed = [ct for ct in held if ct.status & IPS_CONFIRMED and not ct.status & IPS_DYING]
    assert len(confirmed) == table.confirmed
    for ct in confirmed:
        assert table.hash[ct.original] is ct
        assert table.hash[ct.reply] is ct
        assert ct.due, "a confirmed connection that would never expire"
    assert len(table.hash) == sum(len({ct.original, ct.reply}) for ct in confirmed)
    for slot, ct in table.unconfirmed.items():
        assert table.slots[slot] is ct
        assert not ct.status & (IPS_CONFIRMED | IPS_DYING)
        assert table.pending[ct.original] is ct or table.pending[ct.original].original == ct.original
        for t in (ct.original, ct.reply):
            assert table.pending[t] is ct or table.waiting[t][slot] is ct
    for t, others in table.waiting.items():
        assert all(t in (ct.original, ct.reply) and ct is table.unconfirmed[slot] for slot, ct in others.items())
        assert others
        assert table.pending[t].slot not in others
    for t, ct in table.pending.items():
        assert ct.slot in table.unconfirmed
        assert t in (ct.original, ct.reply)
    for ct in table.dying:
        assert table.slots[ct.slot] is ct
        assert ct.status & IPS_DYING
    protos = {id(proto): proto for proto in engine.core.protos}.values()
    for proto in protos:
        for state, count in enumerate(proto.entries):
            assert count == sum(ct.l4proto is proto and ct.state == state for ct in confirmed)
    if table.hosts.limit:
        living = Counter(table.hosts.host(ct.original) for ct in held if not ct.status & IPS_DYING)
        assert dict(table.hosts.counts.items()) == living
        assert set(table.hosts.near) <= living.keys()
    ports(engine.nat, held)
    mappings(engine.nat, held)
    blocks(engine.nat, held)


def ports(nat: Nat, held: list[NfConn]) -> None:
    """The ports in use are those that a walk finds."""
    found: dict[bytes, Counter[int]] = {}
    for ct in held:
        if ct.port_counted:
            assert not ct.status & IPS_DYING
            key = tuples.dst(ct.reply) + bytes([tuples.protonum(ct.reply)])
            found.setdefault(key, Counter())[answer_port(ct)] += 1
    assert nat.port_usage.outers.keys() == found.keys()
    shares: dict[int, list[int]] = {}
    for key, outer in nat.port_usage.outers.items():
        counted = outer.sparse or {port: count for port, count in enumerate(outer.dense) if count}
        assert counted == found[key]
        assert outer.ports == len(counted)
        for share in outer.shares:
            assert share.ports == sum(share.usage.low <= port <= share.usage.high for port in counted)
            shares.setdefault(id(share.usage), []).append(share.ports)
    for rule in nat.rules.source_rules:
        for use in rule.pool.usage.values():
            mine = [count for count in shares.get(id(use), []) if count]
            assert (use.ports, use.fullest) == (sum(mine), max(mine, default=0))
            assert use.levels == (dict(Counter(mine)) if len(mine) > 1 else {})


def mappings(nat: Nat, held: list[NfConn]) -> None:
    """Mappings and the connections attached to them agree."""
    endpoints = nat.endpoints
    living = [ct for ct in held if not ct.status & IPS_DYING]
    sources = Counter(mapping.outer for ct in living if (mapping := endpoints.of(ct, MANIP_SRC)) is not None)
    targets = Counter(mapping.outer for ct in living if (mapping := endpoints.of(ct, MANIP_DST)) is not None)
    assert sum(mapping is not None for mapping in endpoints.attached) == sources.total() + targets.total()
    everyone = endpoints.by_outer.items()
    assert endpoints.count == len(everyone)
    assert endpoints.hosts == Counter(mapping.inside[: mapping.length] for _, mapping in everyone)
    for outer, mapping in everyone:
        assert mapping.outer == outer
        assert (mapping.holding, mapping.connections) == (sources[outer], sources[outer] + targets[outer])
        assert (outer in endpoints.resting) == (not mapping.connections)
        assert mapping.latest is None or mapping.latest in living
    for ct in living:
        mapping = endpoints.of(ct, MANIP_SRC)
        assert mapping is None or (mapping.inside, mapping.outer) == (
            tuples.source_key(ct.original),
            tuples.destination_key(ct.reply, False),
        )
        mapping = endpoints.of(ct, MANIP_DST)
        assert mapping is None or (mapping.outer, mapping.inside) == (
            tuples.destination_key(ct.original, False),
            tuples.source_key(ct.reply),
        )


def _host(ct: NfConn) -> bytes:
    return host_key(tuples.src(ct.original if ct.status & IPS_SRC_NAT else ct.reply), tuples.zone(ct.reply))


def blocks(nat: Nat, held: list[NfConn]) -> None:
    """Port blocks and what holds them agree: every translated port lies in a block of its host."""
    mine = nat.blocks
    found: dict[int, Counter[int]] = {}
    for ct in held:
        block = mine.of(ct)
        if ct.status & IPS_DYING:
            assert block is None
        elif mine.active and (outer := outer_of(ct)):
            assert block is mine.at(outer[:-2], port_in(outer))
            if block is not None:
                port = port_in(outer)
                assert block.low <= port <= block.high
                assert block.contested or _host(ct) == block.host
                found.setdefault(id(block), Counter())[tuples.protonum(ct.original) << 16 | port] += 1
    for mapping in [mapping for part in nat.endpoints.by_outer.parts for mapping in part.values()]:
        if mapping.block is not None:
            assert mapping.block is mine.at(mapping.address, mapping.port)
            found.setdefault(id(mapping.block), Counter())[mapping.protonum << 16 | mapping.port] += 1
    everyone = dict(mine.by_place.items())
    assert {id(block) for block in everyone.values() if block.counts} == found.keys()
    for place, block in everyone.items():
        assert place == place_of(block.outer, block.low)
        assert block.counts == found.get(id(block), {})
        assert (place in mine.resting) == (not block.counts)
        bits = dict.fromkeys(block.used, 0)
        for key in block.counts:
            bits[key >> 16] |= 1 << (key & 0xFFFF) - block.low
        assert block.used == bits
    spaces = [*mine.ranges, *mine.addresses.values()]
    assert sum(space.allocated for space in spaces) == len(everyone)
    for space in spaces:
        theirs = [block for hosts in space.hosts.values() for block in hosts]
        assert len(theirs) == space.allocated == sum(bits.bit_count() for bits in space.taken.values())
        assert all(block in everyone.values() for block in theirs)
        assert all(block.host == host for host, hosts in space.hosts.items() for block in hosts)
        full = {number for number, bits in space.taken.items() if bits.bit_count() == space.blocks}
        assert {number for number in range(space.addresses) if not space.open >> number & 1} == full

"""Host statistics: connections, packets and bytes by host and by NAT pool, counted a few slots at a time.

A walk counts every confirmed connection once: for its host (the source of its original direction) and, with source
NAT, for its pool (outer address and protocol). Connections that end between two walks are counted as they end. So the
bytes a host moved between two walks are exact: live + ended - live at the previous walk. After a walk the hosts are
ranked and the figures of the walk before the previous one are freed, both in bounded steps.

Bounds: `limit` hosts and `pool_limit` pools; the rest is counted as others. The last quarter of the host entries is
for hosts with many connections: a flood of addresses seen once must not hide the host that fills the table.
"""

from heapq import heappush, heapreplace
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack, Extension
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6, IPS_CONFIRMED, IPS_DYING, IPS_SRC_NAT
from conntrackd_py.nat.ports import answer_port

HOSTS_LIMIT: Final = 65_536
POOLS_LIMIT: Final = 1_024
RANKED: Final = 100  # hosts kept of each family in each order

# The figures of a host: four for its live connections, the same four for those that ended since the previous walk.
# Ranking replaces the latter by what all of them moved since the previous walk.
CONNECTIONS: Final = 0
PACKETS: Final = 1
SENT: Final = 2  # bytes of the original direction
RECEIVED: Final = 3  # bytes of the reply direction
ENDED: Final = 4
MOVED: Final = ENDED
FIELDS: Final = 8
NOTHING: Final = (0,) * FIELDS
UNKNOWN: Final = -1  # moved, without a previous walk

BY_CONNECTIONS: Final = 0
BY_BYTES: Final = 1
BY_NEW: Final = 2
ORDERS: Final = 3

OTHERS: Final = 0  # index of the figures of hosts without an entry
SHARDS: Final = 8
CELLS: Final = 2_048
ADMITTED_AT: Final = 64  # connections counted in one cell before a host gets one of the last entries

IDLE: Final = 0
WALKING: Final = 1
RANKING: Final = 2
FREEING: Final = 3


@final
class Hosts:
    """Figures by address, of `limit` hosts; the others share the first FIELDS of `figures`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = limit - limit // 4
        self.places: dict[bytes, int] = {}
        self.addresses: list[bytes] = []
        self.figures: list[int] = [0] * FIELDS
        self.cells: list[int] = []

    def find(self, address: bytes) -> int:
        """Index of a host's figures; OTHERS when it has no entry."""
        return self.places.get(address, OTHERS)

    def place(self, address: bytes) -> int:
        """Index of a host's figures; makes an entry if there is room."""
        at = self.places.get(address, OTHERS)
        if at != OTHERS or (len(self.addresses) >= self.open and not self._admits(address)):
            return at
        at = len(self.figures)
        self.places[address] = at
        self.addresses.append(address)
        self.figures.extend(NOTHING)
        return at

    def free(self, budget: int) -> bool:
        """Free the entries of at most `budget` hosts; False when none is left."""
        for address in self.addresses[-budget:]:
            del self.places[address]
        del self.addresses[-budget:]
        del self.figures[max(len(self.figures) - budget * FIELDS, FIELDS) :]
        return bool(self.addresses)

    def _admits(self, address: bytes) -> bool:
        if len(self.addresses) >= self.limit:
            return False
        if not self.cells:
            self.cells = [0] * CELLS
        cell = hash(address) // SHARDS % CELLS
        self.cells[cell] += 1
        if self.cells[cell] < ADMITTED_AT:
            return False
        self.cells[cell] = 0
        return True


@final
class Shards:
    """Hosts in SHARDS parts: a dict or list copies itself when it grows, and small ones pause the daemon less."""

    def __init__(self, limit: int) -> None:
        self.parts = [Hosts(limit // SHARDS) for _ in range(SHARDS)]

    def of(self, address: bytes) -> Hosts:
        return self.parts[hash(address) % SHARDS]

    def count(self, ct: NfConn, column: int) -> None:
        """Add a connection, its packets and bytes to its host's figures, from this column on."""
        address = tuples.src(ct.original)
        hosts = self.of(address)
        at = hosts.place(address) + column
        figures = hosts.figures
        figures[at] += 1
        packets = ct.packets_original + ct.packets_reply
        if packets:
            figures[at + PACKETS] += packets
            figures[at + SENT] += ct.bytes_original
            figures[at + RECEIVED] += ct.bytes_reply

    @property
    def known(self) -> int:
        """Hosts with an entry."""
        return sum(len(hosts.addresses) for hosts in self.parts)

    @property
    def others(self) -> int:
        """Live connections of hosts without an entry."""
        return sum(hosts.figures[CONNECTIONS] for hosts in self.parts)


@final
class Pool:
    """The connections of one protocol translated to one address; ports: a bit for each in use."""

    def __init__(self, with_ports: bool) -> None:
        self.connections = 0
        self.ports = bytearray(8192 if with_ports else 0)


@final
class HostStatistics(Extension):
    """Call `begin`, then `step` until it returns False; then finished, pools and ranked are those of this walk."""

    def __init__(self, core: Conntrack, limit: int = HOSTS_LIMIT, pool_limit: int = POOLS_LIMIT) -> None:
        self.core = core
        self.limit = limit
        self.pool_limit = pool_limit
        self.phase = IDLE
        self.at = 0
        self.end = 0
        self.shard = 0  # being ranked or freed
        self.walks = 0
        self.finished = Shards(0)
        self.previous = Shards(0)  # until all are ranked
        self.current = Shards(limit)  # of the running walk, or of the next
        self.following = Shards(limit)  # ended after the running walk had counted it
        self.pools: dict[bytes, Pool] = {}  # outer address and protocol number
        self.unpooled = 0  # connections of pools beyond the limit
        self.counting: dict[bytes, Pool] = {}
        self.uncounted = 0
        self.ranked: list[list[tuple[int, int, bytes]]] = _empty()  # heaps, by order * 2 + (1: IPv6)
        self.ranking: list[list[tuple[int, int, bytes]]] = _empty()

    @property
    def compared(self) -> bool:
        """Whether there was a walk before the last one, so that `moved` is known."""
        return self.walks > 1

    def begin(self) -> None:
        """Start a walk over the present slots."""
        self.phase = WALKING
        self.at = 0
        self.end = len(self.core.table.slots)

    def step(self, budget: int) -> bool:
        """Work on `budget` slots or hosts; False when all is done."""
        if self.phase == WALKING:
            self._walk(budget)
        elif self.phase == RANKING:
            self._rank(budget)
        elif self.phase == FREEING:
            self._free_previous(budget)
        return self.phase != IDLE

    def free(self, budget: int) -> bool:
        """Free everything, in steps; False when nothing is left."""
        for hosts in (self.finished, self.previous, self.current, self.following):
            for part in hosts.parts:
                if part.addresses:
                    part.free(budget)
                    return True
        return False

    def destroyed(self, ct: NfConn) -> None:
        if ct.status & IPS_CONFIRMED:
            counted = self.phase == WALKING and ct.slot < self.at
            (self.following if counted else self.current).count(ct, ENDED)

    def best(self, order: int, v4: bool, v6: bool) -> list[bytes]:
        """The addresses of the first hosts in this order, at most RANKED, of one or both families."""
        found: list[tuple[int, int, bytes]] = []
        if v4:
            found += self.ranked[order * 2]
        if v6:
            found += self.ranked[order * 2 + 1]
        found.sort(reverse=True)
        return [entry[2] for entry in found[:RANKED]]

    def _walk(self, budget: int) -> None:
        slots = self.core.table.slots
        at = self.at
        end = min(at + budget, self.end)
        while at < end:
            ct = slots[at]
            at += 1
            if ct is None or ct.status & (IPS_CONFIRMED | IPS_DYING) != IPS_CONFIRMED:
                continue
            self.current.count(ct, CONNECTIONS)
            if ct.status & IPS_SRC_NAT:
                self._translated(ct)
        self.at = at
        if at >= self.end:
            self._walked()

    def _translated(self, ct: NfConn) -> None:
        protonum = tuples.protonum(ct.reply)
        key = tuples.dst(ct.reply) + tuples.PROTO_BYTE[protonum]
        pool = self.counting.get(key)
        if pool is None:
            if len(self.counting) >= self.pool_limit:
                self.uncounted += 1
                return
            pool = Pool(ct.l4proto.ports or protonum in (IPPROTO_ICMP, IPPROTO_ICMPV6))
            self.counting[key] = pool
        pool.connections += 1
        if pool.ports:
            port = answer_port(ct)
            pool.ports[port >> 3] |= 1 << (port & 7)

    def _walked(self) -> None:
        self.previous = self.finished
        self.finished = self.current
        self.current = self.following
        self.following = Shards(self.limit)
        self.pools = self.counting
        self.unpooled = self.uncounted
        self.counting = {}
        self.uncounted = 0
        self.walks += 1
        self.phase = RANKING
        self.at = 0
        self.ranking = _empty()

    def _rank(self, budget: int) -> None:
        hosts, before = self.finished.parts[self.shard], self.previous.parts[self.shard]
        end = min(self.at + budget, len(hosts.addresses))
        for i in range(self.at, end):
            self._enter(hosts, before, i)
        self.at = end
        if end == len(hosts.addresses):
            self.at = 0
            self.shard += 1
        if self.shard == SHARDS:
            self.ranked = self.ranking
            self.shard = 0
            self.phase = FREEING

    def _free_previous(self, budget: int) -> None:
        if not self.previous.parts[self.shard].free(budget):
            self.shard += 1
        if self.shard == SHARDS:
            self.shard = 0
            self.phase = IDLE

    def _enter(self, hosts: Hosts, previous: Hosts, i: int) -> None:
        """Compute what a host moved, and rank it."""
        address = hosts.addresses[i]
        figures = hosts.figures
        at = (i + 1) * FIELDS
        before = previous.find(address)
        overflown = before == OTHERS and previous.figures[CONNECTIONS] > 0
        for field in range(ENDED):
            if not self.compared or overflown:
                figures[at + MOVED + field] = UNKNOWN
                continue
            moved = figures[at + field] + figures[at + ENDED + field]
            if before != OTHERS:
                moved -= previous.figures[before + field]
            figures[at + MOVED + field] = max(moved, 0)  # the counters of a reopened connection start from zero
        connections = figures[at + CONNECTIONS]
        from_field = MOVED if figures[at + MOVED] != UNKNOWN else CONNECTIONS
        carried = figures[at + from_field + SENT] + figures[at + from_field + RECEIVED]
        family = 0 if len(address) == 4 else 1
        _keep(self.ranking[BY_CONNECTIONS * 2 + family], connections, carried, address)
        _keep(self.ranking[BY_BYTES * 2 + family], carried, connections, address)
        _keep(self.ranking[BY_NEW * 2 + family], figures[at + MOVED], connections, address)


def figures_of(hosts: Shards, address: bytes) -> list[int]:
    """The FIELDS of a host with an entry."""
    part = hosts.of(address)
    at = part.find(address)
    return part.figures[at : at + FIELDS]


def _empty() -> list[list[tuple[int, int, bytes]]]:
    return [[] for _ in range(ORDERS * 2)]


def _keep(heap: list[tuple[int, int, bytes]], value: int, second: int, address: bytes) -> None:
    """Keep the RANKED largest, by value, then by second."""
    entry = (value, second, address)
    if len(heap) < RANKED:
        heappush(heap, entry)
    elif entry > heap[0]:
        heapreplace(heap, entry)

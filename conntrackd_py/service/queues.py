"""Settings -> the source of packets: packet queues, or in mode observe copies and the kernel's translations."""

import socket
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, NF_DROP
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.kernel_maps import take_over
from conntrackd_py.kernel.maps.tables import MapTables, Parts, remove
from conntrackd_py.kernel.netlink import LARGEST_COPY
from conntrackd_py.kernel.queues.batch import Handle
from conntrackd_py.kernel.queues.nflog import NflogGroup
from conntrackd_py.kernel.queues.nfqueue import NfqueueQueue
from conntrackd_py.kernel.queues.queue import PacketQueue, QueueCounters, QueueError
from conntrackd_py.kernel.queues.queue_pair import QueuePair
from conntrackd_py.kernel.steering.nftables import NftablesError
from conntrackd_py.kernel.steering.plan import KNOWN_QUEUES, plan
from conntrackd_py.kernel.translated import Translated
from conntrackd_py.service.clock import clock
from conntrackd_py.service.fd_store import MAPS, NAME, FdStore
from conntrackd_py.settings.schema import NAT, NFLOG, OBSERVE, Settings

log = structlog.get_logger()

ORDINARY: Final = 1600  # bytes: larger than the packets of Ethernet; of longer ones only so many bytes are copied
SETTLE: Final = 5.0  # seconds for the kernel's translations at the start


def _packet_queue(
    settings: Settings,
    handle: Handle,
    counters: QueueCounters,
    number: int,
    headers: Handle | None = None,
    adopted: socket.socket | None = None,
) -> NfqueueQueue:
    """headers: for packets of more than ORDINARY bytes, of which only the beginning is copied."""
    return NfqueueQueue(
        handle,
        clock,
        number=number,
        adopted=adopted,
        max_length=settings.queue.max_length,
        socket_buffer=settings.queue.socket_buffer,
        on_error=NF_ACCEPT if settings.queue.on_error == "accept" or settings.mode == OBSERVE else NF_DROP,
        fail_open=settings.queue.fail_open,
        counters=counters,
        gso=settings.queue.gso,
        copied=LARGEST_COPY if headers is None else ORDINARY,
        headers=headers,
        whole=number - KNOWN_QUEUES,
    )


def queues_of(settings: Settings, engine: Engine, counters: QueueCounters, store: FdStore, *, known: bool) -> QueuePair:
    """The bound queues of the steering rules. known: put_tables made tables. QueueError when one cannot be bound.

    Where packets may pass without a daemon, the queues must not outlive it: packets would wait in them.
    """
    outlive = outlives(settings)
    if not outlive:
        store.close_others()
    if settings.mode == OBSERVE:
        store.keep([])
        return _observed(settings, engine, counters)
    wanted = plan(settings)
    queues: list[NfqueueQueue] = []
    try:
        for at in range(wanted.queues):
            headers = engine.handle_headers if known and wanted.headers and at >= KNOWN_QUEUES else None
            bind = partial(_packet_queue, settings, engine.handle, counters, settings.queue.first + at, headers)
            queues.append(_taken_over(store, settings.queue.first + at, bind) or bind())
    except QueueError:
        for queue in queues:
            queue.close()
        raise
    store.close_others({queue.number for queue in queues})
    store.keep(queues if outlive else [])
    if store.adopted:
        log.info("queues_taken_over", queues=store.adopted, packets=sum(queue.repeated for queue in queues))
    return QueuePair(*queues)


def _taken_over(store: FdStore, number: int, bind: Callable[..., NfqueueQueue]) -> NfqueueQueue | None:
    """The queue that a former process bound; None if there is none."""
    while (adopted := store.take(NAME.format(number))) is not None:
        try:
            return bind(adopted=adopted)
        except QueueError as error:
            store.refused(number, str(error))
    return None


def outlives(settings: Settings) -> bool:
    """Whether the queues may outlive the process: no packet passes without a daemon."""
    return settings.mode != OBSERVE and not settings.queue.fail_open


def put_tables(engine: Engine, settings: Settings, store: FdStore) -> tuple[MapTables | None, str]:
    """The daemon's tables in the kernel: recognition, and maps for the engine if packets are queued by their headers.

    Those of a former process stay, with all elements, if there may be a journal of its connections. Without tables all
    first visits use one queue, and all packets are queued whole; the text says why there are none, and is empty if the
    settings want none.
    """
    wanted, former = plan(settings), store.take(MAPS)
    translate = wanted.spared and settings.mode == NAT
    parts = Parts(wanted.mark_mask, wanted.exclude_interfaces, translate, wanted.spared, wanted.offload)
    try:
        if not wanted.known:
            if former is not None:
                remove(former)
            return None, ""
        tables = MapTables(parts, former, adopt=outlives(settings) and settings.journal.enabled)
    except NftablesError as error:
        return None, str(error)
    if wanted.spared:
        engine.mark_maps.attach(tables)
    return tables, ""


def resume_tables(tables: MapTables | None, engine: Engine, settings: Settings, store: FdStore) -> None:
    """Just before packets are handled: keep what the kernel forwards for restored connections, delete the rest.

    The tables may outlive this process while it writes a journal.
    """
    if tables is not None and tables.adopted and engine.mark_maps.maps is not None:
        held = tables.held()
        done = (held is not None or tables.replace()) and take_over(engine.offload, tables, held or [], clock())
        engine.mark_maps.failed = engine.mark_maps.failed or not done
        engine.settle(clock())
        log.info("maps_taken_over", offloaded=len(engine.offload.slots), mapped=len(engine.mark_maps.mapped))
    lasts = tables is not None and not tables.ended and outlives(settings) and engine.core.journal is not None
    store.keep_maps(tables.sock if tables is not None and lasts else None)


def _observed(settings: Settings, engine: Engine, counters: QueueCounters) -> QueuePair:
    """In mode observe. The kernel's translations are read before a packet is judged: it may answer one of them."""
    try:
        translated = Translated(engine, clock, counters)
        translated.settle(SETTLE)
    except OSError as error:
        raise QueueError(f"cannot subscribe to the kernel's connections: {error}") from error

    def handle(skb: Skb, hook: int, now: int) -> int:
        translated.drain()
        return engine.handle(skb, hook, now)

    try:
        if settings.observe.via == NFLOG:
            copies: PacketQueue = NflogGroup(
                engine.handle,
                clock,
                number=settings.observe.group,
                socket_buffer=settings.observe.socket_buffer,
                counters=counters,
                before=translated.drain,
            )
        else:
            copies = _packet_queue(settings, handle, counters, settings.queue.first)
    except QueueError:
        translated.close()
        raise
    return QueuePair(copies, translated)

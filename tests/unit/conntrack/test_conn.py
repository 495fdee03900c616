"""Timeout and counters of a connection: a span before it is confirmed, a time afterwards."""

from conntrackd_py.conntrack.conn import NO_INTERFACE, NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING, IPS_FIXED_TIMEOUT, ORIGINAL, REPLY
from conntrackd_py.proto.generic import Generic
from conntrackd_py.reasons import END_NAMES

NOW = 5_000


def connection(status: int = 0) -> NfConn:
    ct = NfConn(b"original", b"reply", Generic(Tunables()), NOW)
    ct.status = status
    return ct


def test_an_unconfirmed_connection_has_a_span() -> None:
    """The timeout starts when its packet leaves, so it does not shrink before."""
    ct = connection()
    ct.refresh(NOW, 30_000)
    assert ct.timeout == 30_000
    assert ct.remaining(NOW + 10_000) == 30_000


def test_a_confirmed_connection_has_a_time() -> None:
    ct = connection(IPS_CONFIRMED)
    ct.refresh(NOW, 30_000)
    assert ct.timeout == NOW + 30_000
    assert ct.remaining(NOW + 10_000) == 20_000
    assert ct.remaining(NOW + 30_000) == ct.remaining(NOW + 99_000) == 0


def test_a_fixed_timeout_stays() -> None:
    ct = connection(IPS_CONFIRMED | IPS_FIXED_TIMEOUT)
    ct.timeout = NOW + 1_000
    ct.refresh(NOW, 30_000)
    assert ct.timeout == NOW + 1_000


def test_a_shorter_span_shortens() -> None:
    ct = connection(IPS_CONFIRMED)
    ct.refresh(NOW, 30_000)
    ct.refresh(NOW, 1_000)
    assert ct.remaining(NOW) == 1_000


def test_directions() -> None:
    ct = connection()
    assert (ct.tuple(ORIGINAL), ct.tuple(REPLY)) == (b"original", b"reply")
    ct.account(ORIGINAL, 100)
    ct.account(REPLY, 1500)
    ct.account(REPLY, 40)
    assert (ct.packets_original, ct.bytes_original, ct.packets_reply, ct.bytes_reply) == (1, 100, 2, 1540)


def test_status_in_words() -> None:
    assert not connection().confirmed
    assert not connection().dying
    assert connection(IPS_CONFIRMED).confirmed
    assert connection(IPS_DYING).dying


def test_the_initial_values_of_a_connection() -> None:
    ct = connection()
    assert (ct.born, ct.end_reason, ct.oif) == (NOW, -1, NO_INTERFACE)
    assert (ct.id, ct.slot, ct.status, ct.state, ct.timeout, ct.due, ct.pending_events, ct.ended) == (0,) * 8
    assert (ct.mark, ct.labels, ct.iif) == (0, 0, 0)
    assert (ct.packets_original, ct.packets_reply, ct.bytes_original, ct.bytes_reply) == (0,) * 4
    assert (ct.masquerade, ct.remembered, ct.port_counted, ct.source_early) == (False,) * 4
    assert (ct.proto, ct.master) == (None, None)


def test_the_fields_hold_their_whole_range() -> None:
    """Compiled, they are integers of fixed width."""
    ct = connection()
    century = 100 * 366 * 86_400_000  # ms
    ct.timeout = ct.due = ct.born = (1 << 32) * 1000 + century  # the longest timeout of conntrack -I
    ct.mark = (1 << 32) - 1
    ct.labels = (1 << 128) - 1
    ct.id = ct.slot = ct.iif = ct.oif = (1 << 31) - 1
    ct.status = (1 << 16) - 1
    ct.pending_events = (1 << 12) - 1
    ct.end_reason = len(END_NAMES) - 1
    ct.state = 255
    assert ct.remaining(century) == (1 << 32) * 1000
    assert (ct.mark, ct.labels, ct.status) == ((1 << 32) - 1, (1 << 128) - 1, 65535)
    assert (ct.id, ct.slot, ct.iif, ct.oif) == ((1 << 31) - 1,) * 4
    assert (ct.pending_events, ct.end_reason, ct.state) == (4095, len(END_NAMES) - 1, 255)


def test_counters_take_no_memory_until_something_is_counted() -> None:
    ct = connection()
    assert ct.counters is None
    ct.account(REPLY, 1 << 63)
    ct.account(REPLY, 1 << 63)
    assert (ct.packets_reply, ct.bytes_reply) == (2, 1 << 64)


def test_an_end_has_a_time() -> None:
    ct = connection()
    ct.due = 5
    assert ct.ended == 0
    ct.status |= IPS_DYING
    assert ct.ended == 5

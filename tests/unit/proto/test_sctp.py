"""The SCTP table, and rules for tags that conversations rarely use. tests/oracle compares the rest."""

from typing import Any

import pytest

from conntrackd_py.conntrack.conn import TRACKED, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.proto import sctp
from conntrackd_py.reasons import OK, SCTP_NOT_NEW
from conntrackd_py.wire import ip
from conntrackd_py.wire import sctp as wire
from tests.support import packets


def test_the_table_is_whole() -> None:
    assert len(sctp.TRANSITIONS) == 2 * 11 * 9


def test_some_transitions_by_name() -> None:
    def transition(direction: int, kind: int, old: str) -> str:
        state = sctp.next_state(direction, kind, sctp.STATE_NAMES.index(old))
        return "IV" if state == sctp.IV else sctp.STATE_NAMES[state]

    assert transition(0, wire.INIT, "NONE") == "CLOSED"
    assert transition(1, wire.INIT_ACK, "CLOSED") == "COOKIE_WAIT"
    assert transition(1, wire.SHUTDOWN, "ESTABLISHED") == "SHUTDOWN_RECD"
    assert transition(1, wire.HEARTBEAT_ACK, "HEARTBEAT_SENT") == "ESTABLISHED"
    assert transition(1, wire.INIT, "NONE") == "IV"


def test_other_chunks_change_no_state() -> None:
    for state in range(sctp.SCTP_CONNTRACK_MAX):
        assert sctp.next_state(0, wire.DATA, state) == state
        assert sctp.next_state(1, 192, state) == state


class CountedReads(bytes):
    """A packet that counts how often a byte of it is read (by compiled code: not at all)."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        self.reads += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("kind", [wire.DATA, wire.HEARTBEAT, wire.HEARTBEAT_ACK, wire.SHUTDOWN_ACK])
@pytest.mark.parametrize("new", [True, False])
def test_the_cost_of_a_packet_is_linear_in_its_chunks(kind: int, new: bool) -> None:
    """A search for every chunk made a packet of 65 kB cost a second."""
    reads = []
    for count in (1, 1000):
        tracker = sctp.Sctp(Tunables())
        data = CountedReads(packets.sctp("10.0.0.1", "10.0.0.2", 1, 2, 7, *[(kind, b"")] * count))
        skb = Skb(data)
        assert ip.parse(skb) == OK
        ct = NfConn(b"", b"", tracker, 0)
        info = sctp.SctpInfo()
        info.vtag = [7, 7]
        chunks = sctp.Chunks(skb, 0)
        assert chunks.count == count
        assert (tracker._begin(info, chunks) if new else OK) in (OK, SCTP_NOT_NEW)
        assert tracker._walk(ct, info, sctp.Chunks(skb, 0), 0) == TRACKED
        reads.append(data.reads)
    assert reads[1] <= reads[0] * 1000

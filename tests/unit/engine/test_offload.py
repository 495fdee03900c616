"""Which connections the kernel forwards by itself, when they return, and what is known of them meanwhile."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.evict import DYING_GRACE
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_OFFLOAD, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine import offload
from conntrackd_py.engine.change import DONE, Change
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.mark_maps import PAUSE
from conntrackd_py.engine.raw_mangle import MARK_RESTORE, MarkRule
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.reasons import END_ADDRESS_GONE
from tests.support import packets
from tests.support.journals import attach, finish, restored
from tests.support.play import CLIENT, INSIDE, LAN, ROUTER, SERVER, WAN
from tests.support.rules import forward, masquerade
from tests.support.twin_maps import TwinMaps

AFTER = 4
STREAM = AFTER + 2  # packets each way that `stream` sends
OTHER_WAN = 77


class Path:
    """A client, a server, an engine and the kernel's maps between them."""

    def __init__(self, family: int = 4, rules: list[NatRule] | None = None, *, mode: str = "nat") -> None:
        tunables = Tunables(nf_conntrack_acct=True, udp_stream_after=0)
        self.engine = Engine(tunables, Repeatable(), nat_rules=rules or [masquerade()], mode=mode)
        self.tunables = tunables
        self.maps = TwinMaps()
        self.engine.mark_maps.maps = self.maps
        self.engine.offload.on = True
        self.engine.mark_maps.small = False
        self.engine.offload.after = AFTER
        self.engine.core.events.enabled = True
        self.now = 1_000_000
        self.queued = 0  # visits
        self.client, self.router, self.server = (
            host.v4 if family == 4 else host.v6 for host in (CLIENT, ROUTER, SERVER)
        )
        for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
            self.engine.set_interface(link, name, [packets.address(host.v4), packets.address(host.v6)], 0)

    def through(self, data: bytes, *, inward: bool = False, outdev: int = 0) -> bytes:
        """The packet as it leaves, past the queues or through them."""
        outdev = outdev or (LAN if inward else WAN)
        skb = Skb(data, indev=WAN if inward else LAN)
        if self.maps.forward(skb, outdev):
            return skb.data
        if not skb.mark:
            self.queued += 1
            assert self.engine.handle(skb, PRE_ROUTING, self.now) == NF_ACCEPT
            self.maps.rewrite(skb, PRE_ROUTING)
        last = Skb(skb.data, skb.mark, skb.indev, outdev)
        self.queued += 1
        if self.engine.handle(last, POST_ROUTING, self.now) != NF_ACCEPT:
            return b""
        self.maps.rewrite(last, POST_ROUTING)
        self.engine.settle(self.now)
        return last.data

    def udp(self, *, inward: bool = False, port: int = 4000, data: bytes = b"little") -> bytes:
        if inward:
            return self.through(packets.udp(self.server, self.router, 53, port, data), inward=True)
        return self.through(packets.udp(self.client, self.server, port, 53, data))

    def tcp(self, flags: str, *, inward: bool = False, seq: int = 1, ack: int = 1, data: bytes = b"") -> bytes:
        ends = (self.server, self.router, 80, 5000) if inward else (self.client, self.server, 5000, 80)
        return self.through(packets.tcp(*ends, flags, seq=seq, ack=ack, data=data), inward=inward)

    def exchange(self, port: int) -> None:
        for _ in range(STREAM):
            self.udp(port=port)
            self.udp(port=port, inward=True)

    def stream(self, port: int = 4000) -> NfConn:
        """A UDP stream that is offloaded, if nothing prevents it."""
        self.now += PAUSE
        self.exchange(port)
        return self.only(port)

    def opened(self) -> NfConn:
        """A TCP connection that is offloaded."""
        self.tcp("S", seq=0, ack=0)
        self.tcp("SA", inward=True, seq=0)
        for _ in range(AFTER + 2):
            self.tcp("A")
            self.tcp("A", inward=True)
        return self.only(5000)

    def only(self, port: int) -> NfConn:
        (ct,) = [
            ct
            for ct in self.engine.core.table.slots
            if ct is not None and not ct.dying and ct.original[-5:-3] == port.to_bytes(2, "big")
        ]
        return ct

    def pass_time(self, ms: int) -> None:
        """In the steps of the daemon's timer."""
        until = self.now + ms
        while self.now < until:
            self.now = min(until, max(self.now + 1, self.engine.next_expiry()))
            self.engine.expire(self.now, 1000)

    def nothing_in_the_kernel(self) -> bool:
        """But the translation by mark, which stays as long as the slot."""
        return not self.maps.flows


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_an_established_connection_is_forwarded_by_the_kernel(family: int, protocol: str) -> None:
    path = Path(family)
    ct = path.stream() if protocol == "udp" else path.opened()
    assert ct.status & IPS_OFFLOAD
    queued = path.queued
    if protocol == "udp":
        out, back = path.udp(), path.udp(inward=True)
        expected = packets.udp(path.router, path.server, 4000, 53, b"little")
        answer = packets.udp(path.server, path.client, 53, 4000, b"little")
    else:
        out, back = path.tcp("PA", data=b"x"), path.tcp("A", inward=True, ack=2)
        expected = packets.tcp(path.router, path.server, 5000, 80, "PA", seq=1, ack=1, data=b"x")
        answer = packets.tcp(path.server, path.client, 80, 5000, "A", seq=1, ack=2)
    assert (out, back) == (expected, answer)
    assert path.queued == queued


def test_both_ends_translated() -> None:
    rules = [masquerade(), forward(4, (8080, 8080), 80)]
    path = Path(rules=rules)
    for _ in range(AFTER + 2):
        path.through(packets.udp(path.server, path.router, 9, 8080), inward=True)
        path.through(packets.udp(path.client, path.server, 80, 9))
    queued = path.queued
    assert path.through(packets.udp(path.server, path.router, 9, 8080), inward=True) == packets.udp(
        path.server, path.client, 9, 80
    )
    assert path.through(packets.udp(path.client, path.server, 80, 9)) == packets.udp(path.router, path.server, 8080, 9)
    assert path.queued == queued


def test_without_a_translation_in_mode_track() -> None:
    path = Path(mode="track", rules=[])
    data = packets.udp(path.client, path.server, 4000, 53)
    answer = packets.udp(path.server, path.client, 53, 4000)
    for _ in range(AFTER + 2):
        path.through(data)
        path.through(answer, inward=True)
    assert path.only(4000).status & IPS_OFFLOAD
    queued = path.queued
    assert path.through(data) == data
    assert path.queued == queued


def test_not_before_so_many_packets() -> None:
    path = Path()
    path.udp()
    path.udp(inward=True)
    for _ in range(AFTER):
        path.udp()
    assert path.nothing_in_the_kernel()
    path.udp()
    path.udp()
    assert path.only(4000).status & IPS_OFFLOAD


@pytest.mark.parametrize(("limit", "sent"), [(3000, 3), (2816, 2), (28, 1), (0, AFTER + 1)])
def test_or_so_many_bytes(limit: int, sent: int) -> None:
    """Whichever is reached first. A packet of 1428 bytes counts as 1408."""
    path = Path()
    path.engine.offload.bytes = limit
    path.udp()
    path.udp(inward=True)
    for _ in range(sent):
        assert path.nothing_in_the_kernel()
        path.udp(data=bytes(1400))
    path.engine.settle(path.now)
    assert path.only(4000).status & IPS_OFFLOAD


def test_the_bytes_of_a_long_stream_do_not_overflow() -> None:
    path = Path()
    path.engine.offload.bytes = 2_000_000
    path.engine.offload.after = 255
    path.udp()
    path.udp(inward=True)
    for _ in range(30):
        path.udp(data=bytes(65000))
        assert path.only(4000).volume > 0
    path.udp(data=bytes(65000))
    path.engine.settle(path.now)
    assert path.only(4000).status & IPS_OFFLOAD


def test_not_while_one_way() -> None:
    path = Path()
    for _ in range(3 * AFTER):
        path.udp()
    assert path.nothing_in_the_kernel()


def test_not_while_a_rule_must_see_every_packet() -> None:
    path = Path()
    path.engine.configure(path.tunables, nat_rules=[masquerade()], mark_rules=[MarkRule(Match(), MARK_RESTORE)])
    path.stream()
    assert path.nothing_in_the_kernel()


def test_not_with_a_short_timeout() -> None:
    path = Path()
    path.engine.configure(Tunables(nf_conntrack_udp_timeout_stream=9, udp_stream_after=0), nat_rules=[masquerade()])
    path.stream()
    assert path.nothing_in_the_kernel()


def test_the_wait_for_a_transaction_does_not_make_the_timeout_too_short() -> None:
    path = Path()
    path.engine.configure(Tunables(nf_conntrack_udp_timeout_stream=10, udp_stream_after=0), nat_rules=[masquerade()])
    path.stream(3999)
    path.exchange(4000)
    assert not path.only(4000).status & IPS_OFFLOAD
    path.pass_time(PAUSE)
    assert path.only(4000).status & IPS_OFFLOAD


def test_additions_share_a_transaction_and_their_number_is_limited() -> None:
    path = Path()
    path.stream(3999)
    transactions = path.maps.transactions
    for port in range(4000, 4000 + offload.A_TURN + 1):
        path.exchange(port)
    assert path.maps.transactions == transactions
    assert path.engine.offload.refused > 0
    path.pass_time(PAUSE)
    assert path.maps.transactions == transactions + 1
    assert len(path.engine.offload.slots) == 1 + offload.A_TURN
    path.exchange(4000 + offload.A_TURN)
    path.pass_time(PAUSE)
    assert len(path.engine.offload.slots) == 2 + offload.A_TURN


def test_most_connections() -> None:
    path = Path()
    for number in range(offload.MOST_CONNECTIONS):
        path.engine.mark_maps.mapped[-1 - number] = []
    path.stream(4000)
    path.pass_time(PAUSE)
    assert not path.engine.offload.slots
    assert path.engine.offload.refused > 0


def test_counters_and_timeout_follow_the_kernels_counters() -> None:
    path = Path()
    ct = path.stream()
    for _ in range(100):
        path.pass_time(offload.READ_EVERY)
        path.udp()
    path.pass_time(offload.READ_EVERY)
    size = 28 + len("little")
    assert (ct.packets_original, ct.bytes_original, ct.packets_reply) == (
        STREAM + 100,
        (STREAM + 100) * size,
        STREAM,
    )
    assert ct.remaining(path.now) > 118_000


def test_an_idle_connection_expires_on_time() -> None:
    path = Path()
    ct = path.stream()
    path.pass_time(119_000)
    assert path.engine.core.table.find(ct.original) is ct
    path.pass_time(3_000)
    assert path.engine.core.table.find(ct.original) is None
    assert path.nothing_in_the_kernel()
    path.pass_time(DYING_GRACE)
    assert path.maps.elements == {}
    assert not path.maps.sets


def test_a_timeout_is_believed_only_after_another_look() -> None:
    """The daemon did not run for longer than the timeout."""
    path = Path()
    ct = path.stream()
    path.now += 200_000
    path.udp()
    path.engine.expire(path.now, 1000)
    assert not ct.dying
    assert ct.remaining(path.now) == 120_000


def test_a_packet_in_the_queue_looks_at_the_counters_too() -> None:
    path = Path()
    ct = path.stream()
    path.now += 200_000
    path.udp()
    path.through(_without_checksum(packets.udp(path.client, path.server, 4000, 53)))
    assert not ct.dying


def _without_checksum(data: bytes) -> bytes:
    return data[:26] + b"\0\0" + data[28:]


def test_udp_without_a_checksum_goes_to_the_daemon_and_stays_without() -> None:
    path = Path()
    ct = path.stream()
    left = path.through(_without_checksum(packets.udp(path.client, path.server, 4000, 53, b"x")))
    assert left == _without_checksum(packets.udp(path.router, path.server, 4000, 53, b"x"))
    assert ct.status & IPS_OFFLOAD


@pytest.mark.parametrize("flags", ["FA", "RA", "S"])
def test_a_packet_that_opens_or_closes_returns_the_connection(flags: str) -> None:
    path = Path()
    ct = path.opened()
    far = 5_000_000  # the kernel has forwarded so much
    assert path.tcp("A", seq=far, ack=far)
    assert path.tcp(flags, seq=far + 1, ack=far)
    assert not ct.status & IPS_OFFLOAD
    assert path.nothing_in_the_kernel()
    assert path.engine.offload.returned_by[offload.RETURNED_FLAGS] == 1


def test_the_windows_begin_anew_when_a_connection_returns() -> None:
    path = Path()
    ct = path.opened()
    far = 5_000_000
    path.tcp("FA", seq=far, ack=far)
    assert ct.l4proto.state_names[ct.state] == "FIN_WAIT"
    path.tcp("FA", inward=True, seq=far, ack=far + 1)
    path.tcp("A", seq=far + 1, ack=far + 1)
    assert ct.l4proto.state_names[ct.state] == "TIME_WAIT"
    assert path.engine.core.stats.invalid == 0
    assert path.nothing_in_the_kernel()


def test_a_connection_that_is_deleted_returns_first_and_its_last_packets_are_counted() -> None:
    path = Path()
    ct = path.stream()
    path.udp()
    path.udp()
    path.engine.drain_events()
    path.engine.delete(ct.slot, path.now)
    assert path.nothing_in_the_kernel()
    (event,) = path.engine.drain_events()
    assert (event.kind, event.packets_original) == ("DESTROY", STREAM + 2)


def test_a_connection_returns_before_an_operator_changes_it() -> None:
    path = Path()
    ct = path.stream()
    change = Change()
    change.mark_value, change.mark_mask = 7, 0xFFFFFFFF
    assert path.engine.update(ct, change, path.now) == DONE
    assert not ct.status & IPS_OFFLOAD
    assert path.nothing_in_the_kernel()
    path.stream()
    assert ct.status & IPS_OFFLOAD


def test_new_rules_return_all_connections_at_once() -> None:
    path = Path()
    for port in range(4000, 4000 + offload.A_TURN + 1):
        path.stream(port)
    path.udp(port=4000)
    path.engine.configure(path.tunables, nat_rules=[masquerade()])
    queued = path.queued
    path.udp(port=4000)
    assert path.queued > queued
    path.pass_time(3 * offload.TURN)
    assert path.nothing_in_the_kernel()
    assert path.maps.recognising
    assert path.only(4000).packets_original == STREAM + 2
    path.stream(4000)
    assert path.only(4000).status & IPS_OFFLOAD


def test_a_lost_address_returns_them_before_they_end() -> None:
    path = Path()
    ct = path.stream()
    path.engine.set_interface(WAN, "wan", [], path.now)
    assert ct.dying
    assert path.engine.core.stats.ended[END_ADDRESS_GONE] == 1
    assert path.nothing_in_the_kernel()


def test_another_way_out_is_the_daemons_decision() -> None:
    path = Path()
    path.stream()
    path.engine.set_interface(OTHER_WAN, "wan2", [packets.address("192.0.2.77")], path.now)
    assert path.through(packets.udp(path.client, path.server, 4000, 53), outdev=OTHER_WAN) == b""
    assert path.nothing_in_the_kernel()


def test_a_packet_on_its_way_is_translated_after_the_connection_has_returned() -> None:
    path = Path()
    ct = path.stream()
    skb = Skb(packets.udp(path.server, path.router, 53, 4000), indev=WAN)
    skb.mark = path.maps.flows[ct.reply][0]
    path.engine.delete(ct.slot, path.now)
    path.maps.rewrite(skb, PRE_ROUTING)
    assert skb.data == packets.udp(path.server, path.client, 53, 4000)


@pytest.mark.parametrize("when", ["added", "read", "deleted"])
def test_a_refusal_of_the_kernel_ends_offload(when: str) -> None:
    path = Path()
    ct = path.stream()
    path.maps.working = False
    if when == "added":
        path.stream(4001)
    elif when == "read":
        path.pass_time(offload.READ_EVERY)
    else:
        path.engine.delete(ct.slot, path.now)
        path.engine.settle(path.now)
    assert path.maps.closed
    assert path.engine.offload.failures == 1
    assert not path.engine.offload.slots
    assert not ct.status & IPS_OFFLOAD
    assert path.udp(port=4002) == packets.udp(path.router, path.server, 4002, 53, b"little")


@pytest.mark.parametrize("clean", [True, False], ids=["restart", "crash"])
@pytest.mark.parametrize("family", [4, 6])
def test_after_a_restart_an_offloaded_connection_is_the_daemons(family: int, clean: bool) -> None:
    """The tracker missed packets: the windows begin anew. Later the connection is offloaded again."""
    path = Path(family)
    journal = attach(path.engine)
    path.opened()
    path.stream()
    path.tcp("PA", data=b"x" * 1000)
    if clean:
        finish(path.engine)
    again = Path(family)
    restored(journal, again.engine, path.now, clean=clean)
    ct = again.only(5000)
    assert not ct.status & IPS_OFFLOAD
    assert not again.only(4000).status & IPS_OFFLOAD
    assert again.nothing_in_the_kernel()
    far = 3_000_000
    assert again.tcp("PA", inward=True, seq=far, ack=2_000_000, data=b"x")
    assert again.tcp("A", seq=2_000_000, ack=far + 1)
    assert again.tcp("A", inward=True, seq=far + 1, ack=2_000_000)
    assert ct.l4proto.state_names[ct.state] == "ESTABLISHED"
    for _ in range(AFTER + 1):
        again.tcp("A", seq=2_000_000, ack=far + 1)
    assert ct.status & IPS_OFFLOAD

"""Connections live on through a restart and a crash of the daemon: mapping, state, timeout and windows."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import LATE_INTERFACE
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IPS_ASSURED,
    IPS_EXPECTED,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
)
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.engine.takeover.restore import Origin, Restore
from conntrackd_py.match.match import Match
from conntrackd_py.proto.standard import RFC7857, standard_protos
from conntrackd_py.reasons import LEAK_GUARD, NAT_OIF_CHANGED, SCTP_VTAG
from tests.conversations.test_sctp import C_TAG, S_TAG, opened, sctp
from tests.support import journals, packets
from tests.support.play import (
    CLIENT,
    LAN,
    NEIGHBOUR,
    ROUTER,
    SERVER,
    WAN,
    Play,
    Wanted,
    accept,
    advance,
    arrives,
    crash,
    destroyed,
    dropped,
    error,
    invalid,
    leaves,
    nothing,
    ping,
    pong,
    restart,
    tcp,
    udp,
)
from tests.support.router import source_mask
from tests.support.rules import forward, masquerade


def handshake(play: Play) -> Play:
    return (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, src=ROUTER)
        >> tcp(SERVER, ROUTER, "SA", seq=500, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=501)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED")
    )


def test_a_translated_connection_goes_on_after_a_restart(snat: Play) -> None:
    assert (
        handshake(snat)
        >> restart(3)
        << entries(1)
        >> tcp(SERVER, ROUTER, "PA", seq=501, ack=101, data=b"x" * 100)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, status=IPS_ASSURED | IPS_SRC_NAT, timeout=300)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=601)
        << accept(IP_CT_ESTABLISHED, src=ROUTER, sport=40000)
    )


def entries(count: int) -> Wanted:
    """Entries after a restart, and no connection ended."""
    wanted = nothing()
    wanted.facts["entries"] = count
    return wanted


def test_after_a_restart_windows_are_as_they_were(snat: Play) -> None:
    """No packet passed meanwhile: a segment outside the window is INVALID."""
    far = tcp(CLIENT, SERVER, "A", seq=101 + 10_000_000, ack=501)
    assert handshake(snat) >> restart() >> far << dropped(LEAK_GUARD)


def test_after_a_crash_windows_come_from_the_next_packets(snat: Play) -> None:
    """Megabytes passed since the record was written."""
    assert (
        handshake(snat)
        >> crash()
        >> tcp(SERVER, ROUTER, "A", seq=501 + 50_000_000, ack=101, data=b"x")
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=502 + 50_000_000)
        << accept(IP_CT_ESTABLISHED, src=ROUTER)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=502 + 50_000_000)
        << accept(IP_CT_ESTABLISHED, state="FIN_WAIT")
    )


def test_a_crash_during_the_handshake(snat: Play) -> None:
    assert (
        snat
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, src=ROUTER)
        >> crash()
        >> tcp(SERVER, ROUTER, "SA", seq=500, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, state="SYN_RECV")
        >> crash()
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=501)
        << accept(IP_CT_ESTABLISHED, src=ROUTER, state="ESTABLISHED", status=IPS_ASSURED)
    )


def test_a_crash_while_closing(snat: Play) -> None:
    assert (
        handshake(snat)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=501)
        << accept(state="FIN_WAIT")
        >> crash()
        >> tcp(SERVER, ROUTER, "FA", seq=501, ack=102)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, state="LAST_ACK")
        >> crash()
        >> tcp(CLIENT, SERVER, "A", seq=102, ack=502)
        << accept(IP_CT_ESTABLISHED, state="TIME_WAIT")
    )


def test_a_new_connection_does_not_get_the_port_of_a_restored_one(snat: Play) -> None:
    assert (
        snat
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, src=ROUTER, sport=40000)
        >> crash()
        >> udp(NEIGHBOUR, SERVER)
        << accept(IP_CT_NEW, src=ROUTER)
    )
    assert snat.seen["sport"] != 40000
    assert snat >> udp(SERVER, ROUTER) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)


def test_a_source_keeps_its_port_outside_for_other_servers(family: int) -> None:
    play = Play(family, [masquerade()])
    assert play >> udp(NEIGHBOUR, SERVER) << accept(IP_CT_NEW, sport=40000)
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    port = play.seen["sport"]
    assert port != 40000
    assert play >> crash() >> udp(CLIENT, SERVER, dport=81) << accept(IP_CT_NEW, src=ROUTER, sport=port)


def test_a_forwarded_port(dnat: Play) -> None:
    assert (
        dnat
        >> tcp(SERVER, ROUTER, "S", seq=1, sport=5000, dport=8080)
        << accept(IP_CT_NEW, dst=CLIENT, dport=80)
        >> crash()
        >> tcp(CLIENT, SERVER, "SA", seq=9, ack=2, sport=80, dport=5000)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080)
    )


def test_changed_rules_are_for_new_connections(family: int) -> None:
    play = Play(family, [forward(family, (8080, 8080), protonum=17)])
    assert play >> udp(SERVER, ROUTER, sport=5000, dport=8080) << accept(IP_CT_NEW, dst=CLIENT)
    play.make.keywords["nat_rules"] = [forward(family, (8080, 8080), protonum=17, host=NEIGHBOUR)]
    assert (
        play
        >> restart()
        >> udp(SERVER, ROUTER, sport=5000, dport=8080)
        << accept(IP_CT_NEW, dst=CLIENT)
        >> udp(SERVER, ROUTER, sport=5001, dport=8080)
        << accept(IP_CT_NEW, dst=NEIGHBOUR)
    )


def test_the_remaining_time_goes_on(play: Play) -> None:
    """A minute without the daemon does not count, because packets that would have refreshed were dropped."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30)
        >> advance(20)
        >> restart(15)
        << entries(1)
        >> advance(9)
        << nothing()
        >> advance(3)
        << destroyed("timeout")
    )


def test_what_expired_during_a_long_absence_ends_with_an_event(play: Play) -> None:
    play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=30) >> restart(95)
    assert play.seen["ended"] == ["timeout"]
    assert play


def test_a_refreshed_connection_does_not_expire_after_a_crash(play: Play) -> None:
    """Its record is from before its last packet; turns of the journal come now and then."""
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=30)
    for _ in range(40):
        play >> advance(9) >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=30)
        journal = play.engine.core.journal
        assert journal is not None
        journal.turn(play.engine.core.table.slots, play.now, 100, 100)
    assert play >> advance(9) >> crash(1) >> advance(15) << nothing()


def test_marks_counters_and_status(family: int) -> None:
    play = Play(family, [masquerade()], nf_conntrack_acct=True)
    assert play >> udp(CLIENT, SERVER, b"12345") << accept(IP_CT_NEW)
    assert play >> udp(SERVER, ROUTER) << accept(status=IPS_SEEN_REPLY)
    ct = play.ct
    assert ct is not None
    assert ct.counters is not None
    ct.mark, ct.labels = 0xFFFFFFFF, 1 << 127 | 1
    before = (ct.id, ct.slot, ct.status, ct.born, ct.mark, ct.labels, vars_of(ct.counters))
    assert play >> restart() >> udp(CLIENT, SERVER) << accept(IP_CT_ESTABLISHED)
    now = play.ct
    assert now is not None
    assert now is not ct
    assert now.counters is not None
    now.counters.packets_original -= 1
    now.counters.bytes_original -= 28 if family == 4 else 48
    assert (now.id, now.slot, now.status, now.born, now.mark, now.labels, vars_of(now.counters)) == before


def vars_of(counters: object) -> list[int]:
    names = ("packets_original", "packets_reply", "bytes_original", "bytes_reply")
    return [getattr(counters, name) for name in names]


def test_an_icmp_query_and_an_error_about_a_restored_connection(snat: Play) -> None:
    assert snat >> ping(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER) >> crash()
    assert snat >> pong(SERVER, ROUTER) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW) >> crash()
    assert snat >> error(SERVER, ROUTER, udp(ROUTER, SERVER)) << accept(IP_CT_RELATED_REPLY, dst=CLIENT)


def test_an_association(play: Play) -> None:
    assert (
        opened(play)
        >> crash()
        >> sctp(SERVER, CLIENT, C_TAG, (0, b"data"))
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED")
        >> sctp(CLIENT, SERVER, S_TAG + 1, (0, b"data"))
        << invalid(SCTP_VTAG)
    )


def test_a_udp_stream_of_unknown_age_stays_one(play: Play) -> None:
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(SERVER, CLIENT)
        << accept(timeout=30)
        >> advance(3)
        >> crash()
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, timeout=120, status=IPS_ASSURED)
    )


def test_the_tracker_of_a_former_configuration(family: int) -> None:
    """As after a reload: a connection keeps the kind of its tracker."""
    play = Play(family, tcp=RFC7857)
    assert play >> tcp(CLIENT, SERVER, "S") << accept(IP_CT_NEW, state="SYN_I2O")
    play.make.keywords["tcp_tracker"] = "netfilter"
    assert (
        play
        >> restart()
        >> tcp(SERVER, CLIENT, "SA", ack=1)
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=7440)
        >> tcp(CLIENT, SERVER, "S", sport=41000)
        << accept(IP_CT_NEW, state="SYN_SENT")
    )
    assert len([tracker for tracker in play.engine.trackers if tracker.name == "tcp" and any(tracker.entries)]) == 2
    play.engine.configure(Tunables())
    assert play >> tcp(CLIENT, SERVER, "A", seq=1, ack=1) << accept(IP_CT_ESTABLISHED, state="ESTABLISHED")


def test_the_timeouts_of_a_raw_rule(family: int) -> None:
    def rules(timeout: int, profile: int) -> list[RawRule]:
        protos = standard_protos(Tunables(nf_conntrack_udp_timeout=timeout))
        for tracker in protos:
            tracker.profile = profile
        return [RawRule(Match(), protos=protos)]

    play = Play(family, raw_rules=rules(7, 5))
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=7)
    play.make.keywords["raw_rules"] = rules(7, 5)
    assert play >> restart() >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=7)
    play.make.keywords["raw_rules"] = rules(9, 6)  # another rule: the ordinary timeout
    assert play >> restart() >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=30)


def test_a_lost_address_ends_the_connections_that_had_it(snat: Play) -> None:
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    assert snat >> udp(CLIENT, NEIGHBOUR) << accept(IP_CT_NEW, src=CLIENT)
    former = snat.engine.core.journal
    assert former is not None
    snat.engine = snat.make()
    snat.engine.core.events.enabled = True
    snat.engine.set_interface(LAN, "lan", [], snat.now)
    snat.engine.set_interface(WAN, "wan", [packets.address("203.0.113.9")], snat.now)
    restore = journals.restored(former, snat.engine, snat.now, clean=True)
    assert restore.refused["address_gone"] == 1
    assert len(snat.engine.core.table) == 1
    assert [event.conn.end_reason >= 0 for event in snat.engine.drain_events()] == [True]


OUTER = [packets.address(ROUTER.v4), packets.address(ROUTER.v6)]
LATE_WAN = 9  # index of the outer interface after a boot


def booted(snat: Play, addresses: list[str]) -> None:
    """A new engine with the connections of a former boot. The outer interface has these addresses; none: not there."""
    former = snat.engine.core.journal
    assert former is not None
    snat.engine = snat.make()
    snat.engine.core.events.enabled = True
    snat.engine.set_interface(LAN, "lan", [], snat.now)
    snat.engine.remove_interface(WAN, snat.now)
    if addresses:
        snat.engine.set_interface(LATE_WAN, "wan", [packets.address(one) for one in addresses], snat.now)
    links = {LAN: LAN, **({WAN: LATE_WAN} if addresses else {})}
    origin = Origin(0, 0, True, links, {LAN: "lan", WAN: "wan"})
    restore = Restore(snat.engine, Tunables(), journals.SIDE, origin, snat.now)
    restore.take(journals.records(former))
    restore.finish()
    assert sum(restore.refused.values()) == 0


@pytest.mark.parametrize("first", [[], ["fe80::1", "169.254.1.1"]])
def test_an_interface_that_comes_up_late_keeps_its_connections(snat: Play, first: list[str]) -> None:
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    booted(snat, first)
    snat.engine.set_interface(LATE_WAN, "wan", [], snat.now)
    assert len(snat.engine.core.table) == 1
    snat.engine.set_interface(LATE_WAN, "wan", OUTER, snat.now)
    (ct,) = [one for one in snat.engine.core.table.slots if one is not None]
    assert ct.oif == LATE_WAN
    snat.engine.set_interface(LATE_WAN, "wan", [], snat.now)  # as for every other connection
    assert len(snat.engine.core.table) == 0


def test_an_interface_that_comes_up_with_another_address_ends_exactly_its_connections(snat: Play) -> None:
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    assert snat >> udp(CLIENT, NEIGHBOUR) << accept(IP_CT_NEW, src=CLIENT)
    booted(snat, [])
    other = packets.address("203.0.113.9" if snat.family == 4 else "2001:db8:9::9")
    snat.engine.set_interface(77, "other", [other], snat.now)
    assert len(snat.engine.core.table) == 2
    snat.engine.set_interface(LATE_WAN, "wan", [other], snat.now)
    assert len(snat.engine.core.table) == 1
    assert [event.conn.end_reason >= 0 for event in snat.engine.drain_events()] == [True]


def test_its_packets_do_not_leave_by_another_interface_meanwhile(snat: Play) -> None:
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    booted(snat, [])
    (ct,) = [one for one in snat.engine.core.table.slots if one is not None]
    assert ct.oif == LATE_INTERFACE
    snat.engine.set_interface(WAN, "backup", [packets.address("203.0.113.9")], snat.now)
    assert snat >> udp(CLIENT, SERVER) << dropped(NAT_OIF_CHANGED)


def test_while_it_waits_its_own_timeout_ends_it(snat: Play) -> None:
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    booted(snat, [])
    assert snat >> advance(31) << destroyed("timeout")
    snat.engine.set_interface(LATE_WAN, "wan", OUTER, snat.now)
    assert snat.engine.nat.masquerade.late == {}


def test_master_and_expectations(play: Play) -> None:
    assert play >> tcp(CLIENT, SERVER, "S", dport=21) << accept(IP_CT_NEW)
    master = play.ct
    assert master is not None
    for port in (3000, 3001):
        t = tuples.with_dst(master.reply, tuples.dst(master.reply), bytes(2) + port.to_bytes(2, "big"))
        known = Expectation(master, t, source_mask(t, address=True), play.now + 300_000)
        known.helper = "ftp"
        assert play.engine.core.expectations.expect(known, 0, play.now)
    assert (
        play
        >> tcp(SERVER, CLIENT, "S", sport=20, dport=3000)
        << accept(IP_CT_RELATED, status=IPS_EXPECTED)
        >> restart()
        << entries(2)
        >> tcp(SERVER, CLIENT, "S", sport=20, dport=3001)
        << accept(IP_CT_RELATED, status=IPS_EXPECTED)
    )
    child, restored = play.ct, play.engine.core.table.at(master.slot)
    assert child is not None
    assert child.master is restored is not None
    first = play.engine.core.table.at(1)
    assert first is not None
    assert first.master is restored
    assert play.engine.core.expectations.count == 0


def test_a_packet_between_its_visits_is_found_by_its_mark(snat: Play) -> None:
    """Its slot is the same in the new process."""
    assert handshake(snat) >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert snat >> arrives(udp(CLIENT, SERVER)) << accept(IP_CT_NEW)
    waiting = list(snat.waiting)
    snat >> crash()
    snat.waiting = waiting
    assert snat >> leaves() << accept(IP_CT_NEW, src=ROUTER, sport=40000)


def test_a_connection_that_ended_does_not_come_back(snat: Play) -> None:
    assert (
        snat
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> advance(31)
        << destroyed("timeout")
        >> crash()
        << entries(0)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_NEW)
    )

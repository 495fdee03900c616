"""The keys of `-o json`: added to, never renamed."""

from conntrackd_py.conntrack.expect import PERMANENT, USERSPACE
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.control import view
from conntrackd_py.explain.refusals import Refusal
from conntrackd_py.reasons import END_DELETED, END_TIMEOUT
from tests.support import packets
from tests.support.router import CLIENT, CLIENT6, SERVER, SERVER6, Router


def test_a_tcp_connection_has_its_state_and_ports() -> None:
    router = Router()
    ct = router.established()
    assert view.connection(ct, router.now + 1500, accounting=False) == {
        "family": "ipv4",
        "proto": "tcp",
        "protonum": 6,
        "timeout": 431998,
        "state": "ESTABLISHED",
        "status": ["SEEN_REPLY", "ASSURED", "CONFIRMED"],
        "orig": {"src": CLIENT, "dst": SERVER, "sport": 40000, "dport": 80},
        "reply": {"src": SERVER, "dst": CLIENT, "sport": 80, "dport": 40000},
        "mark": 0,
        "id": ct.id,
    }


def test_udp_has_no_state_and_ipv6_is_written_short() -> None:
    router = Router()
    described = view.connection(router.udp(src=CLIENT6, dst=SERVER6), router.now, accounting=False)
    assert "state" not in described
    assert described["family"] == "ipv6"
    assert described["orig"] == {"src": CLIENT6, "dst": SERVER6, "sport": 5353, "dport": 53}


def test_counters_are_there_while_accounting_is_on() -> None:
    router = Router(tunables=Tunables(nf_conntrack_acct=True))
    described = view.connection(router.udp(), router.now, accounting=True)
    assert described["orig"] == {"src": CLIENT, "dst": SERVER, "sport": 5353, "dport": 53, "packets": 1, "bytes": 30}
    assert described["reply"] == {"src": SERVER, "dst": CLIENT, "sport": 53, "dport": 5353, "packets": 0, "bytes": 0}


def test_icmp_gre_and_the_rest_say_what_identifies_them() -> None:
    ping = bytes([10, 0, 0, 1, 10, 0, 0, 2, 4, 202, 8, 0, 1])
    assert view.tuple_fields(ping) == {"src": CLIENT, "dst": SERVER, "type": 8, "code": 0, "id": 1226}
    gre = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 34, 47])
    assert view.tuple_fields(gre) == {"src": CLIENT, "dst": SERVER, "srckey": 17, "dstkey": 34}
    igmp = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 2])
    assert view.tuple_fields(igmp) == {"src": CLIENT, "dst": SERVER}


def test_an_unknown_protocol_is_called_unknown_and_a_known_one_by_its_name_even_without_a_tracker() -> None:
    router = Router()
    assert view.connection(router.other(2), router.now, accounting=False)["proto"] == "unknown"
    assert view.connection(router.other(47), router.now, accounting=False)["proto"] == "gre"


def test_an_event_is_the_connection_as_it_was_then() -> None:
    router = Router()
    router.engine.core.events.enabled = True
    ct = router.syn()
    (event,) = router.engine.drain_events()
    ct.state = 3
    described = view.event(event, 1234.5, accounting=False)
    assert list(described)[:4] == ["event", "seq", "time", "changed"]
    assert (described["event"], described["seq"], described["time"]) == ("NEW", 1, 1234.5)
    assert described["state"] == "SYN_SENT"
    assert described["timeout"] == 120
    assert "reason" not in described


def test_a_destroy_says_why() -> None:
    router = Router()
    ct = router.udp()
    router.engine.core.events.enabled = True
    router.engine.core.kill(ct, END_DELETED, router.now)
    (event,) = router.engine.drain_events()
    described = view.event(event, 0.0, accounting=False)
    assert (described["event"], described["reason"]) == ("DESTROY", "deleted")


def test_a_helper_is_named_but_not_at_the_end() -> None:
    router = Router()
    router.engine.core.events.enabled = True
    ct = router.udp()
    router.engine.core.kill(ct, END_DELETED, router.now)
    assert view.connection(ct, router.now, False, helper="ftp")["helper"] == "ftp"
    found = [view.event(event, 0.0, False, helper="ftp").get("helper", "") for event in router.engine.drain_events()]
    assert found == ["ftp", ""]


def test_labels_are_the_numbers_of_their_bits() -> None:
    router = Router()
    ct = router.udp()
    assert "labels" not in view.connection(ct, router.now, accounting=False)
    ct.labels = 1 << 1 | 1 << 127
    assert view.connection(ct, router.now, accounting=False)["labels"] == [1, 127]


def test_timestamps_are_wall_clock_times_of_birth_and_end() -> None:
    router = Router()
    ct = router.udp()
    assert "start" not in view.connection(ct, router.now, accounting=False)
    described = view.connection(ct, router.now + 5, accounting=False, epoch=1_700_000_000.5)
    assert (described["start"], "stop" in described) == (1_700_001_000.5, False)
    router.engine.core.events.enabled = True
    router.engine.core.kill(ct, END_DELETED, router.now + 2250)
    (event,) = router.engine.drain_events()
    assert "start" not in view.event(event, 1_700_001_002.75, accounting=False)
    described = view.event(event, 1_700_001_002.75, accounting=False, timestamps=True)
    assert (described["start"], described["stop"]) == (1_700_001_000.5, 1_700_001_002.75)
    described = view.connection(ct, router.now + 3000, accounting=False, epoch=1_700_000_000.5)
    assert described["stop"] == 1_700_001_002.75


def test_what_timed_out_stopped_then_and_not_when_the_sweep_came() -> None:
    router = Router()
    ct = router.udp()
    router.engine.core.events.enabled = True
    router.engine.core.kill(ct, END_TIMEOUT, ct.timeout + 700)
    (event,) = router.engine.drain_events()
    assert view.event(event, 100.7, accounting=False, timestamps=True)["stop"] == 100.0


def test_an_expectation_says_what_is_to_come_and_whose_it_is() -> None:
    router = Router()
    known = router.expect(router.established(40000, 21), 3000, flags=PERMANENT | USERSPACE)
    assert view.expectation(known, router.now + 500) == {
        "timeout": 299,
        "family": "ipv4",
        "proto": "tcp",
        "protonum": 6,
        "tuple": {"src": SERVER, "dst": CLIENT, "sport": 0, "dport": 3000},
        "mask": {"src": "255.255.255.255", "dst": "255.255.255.255", "sport": 0, "dport": 65535},
        "master": {"src": CLIENT, "dst": SERVER, "sport": 40000, "dport": 21},
        "flags": ["PERMANENT", "USERSPACE"],
        "class": 0,
        "id": 1,
        "helper": "ftp",
    }


def test_a_note_as_a_dict() -> None:
    router = Router()
    ct = router.established()
    stray = packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=102)
    router.engine.handle(Skb(stray, indev=1), PRE_ROUTING, router.now)
    (note,) = router.engine.diagnostics.recent.last(1)
    assert view.refused_packet(note, 1700000000.5) == {
        "sequence": 1,
        "time": 1700000000.5,
        "hook": "PRE_ROUTING",
        "outcome": "INVALID",
        "reason": "tcp_ack_over_window",
        "numbers": [102, 2, 65535],
        "why": "INVALID: ACK 102 is over the upper bound 2 by 100: it acknowledges data that was not sent",
        "ctinfo": "INVALID",
        "packet": {
            "proto": "tcp",
            "src": CLIENT,
            "dst": SERVER,
            "sport": 40000,
            "dport": 80,
            "flags": ".",
            "seq": 2,
            "ack": 102,
            "window": 65535,
            "len": 0,
        },
        "text": f"tcp {CLIENT}:40000 > {SERVER}:80 [.] seq 2 ack 102 win 65535 len 0",
        "connection": {
            "id": ct.id,
            "state": "ESTABLISHED",
            "status": ["SEEN_REPLY", "ASSURED", "CONFIRMED"],
            "timeout": 432000,
            "orig": {"src": CLIENT, "dst": SERVER, "sport": 40000, "dport": 80},
        },
    }


def test_an_overwritten_mark_is_noted_without_a_refusal() -> None:
    note = Refusal(Skb(packets.udp(CLIENT, SERVER, 1, 2), indev=1), POST_ROUTING, NF_ACCEPT, None, None, 0)
    note.overwritten = True
    fields = view.refused_packet(note, 0.0)
    assert (fields["outcome"], fields["reason"]) == ("ACCEPTED", "mark_overwritten")
    assert "another rule overwrote its packet mark" in fields["why"]


def test_a_connection_that_expired_in_use_is_noted_without_a_refusal() -> None:
    router = Router()
    router.established()
    router.now += 432_014_000
    router.forward(packets.tcp(CLIENT, SERVER, 40000, 80, "A", seq=2, ack=2))
    (note,) = router.engine.diagnostics.recent.last(1)
    fields = view.refused_packet(note, 0.0)
    assert (fields["outcome"], fields["reason"]) == ("ACCEPTED", "expired_in_use")
    assert fields["expired_in_use"] == {"proto": "tcp", "after": 432000.0, "ago": 14.0, "keepalive": 216000.0}

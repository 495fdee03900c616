"""One note for each host; what the operator reads."""

from conntrackd_py.explain.hints import sentence
from conntrackd_py.explain.packet_filter import PacketFilter
from conntrackd_py.explain.unhelped import UNHELPED_HOSTS_LIMIT, Unhelped
from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.reasons import UNHELPED
from tests.support.control import assigned
from tests.support.play import CLIENT, NEIGHBOUR, SERVER, Play, accept, tcp, udp
from tests.support.router import Router


def test_once_for_each_host() -> None:
    play = Play(4)
    for host in (CLIENT, CLIENT, NEIGHBOUR):
        for sport in (1000, 2000):
            assert play >> tcp(host, SERVER, "S", dport=21, sport=sport) << accept()
    notes = play.engine.diagnostics.recent.last(10)
    assert [note.lacks for note in notes] == ["ftp", "ftp"]
    assert play.engine.diagnostics.unhelped.connections == 4
    assert sentence(notes[0]).startswith("a control connection to the port of ftp, and no raw rule assigns this helper")
    assert PacketFilter(reasons=frozenset({UNHELPED})).matches(notes[0])
    assert not PacketFilter(reasons=frozenset({0})).matches(notes[0])


def test_no_note_with_the_helper_or_of_another_protocol() -> None:
    play = Play(4, raw_rules=assigned("ftp", 21), helpers=(Ftp,))
    assert play >> tcp(CLIENT, SERVER, "S", dport=21) << accept() >> udp(CLIENT, SERVER, dport=21) << accept()
    assert play.engine.diagnostics.recent.total == 0


def test_the_number_of_hosts_is_limited() -> None:
    known = Unhelped()
    router = Router()
    ct = router.syn(1, 80)
    ct.status = 0
    for number in range(UNHELPED_HOSTS_LIMIT + 5):
        ct.original = bytes((10, 1, number >> 8, number & 255)) + ct.original[4:10] + b"\0\x15\6"
        assert known.hit(ct) == "ftp"
    assert len(known.hosts) == UNHELPED_HOSTS_LIMIT

"""Assignment, figures, and the end of connections with a helper."""

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_UDP, IPS_HELPER, IPS_SEQ_ADJUST
from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.helpers.helper import PARTIAL, PASS, ControlPacket, Helper
from conntrackd_py.reasons import HELPER_PARTIAL, LEAK_GUARD
from tests.support.control import Stream, assigned, expected
from tests.support.play import CLIENT, ROUTER, SERVER, Play, accept, advance, dropped, tcp, udp
from tests.support.rules import masquerade

PORT = b"PORT 192,168,1,2,19,137\r\n"


class Upper(Helper):
    """Changes every datagram."""

    name = "upper"
    protonum = IPPROTO_UDP

    def help(self, packet: ControlPacket) -> int:
        if packet.payload.startswith(b"?"):
            return PARTIAL
        packet.replace(0, 1, packet.payload[:1] * 3)
        packet.replace(2, 0, b"-")
        return PASS


def ftp_stream(play: Play) -> Stream:
    stream = Stream(play, CLIENT, SERVER, 21, as_seen=ROUTER).open()
    stream.says(SERVER, b"220 ready\r\n")
    stream.says(CLIENT, b"USER x\r\n")
    return stream


def test_figures() -> None:
    play = Play(4, [masquerade()], raw_rules=assigned("ftp", 21), helpers=(Ftp,))
    stream = ftp_stream(play)
    stream.says(CLIENT, PORT)
    assert play >> stream.segment(CLIENT, "PA", b"PORT 1", seq=stream.seq["client"]) << dropped(HELPER_PARTIAL)
    figures = play.engine.helpers.figures["ftp"]
    assert (figures.connections, figures.expectations, figures.changed, figures.dropped) == (1, 1, 1, 1)


def test_nothing_is_kept_of_a_connection_that_has_ended() -> None:
    """Also not of one whose first packet was refused."""
    play = Play(6, [masquerade()], raw_rules=assigned("ftp", 21), helpers=(Ftp,))
    stream = ftp_stream(play)
    stream.says(CLIENT, b"EPRT |2|fd00:1::2|5001|\r\n", status=IPS_HELPER | IPS_SEQ_ADJUST)
    helpers = play.engine.helpers
    assert (len(helpers.helped), len(play.engine.core.seqadj), len(expected(play))) == (1, 1, 1)
    assert play.ct is not None
    play.engine.delete(play.ct.slot, play.now)
    assert play >> advance(3) >> tcp(CLIENT, SERVER, "SA", dport=21, sport=9) << dropped(LEAK_GUARD)
    assert (len(helpers.helped), len(play.engine.core.seqadj), len(expected(play))) == (0, 0, 0)


def test_a_reload_without_the_rule_keeps_the_helper_of_connections() -> None:
    play = Play(4, [masquerade()], raw_rules=assigned("ftp", 21), helpers=(Ftp,))
    stream = ftp_stream(play)
    play.engine.configure(Tunables(), nat_rules=[masquerade()])
    stream.says(CLIENT, PORT)
    assert len(expected(play)) == 1
    assert play >> tcp(CLIENT, SERVER, "S", dport=21, sport=9) << accept(not_status=IPS_HELPER)


def test_a_helper_of_another_protocol_is_not_assigned() -> None:
    play = Play(4, raw_rules=assigned("ftp", 21, protonum=IPPROTO_UDP), helpers=(Ftp,))
    assert play >> udp(CLIENT, SERVER, dport=21) << accept(not_status=IPS_HELPER)


def test_changes_of_a_datagram(family: int) -> None:
    """Several changes of one payload are made together; a helper for UDP sees the first packet too."""
    play = Play(family, raw_rules=assigned("upper", 7, protonum=IPPROTO_UDP), helpers=(Upper,))
    said = udp(CLIENT, SERVER, b"abcd", dport=7)
    assert play >> said << accept(data=udp(CLIENT, SERVER, b"aaab-cd", dport=7).bytes_for(family))
    assert play >> udp(CLIENT, SERVER, b"?", dport=7) << dropped(HELPER_PARTIAL)


def test_names(family: int) -> None:
    play = Play(family, raw_rules=assigned("ftp", 21), helpers=(Ftp,))
    ftp_stream_less = tcp(CLIENT, SERVER, "S", dport=21)
    assert play >> ftp_stream_less << accept()
    assert play.ct is not None
    assert play.engine.helpers.name_of(play.ct) == "ftp"
    assert play >> udp(CLIENT, SERVER) << accept()
    assert play.engine.helpers.name_of(play.ct) == ""

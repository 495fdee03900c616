"""SCTP associations: opening, closing, tags; and through NAT, where the CRC is computed again."""

import struct

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IPS_ASSURED
from conntrackd_py.reasons import L4_CHECKSUM, L4_TRUNCATED, SCTP_CHUNKS, SCTP_NOT_NEW, SCTP_VTAG
from conntrackd_py.wire import sctp as wire
from tests.support import packets
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    ROUTER,
    SERVER,
    Host,
    Play,
    Said,
    accept,
    advance,
    corrupted,
    destroyed,
    invalid,
)

C_TAG, S_TAG = 0x1111, 0x2222  # what each end announces: packets to it carry it


def init(tag: int) -> bytes:
    return struct.pack(">IIHHI", tag, 65535, 1, 1, 1)


def sctp(sender: Host, receiver: Host, tag: int, *chunks: tuple[int, bytes], flags: int = 0) -> Said:
    def make(family: int) -> bytes:
        src, dst = (sender.v4, receiver.v4) if family == 4 else (sender.v6, receiver.v6)
        return packets.sctp(src, dst, sender.port, receiver.port, tag, *chunks, flags=flags)

    return Said(f"sctp {sender.name} > {receiver.name} tag {tag:x} {[kind for kind, _ in chunks]}", make, sender)


CALL = sctp(CLIENT, SERVER, 0, (wire.INIT, init(C_TAG)))


def opened(play: Play, server: Host = SERVER, seen_as: Host = CLIENT) -> Play:
    return (
        play
        >> CALL
        << accept(IP_CT_NEW, state="CLOSED", timeout=10)
        >> sctp(server, seen_as, C_TAG, (wire.INIT_ACK, init(S_TAG)))
        << accept(IP_CT_ESTABLISHED_REPLY, state="COOKIE_WAIT", timeout=3)
        >> sctp(CLIENT, server, S_TAG, (wire.COOKIE_ECHO, b"cookie"))
        << accept(IP_CT_ESTABLISHED, state="COOKIE_ECHOED", timeout=3, not_status=IPS_ASSURED)
        >> sctp(server, seen_as, C_TAG, (wire.COOKIE_ACK, b""))
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=210, status=IPS_ASSURED)
    )


def test_an_association_opens_talks_and_closes(play: Play) -> None:
    assert (
        opened(play)
        >> advance(200)
        >> sctp(CLIENT, SERVER, S_TAG, (wire.DATA, b"hello, association"))
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", timeout=210)
        >> sctp(CLIENT, SERVER, S_TAG, (wire.SHUTDOWN, bytes(4)))
        << accept(state="SHUTDOWN_SENT", timeout=3)
        >> sctp(SERVER, CLIENT, C_TAG, (wire.SHUTDOWN_ACK, b""))
        << accept(state="SHUTDOWN_ACK_SENT", timeout=3)
        >> sctp(CLIENT, SERVER, S_TAG, (wire.SHUTDOWN_COMPLETE, b""))
        << accept(state="CLOSED", timeout=10)
        >> advance(11)
        << destroyed("timeout")
    )


def test_a_wrong_tag(play: Play) -> None:
    assert opened(play) >> sctp(SERVER, CLIENT, 0xBAD, (wire.DATA, b"x")) << invalid(SCTP_VTAG)
    assert play >> sctp(SERVER, CLIENT, 0xBAD, (wire.ABORT, b"")) << invalid(SCTP_VTAG)


def test_an_abort_may_reflect_the_peers_tag(play: Play) -> None:
    """With the T bit: the sender knows no tag of its own."""
    assert (
        opened(play)
        >> sctp(SERVER, CLIENT, S_TAG, (wire.ABORT, b""), flags=wire.FLAG_T)
        << accept(state="CLOSED", timeout=10)
    )


def test_a_repeated_init_does_not_keep_a_dead_entry(play: Play) -> None:
    assert (
        play
        >> CALL
        << accept(IP_CT_NEW, timeout=10)
        >> advance(6)
        >> CALL
        << accept(IP_CT_NEW, state="CLOSED", timeout=4)
    )


NEW_TAG, OTHER_TAG = 0x3333, 0x4444
ANSWERED = sctp(SERVER, CLIENT, 0, (wire.INIT, init(S_TAG)))  # both called


def test_both_called_and_a_repeated_call_says_nothing_new(play: Play) -> None:
    """Both announced a tag, so a third one in an INIT_ACK is wrong; hearing a call twice does not alter that."""
    other = sctp(CLIENT, SERVER, S_TAG, (wire.INIT_ACK, init(OTHER_TAG)))
    assert (
        play
        >> CALL
        << accept(IP_CT_NEW)
        >> ANSWERED
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> ANSWERED
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> other
        << invalid(SCTP_VTAG)
        >> sctp(SERVER, CLIENT, 0, (wire.INIT, init(NEW_TAG)))
        << accept(IP_CT_ESTABLISHED_REPLY)  # the server opens a new association: only its INIT counts
        >> sctp(CLIENT, SERVER, NEW_TAG, (wire.INIT_ACK, init(OTHER_TAG)))
        << accept(IP_CT_ESTABLISHED)
    )


def test_a_repeated_call_in_an_association_is_none(play: Play) -> None:
    """The server calls afterwards and may be answered with a new tag: the client has not called, only repeated."""
    assert (
        opened(play)
        >> CALL
        << accept(IP_CT_ESTABLISHED)
        >> sctp(SERVER, CLIENT, 0, (wire.INIT, init(NEW_TAG)))
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> sctp(CLIENT, SERVER, NEW_TAG, (wire.INIT_ACK, init(OTHER_TAG)))
        << accept(IP_CT_ESTABLISHED)
    )


def test_what_a_first_packet_says_of_the_tags(play: Play) -> None:
    """A HEARTBEAT says its own direction's, a SHUTDOWN_ACK what its answer carries, an ERROR nothing."""
    heartbeat = (wire.HEARTBEAT, bytes(8))
    answer = sctp(SERVER, CLIENT, S_TAG, (wire.SHUTDOWN, bytes(4)))
    assert play >> sctp(CLIENT, SERVER, S_TAG, heartbeat, (wire.ERROR, bytes(4))) << accept(IP_CT_NEW)
    assert play >> answer << invalid(SCTP_VTAG)


def test_a_shutdown_ack_out_of_the_blue(play: Play) -> None:
    heartbeat, acknowledged = (wire.HEARTBEAT, bytes(8)), (wire.SHUTDOWN_ACK, b"")
    assert play >> sctp(CLIENT, SERVER, S_TAG, heartbeat, acknowledged) << accept(IP_CT_NEW)
    assert play >> sctp(SERVER, CLIENT, S_TAG, (wire.DATA, b"x")) << accept(IP_CT_ESTABLISHED_REPLY)


def test_chunks_that_may_not_stand_together(play: Play) -> None:
    both = sctp(CLIENT, SERVER, 0, (wire.DATA, b"x"), (wire.INIT, init(C_TAG)))
    assert play >> both << invalid(SCTP_CHUNKS)
    assert play >> sctp(CLIENT, SERVER, 0) << invalid(SCTP_CHUNKS)


def test_data_does_not_start_an_association(play: Play) -> None:
    assert play >> sctp(CLIENT, SERVER, S_TAG, (wire.DATA, b"x")) << invalid(SCTP_NOT_NEW, entries=0)


def test_a_heartbeat_may_come_first_on_another_path(play: Play) -> None:
    assert (
        play
        >> sctp(CLIENT, SERVER, S_TAG, (wire.HEARTBEAT, bytes(8)))
        << accept(IP_CT_NEW, state="HEARTBEAT_SENT", timeout=30)
        >> sctp(SERVER, CLIENT, C_TAG, (wire.HEARTBEAT_ACK, bytes(8)))
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=210, status=IPS_ASSURED)
    )


def test_a_wrong_checksum(play: Play) -> None:
    assert play >> corrupted(CALL) << invalid(L4_CHECKSUM)


def whole(packet: bytes) -> bool:
    at = 20 if packet[0] >> 4 == 4 else 40
    return wire.crc32c(packet, at, len(packet)) == wire.checksum(packet, at)


def test_through_nat(snat: Play) -> None:
    """Two clients with the same port: the second is mapped to another one, and every CRC is right."""
    assert opened(snat, seen_as=ROUTER)
    assert whole(snat.left)
    assert snat >> sctp(NEIGHBOUR, SERVER, 0, (wire.INIT, init(7))) << accept(IP_CT_NEW, src=ROUTER)
    assert snat.seen["sport"] != 40000
    assert whole(snat.left)


# --- verification tags, rule by rule (RFC 9260 section 8.5) ---------------------------------------------------------


def test_an_init_has_tag_0(play: Play) -> None:
    """The first INIT and every later one."""
    wrong = sctp(CLIENT, SERVER, S_TAG, (wire.INIT, init(NEW_TAG)))
    assert play >> wrong << invalid(SCTP_VTAG, entries=0)
    assert (
        opened(play)
        >> wrong
        << invalid(SCTP_VTAG)
        >> sctp(SERVER, CLIENT, C_TAG, (wire.DATA, b"x"))
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> sctp(CLIENT, SERVER, 0, (wire.INIT, init(NEW_TAG)))
        << accept(IP_CT_ESTABLISHED)
        >> sctp(SERVER, CLIENT, C_TAG, (wire.DATA, b"x"))
        << invalid(SCTP_VTAG)
        >> sctp(SERVER, CLIENT, NEW_TAG, (wire.DATA, b"x"))
        << accept(IP_CT_ESTABLISHED_REPLY)
    )


def test_only_an_init_may_have_tag_0(play: Play) -> None:
    opened(play)
    for kind, value in (
        (wire.DATA, b"x"),
        (wire.INIT_ACK, init(S_TAG)),
        (wire.ABORT, b""),
        (wire.SHUTDOWN_COMPLETE, b""),
        (wire.COOKIE_ECHO, b"cookie"),
        (wire.HEARTBEAT_ACK, bytes(8)),
    ):
        assert play >> sctp(SERVER, CLIENT, 0, (kind, value)) << invalid(SCTP_VTAG)


def test_the_first_heartbeat_sets_the_tag_of_its_direction(play: Play) -> None:
    """Tag 0 means that the tag is unknown. Then only the tag of the HEARTBEAT is accepted."""
    assert (
        play
        >> sctp(CLIENT, SERVER, S_TAG, (wire.HEARTBEAT, bytes(8)))
        << accept(IP_CT_NEW)
        >> sctp(SERVER, CLIENT, C_TAG, (wire.HEARTBEAT_ACK, bytes(8)))
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> sctp(SERVER, CLIENT, OTHER_TAG, (wire.DATA, b"x"))
        << invalid(SCTP_VTAG)
        >> sctp(SERVER, CLIENT, C_TAG, (wire.DATA, b"x"))
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> sctp(CLIENT, SERVER, OTHER_TAG, (wire.DATA, b"x"))
        << invalid(SCTP_VTAG)
        >> sctp(CLIENT, SERVER, S_TAG, (wire.DATA, b"x"))
        << accept(IP_CT_ESTABLISHED)
    )


# --- new tags after a restart: a HEARTBEAT and its answer set them -------------------------------------------------

BEAT, BEAT_ACK = (wire.HEARTBEAT, bytes(8)), (wire.HEARTBEAT_ACK, bytes(8))
DATA = (wire.DATA, b"x")


def test_a_heartbeat_with_another_tag_is_accepted_and_its_answer_sets_new_tags(play: Play) -> None:
    assert (
        opened(play)
        >> advance(10)
        >> sctp(SERVER, CLIENT, NEW_TAG, BEAT)
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=200)  # it does not refresh the timeout
        >> sctp(SERVER, CLIENT, NEW_TAG, DATA)
        << invalid(SCTP_VTAG)
        >> sctp(CLIENT, SERVER, OTHER_TAG, BEAT_ACK)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", timeout=210)
        >> sctp(CLIENT, SERVER, S_TAG, DATA)
        << invalid(SCTP_VTAG)
        >> sctp(CLIENT, SERVER, OTHER_TAG, DATA)
        << accept(IP_CT_ESTABLISHED)
        >> sctp(SERVER, CLIENT, C_TAG, DATA)
        << invalid(SCTP_VTAG)  # the server's tag is unknown until its next HEARTBEAT
        >> sctp(SERVER, CLIENT, NEW_TAG, BEAT)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> sctp(SERVER, CLIENT, NEW_TAG, DATA)
        << accept(IP_CT_ESTABLISHED_REPLY)
    )


def test_a_heartbeat_with_another_tag_must_be_the_only_chunk(play: Play) -> None:
    """With DATA or a second HEARTBEAT it is refused (sctp_vtag_reset)."""
    assert opened(play) >> sctp(SERVER, CLIENT, NEW_TAG, BEAT, DATA) << invalid(SCTP_VTAG)
    assert play >> sctp(SERVER, CLIENT, NEW_TAG, BEAT, BEAT) << invalid(SCTP_VTAG)
    assert play >> sctp(SERVER, CLIENT, C_TAG, BEAT, DATA) << accept(IP_CT_ESTABLISHED_REPLY)


def test_a_heartbeat_ack_without_a_heartbeat_sets_no_tags(play: Play) -> None:
    assert (
        opened(play)
        >> sctp(CLIENT, SERVER, OTHER_TAG, BEAT_ACK)
        << invalid(SCTP_VTAG)
        >> sctp(SERVER, CLIENT, NEW_TAG, BEAT)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> sctp(SERVER, CLIENT, NEW_TAG, BEAT_ACK)
        << invalid(SCTP_VTAG)  # from the end that sent the HEARTBEAT
        >> sctp(CLIENT, SERVER, S_TAG, BEAT)
        << accept(IP_CT_ESTABLISHED)  # with the old tag: this withdraws the reset
        >> sctp(CLIENT, SERVER, OTHER_TAG, BEAT_ACK)
        << invalid(SCTP_VTAG)
        >> sctp(CLIENT, SERVER, S_TAG, DATA)
        << accept(IP_CT_ESTABLISHED)
    )


def test_an_answered_heartbeat_sets_new_tags_once(play: Play) -> None:
    assert (
        opened(play)
        >> sctp(SERVER, CLIENT, NEW_TAG, BEAT)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> sctp(CLIENT, SERVER, OTHER_TAG, BEAT_ACK)
        << accept(IP_CT_ESTABLISHED)
        >> sctp(CLIENT, SERVER, S_TAG, BEAT_ACK)
        << invalid(SCTP_VTAG)
    )


# --- rules of single chunks -----------------------------------------------------------------------------------------


def test_an_abort_has_the_tag_of_the_peer_only_with_the_t_bit(play: Play) -> None:
    for kind in (wire.ABORT, wire.SHUTDOWN_COMPLETE):
        opened(play)
        assert play >> sctp(SERVER, CLIENT, C_TAG, (kind, b""), flags=wire.FLAG_T) << invalid(SCTP_VTAG)
        assert play >> sctp(SERVER, CLIENT, S_TAG, (kind, b"")) << invalid(SCTP_VTAG)
        assert play >> sctp(SERVER, CLIENT, C_TAG, (kind, b"")) << accept(IP_CT_ESTABLISHED_REPLY)
        play = Play(play.family)


def test_a_truncated_init(play: Play) -> None:
    """The first INIT is refused as truncated, a later one for its tag."""
    short = sctp(CLIENT, SERVER, 0, (wire.INIT, init(C_TAG)[:12]))
    assert play >> short << invalid(L4_TRUNCATED, entries=0)
    assert opened(play) >> short << invalid(SCTP_VTAG)
    assert play >> sctp(CLIENT, SERVER, S_TAG, DATA) << accept(IP_CT_ESTABLISHED)


def test_an_init_ack_may_not_announce_another_tag_when_one_is_known(play: Play) -> None:
    assert opened(play) >> sctp(SERVER, CLIENT, C_TAG, (wire.INIT_ACK, init(OTHER_TAG))) << invalid(SCTP_VTAG)
    assert play >> sctp(SERVER, CLIENT, C_TAG, (wire.INIT_ACK, init(S_TAG))) << accept(IP_CT_ESTABLISHED_REPLY)


def test_chunks_that_must_not_be_bundled(play: Play) -> None:
    """INIT, INIT ACK and SHUTDOWN COMPLETE must be alone; COOKIE ECHO and COOKIE ACK must be first."""
    cookie, cookie_ack = (wire.COOKIE_ECHO, b"cookie"), (wire.COOKIE_ACK, b"")
    opened(play)
    for first, second in (
        (DATA, cookie),
        (DATA, cookie_ack),
        (cookie, (wire.SHUTDOWN_COMPLETE, b"")),
        ((wire.SHUTDOWN_COMPLETE, b""), DATA),
        ((wire.INIT_ACK, init(S_TAG)), DATA),
    ):
        assert play >> sctp(CLIENT, SERVER, S_TAG, first, second) << invalid(SCTP_CHUNKS)
    for first in (cookie, cookie_ack):
        assert play >> sctp(CLIENT, SERVER, S_TAG, first, DATA) << accept(IP_CT_ESTABLISHED)


def test_chunks_that_never_start_an_association(play: Play) -> None:
    for kind in (wire.ABORT, wire.SHUTDOWN_COMPLETE, wire.COOKIE_ACK):
        assert play >> sctp(CLIENT, SERVER, 0, (kind, b"")) << invalid(SCTP_NOT_NEW, entries=0)


def test_an_announced_tag_of_0_is_used_like_any_other(play: Play) -> None:
    """RFC 9260 forbids it; the kernel does not check. The ends will abort."""
    assert (
        play
        >> sctp(CLIENT, SERVER, 0, (wire.INIT, init(0)))
        << accept(IP_CT_NEW, state="CLOSED", entries=1)
        >> sctp(SERVER, CLIENT, C_TAG, DATA)
        << invalid(SCTP_VTAG)
        >> sctp(SERVER, CLIENT, 0, (wire.INIT_ACK, init(0)))
        << accept(IP_CT_ESTABLISHED_REPLY, state="COOKIE_WAIT")
        >> sctp(CLIENT, SERVER, S_TAG, DATA)
        << invalid(SCTP_VTAG)
        >> sctp(CLIENT, SERVER, 0, (wire.COOKIE_ECHO, b"cookie"))
        << accept(IP_CT_ESTABLISHED, state="COOKIE_ECHOED")
    )
    assert opened(Play(play.family)) >> sctp(CLIENT, SERVER, 0, (wire.INIT, init(0))) << accept(IP_CT_ESTABLISHED)

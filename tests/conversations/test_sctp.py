"""SCTP associations: opening, closing, tags; and through NAT, where the CRC is computed again."""

import struct

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IPS_ASSURED
from conntrackd_py.reasons import L4_CHECKSUM, SCTP_CHUNKS, SCTP_NOT_NEW, SCTP_VTAG
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

"""ICMP and ICMPv6: queries are connections, errors belong to other people's (figure 8 of seed 001)."""

from conntrackd_py.const import (
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_SEEN_REPLY,
)
from conntrackd_py.reasons import (
    ICMP_INNER,
    ICMP_OUTER,
    ICMP_TYPE,
    ICMP_UNRELATED,
    L4_CHECKSUM,
    L4_TRUNCATED,
    TUPLE_NOT_INVERTIBLE,
)
from tests.support import packets
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    OTHER,
    SERVER,
    Play,
    accept,
    advance,
    corrupted,
    destroyed,
    error,
    invalid,
    ping,
    pong,
    raw,
    tcp,
    udp,
)


def test_ping(play: Play) -> None:
    """Figure 8: request NEW 30 s, reply ESTABLISHED_REPLY 30 s, never ASSURED, gone after 30 s."""
    assert (
        play
        >> ping(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30, status=IPS_CONFIRMED, not_status=IPS_SEEN_REPLY)
        >> pong(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY, timeout=30, status=IPS_SEEN_REPLY, not_status=IPS_ASSURED)
        >> advance(31)
        << destroyed("timeout")
    )
    assert play.events == ["NEW", "UPDATE", "DESTROY"]


def test_one_ping_process_is_one_connection(play: Play) -> None:
    """Same identifier, rising sequence number: it lives as long as echoes come."""
    for sequence in range(5):
        assert (
            play
            >> ping(CLIENT, SERVER, ident=7, sequence=sequence)
            << accept(timeout=30, entries=1)
            >> advance(20)
            >> pong(SERVER, CLIENT, ident=7, sequence=sequence)
            << accept(IP_CT_ESTABLISHED_REPLY, timeout=30, not_status=IPS_ASSURED)
        )
    assert play >> ping(CLIENT, SERVER, ident=8) << accept(IP_CT_NEW, entries=2)


def test_a_reply_without_a_request(play: Play) -> None:
    """An echo reply cannot start a connection."""
    assert play >> pong(SERVER, CLIENT) << accept(IP_CT_INVALID, reason="icmp_cannot_start", entries=0)


def test_port_unreachable_is_related(play: Play) -> None:
    """The error comes back to the sender of what it quotes; it refreshes nothing."""
    query = udp(CLIENT, SERVER)
    assert (
        play
        >> query
        << accept(IP_CT_NEW, timeout=30)
        >> advance(20)
        >> error(SERVER, CLIENT, query)
        << accept(IP_CT_RELATED_REPLY, timeout=10, not_status=IPS_SEEN_REPLY)
        >> advance(11)
        << destroyed("timeout")
    )


def test_an_error_about_an_answer_is_related_in_the_original_direction(play: Play) -> None:
    answer = udp(SERVER, CLIENT)
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> answer
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> error(CLIENT, SERVER, answer)
        << accept(IP_CT_RELATED)
    )


def test_a_router_on_the_way_may_complain_too(play: Play) -> None:
    """Time exceeded from a host that is not the server."""
    syn = tcp(CLIENT, SERVER, "S")
    assert (
        play
        >> syn
        << accept(IP_CT_NEW, state="SYN_SENT")
        >> error(OTHER, CLIENT, syn, v4=(11, 0), v6=(3, 0))
        << accept(IP_CT_RELATED_REPLY, state="SYN_SENT", timeout=120)
    )


def test_an_error_about_an_unknown_connection(play: Play) -> None:
    assert play >> error(SERVER, CLIENT, udp(CLIENT, SERVER)) << invalid(ICMP_UNRELATED, entries=0)


def test_an_error_sent_to_another_host(play: Play) -> None:
    """It quotes the client's packet but is addressed to the neighbour."""
    query = udp(CLIENT, SERVER)
    assert play >> query << accept(IP_CT_NEW) >> error(SERVER, NEIGHBOUR, query) << invalid(ICMP_OUTER)


def test_an_error_that_quotes_too_little(play: Play) -> None:
    def quoting_six_bytes(family: int) -> bytes:
        quoted = udp(CLIENT, SERVER).bytes_for(family)[:6]
        src, dst = (SERVER.v4, CLIENT.v4) if family == 4 else (SERVER.v6, CLIENT.v6)
        return packets.icmp(src, dst, 3 if family == 4 else 1, 0, data=quoted)

    assert play >> raw(SERVER, quoting_six_bytes) << invalid(ICMP_INNER)


def test_a_wrong_checksum(play: Play) -> None:
    assert play >> corrupted(ping(CLIENT, SERVER)) << invalid(L4_CHECKSUM, entries=0)


def test_a_header_cut_off() -> None:
    short = packets.ip(CLIENT.v4, SERVER.v4, 1, b"\x08\0\0")
    assert Play(4) >> raw(CLIENT, lambda _: short) << invalid(L4_TRUNCATED)


def test_an_icmp_type_that_does_not_exist() -> None:
    unknown = packets.icmp(CLIENT.v4, SERVER.v4, 19)
    assert Play(4) >> raw(CLIENT, lambda _: unknown) << invalid(ICMP_TYPE)


def test_an_icmp_type_that_has_no_answer() -> None:
    """Router advertisement: known, harmless, and no connection."""
    advertisement = packets.icmp(CLIENT.v4, SERVER.v4, 9)
    assert Play(4) >> raw(CLIENT, advertisement) << invalid(TUPLE_NOT_INVERTIBLE)


def test_the_other_queries_of_icmp() -> None:
    for request, reply in ((13, 14), (15, 16), (17, 18)):
        ask = packets.icmp(CLIENT.v4, SERVER.v4, request, ident=3)
        answer = packets.icmp(SERVER.v4, CLIENT.v4, reply, ident=3)
        assert (
            Play(4)
            >> raw(CLIENT, ask)
            << accept(IP_CT_NEW, timeout=30)
            >> raw(SERVER, answer)
            << accept(IP_CT_ESTABLISHED_REPLY, timeout=30)
        )


def test_neighbour_discovery_is_left_alone() -> None:
    for kind in (130, 131, 132, 133, 134, 135, 136, 143):
        message = packets.icmp(CLIENT.v6, SERVER.v6, kind)
        assert Play(6) >> raw(CLIENT, message) << accept(IP_CT_UNTRACKED, entries=0)

"""UDP: unreplied, replied, and ASSURED as a stream. Since Linux 5.12 a stream needs two seconds."""

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_SEEN_REPLY,
)
from conntrackd_py.reasons import L4_CHECKSUM
from tests.support.play import CLIENT, SERVER, Play, accept, advance, corrupted, destroyed, invalid, nothing, udp


def test_dns_query_and_response(play: Play) -> None:
    """Figure 10 of seed 001: confirmed with 30 s, renewed to 30 s by the answer, gone after them."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30, status=IPS_CONFIRMED, not_status=IPS_SEEN_REPLY | IPS_ASSURED)
        >> advance(0.1)
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY, timeout=30, status=IPS_CONFIRMED | IPS_SEEN_REPLY, not_status=IPS_ASSURED)
        >> advance(31)
        << destroyed("timeout")
    )
    assert play.events == ["NEW", "UPDATE", "DESTROY"]


def test_it_is_assured_only_as_a_stream(play: Play) -> None:
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30)
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY, timeout=30)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, timeout=30, not_status=IPS_ASSURED)
        >> advance(3)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, timeout=120, status=IPS_ASSURED)
        >> advance(119)
        << nothing()
        >> advance(2)
        << destroyed("timeout")
    )


def test_as_seed_000_draws_it(family: int) -> None:
    """With udp_stream_after = 0, as older kernels did: 120 s from the first answer, ASSURED at the third packet."""
    assert (
        Play(family, udp_stream_after=0)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30)
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY, timeout=120, not_status=IPS_ASSURED)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, timeout=120, status=IPS_ASSURED)
        >> advance(121)
        << destroyed("timeout")
    )


def test_without_an_answer(play: Play) -> None:
    """Seed 000: NEW for 30 s, each packet renewing them, never more."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30)
        >> advance(29)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30)
        >> advance(29)
        << nothing()
        >> advance(2)
        << destroyed("timeout")
    )


def test_after_its_time_the_same_ports_are_a_new_connection(play: Play) -> None:
    """Even before the sweep has come by."""
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> advance(30.5)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, timeout=30, not_status=IPS_SEEN_REPLY)
    )


def test_a_wrong_checksum_is_invalid_and_refreshes_nothing(play: Play) -> None:
    assert (
        play
        >> udp(CLIENT, SERVER, b"data")
        << accept(IP_CT_NEW)
        >> advance(20)
        >> corrupted(udp(SERVER, CLIENT, b"data"))
        << invalid(L4_CHECKSUM)
        >> advance(11)
        << destroyed("timeout")
    )

"""TCP as figures 12 to 14 of seed 001 show it, and everything the transition table alone cannot say."""

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_FIXED_TIMEOUT,
    IPS_SEEN_REPLY,
)
from conntrackd_py.reasons import (
    L4_CHECKSUM,
    L4_TRUNCATED,
    TCP_ACK_OVER,
    TCP_FLAGS,
    TCP_NOT_SYN,
    TCP_RST,
    TCP_SEQ_OVER,
    TCP_STATE,
)
from tests.support import packets
from tests.support.packets import SACK_PERMITTED, sack, window_scale
from tests.support.play import (
    CLIENT,
    SERVER,
    Play,
    accept,
    advance,
    corrupted,
    destroyed,
    invalid,
    nothing,
    raw,
    tcp,
)

FIVE_DAYS = 432000


def opened(play: Play, *, c: int = 100, s: int = 900, window: int = 65535, options: bytes = b"") -> Play:
    """The three-way handshake; the next sequence numbers are c + 1 and s + 1."""
    return (
        play
        >> tcp(CLIENT, SERVER, "S", seq=c, window=window, options=options)
        << accept(IP_CT_NEW, state="SYN_SENT", timeout=120)
        >> tcp(SERVER, CLIENT, "SA", seq=s, ack=c + 1, window=window, options=options)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV", timeout=60)
        >> tcp(CLIENT, SERVER, "A", seq=c + 1, ack=s + 1, window=window)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", timeout=FIVE_DAYS, status=IPS_ASSURED)
    )


# --- the good weather of seed 001 ------------------------------------------------------------------


def test_handshake(play: Play) -> None:
    """Figure 12. ctinfo is ESTABLISHED_REPLY long before the TCP state is ESTABLISHED."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, timeout=120, status=IPS_CONFIRMED, not_status=IPS_SEEN_REPLY | IPS_ASSURED)
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, timeout=60, status=IPS_SEEN_REPLY, not_status=IPS_ASSURED)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901)
        << accept(IP_CT_ESTABLISHED, timeout=FIVE_DAYS, status=IPS_ASSURED | IPS_SEEN_REPLY)
    )


def test_payload(play: Play) -> None:
    """Figure 13: while data waits for its acknowledgement the timeout is 300 s, then five days again."""
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "PA", seq=101, ack=901, data=b"hello")
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", timeout=300)
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=106)
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=FIVE_DAYS)
    )


def test_termination(play: Play) -> None:
    """Figure 14, and the event log of seed 002: FIN_WAIT 120, LAST_ACK 30, TIME_WAIT 120, gone."""
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=901)
        << accept(state="FIN_WAIT", timeout=120)
        >> tcp(SERVER, CLIENT, "FA", seq=901, ack=102)
        << accept(state="LAST_ACK", timeout=30)
        >> tcp(CLIENT, SERVER, "A", seq=102, ack=902)
        << accept(state="TIME_WAIT", timeout=120)
        >> advance(121)
        << destroyed("timeout")
    )
    assert play.events == ["NEW", *["UPDATE"] * 5, "DESTROY"]


def test_termination_with_an_acknowledgement_in_between(play: Play) -> None:
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "FA", seq=901, ack=101)
        << accept(state="FIN_WAIT", timeout=120)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=902)
        << accept(state="CLOSE_WAIT", timeout=60)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=902)
        << accept(state="LAST_ACK", timeout=30)
        >> tcp(SERVER, CLIENT, "A", seq=902, ack=102)
        << accept(state="TIME_WAIT", timeout=120)
    )


def test_without_an_answer(play: Play) -> None:
    """Seed 000: 120 s from the first SYN; retransmissions do not prolong them."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, timeout=120)
        >> advance(60)
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, state="SYN_SENT", timeout=60)
        >> advance(61)
        << destroyed("timeout")
    )


def test_refused(play: Play) -> None:
    """The only answer is a RST: the entry goes at once."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "RA", seq=0, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, ended=["rst"], entries=0)
    )


# --- packets that are no TCP -----------------------------------------------------------------------

VALID_SETS = {"S", "SU", "SA", "R", "RA", "FA", "FAU", "A", "AU"}
ALL_SETS = ["".join(f for i, f in enumerate("FSRAU") if bits >> i & 1) for bits in range(32)]


@pytest.mark.parametrize("flags", ALL_SETS)
@pytest.mark.parametrize("ornament", ["", "P", "EC"])
def test_flag_combinations(flags: str, ornament: str) -> None:
    """Nine sets are TCP; PSH, ECE and CWR make no difference."""
    play = Play(4)
    assert play >> tcp(CLIENT, SERVER, flags + ornament, seq=100) << accept()
    valid = any(set(flags) == set(known) for known in VALID_SETS)
    assert (play.seen["reason"] == "tcp_flags") == (not valid)


def test_a_wrong_checksum(play: Play) -> None:
    assert play >> corrupted(tcp(CLIENT, SERVER, "S", seq=100)) << invalid(L4_CHECKSUM, entries=0)


def test_checksums_can_be_left_unverified(family: int) -> None:
    play = Play(family, nf_conntrack_checksum=False)
    assert play >> corrupted(tcp(CLIENT, SERVER, "S", seq=100)) << accept(IP_CT_NEW)


def test_a_header_cut_off() -> None:
    half = packets.ip(CLIENT.v4, SERVER.v4, 6, bytes(12))
    assert Play(4) >> raw(CLIENT, lambda _: half) << invalid(L4_TRUNCATED)


def test_a_header_longer_than_the_packet() -> None:
    body = bytearray(20)
    body[12] = 15 << 4
    body[13] = 2
    long = packets.ip(CLIENT.v4, SERVER.v4, 6, packets.summed(CLIENT.v4, SERVER.v4, 6, bytes(body), 16))
    assert Play(4) >> raw(CLIENT, lambda _: long) << invalid(L4_TRUNCATED)


def test_no_flags_at_all(play: Play) -> None:
    assert opened(play) >> tcp(CLIENT, SERVER, "", seq=101, ack=901) << invalid(TCP_FLAGS)


# --- picking up in mid-stream ----------------------------------------------------------------------------


def test_picked_up_in_mid_stream(play: Play) -> None:
    """After a restart of the router: 300 s until a reply, then ASSURED and five days."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "A", seq=5000, ack=7000, data=b"x")
        << accept(IP_CT_NEW, state="ESTABLISHED", timeout=300, not_status=IPS_ASSURED)
        >> tcp(SERVER, CLIENT, "A", seq=7000, ack=5001)
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", not_status=IPS_ASSURED)
        >> tcp(CLIENT, SERVER, "A", seq=5001, ack=7000)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", status=IPS_ASSURED, timeout=FIVE_DAYS)
    )


def test_picked_up_connections_are_not_judged_by_their_window(play: Play) -> None:
    assert (
        play
        >> tcp(CLIENT, SERVER, "A", seq=5000, ack=7000)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "A", seq=900_000, ack=5000)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=800_000, ack=900_000)
        << accept(IP_CT_ESTABLISHED)
    )


def test_mid_stream_pickup_can_be_refused(family: int) -> None:
    play = Play(family, nf_conntrack_tcp_loose=False)
    assert play >> tcp(CLIENT, SERVER, "A", seq=5000, ack=7000) << invalid(TCP_NOT_SYN, entries=0)


@pytest.mark.parametrize("flags", ["SA", "FA", "R", "RA"])
def test_these_never_start_a_connection(play: Play, flags: str) -> None:
    assert play >> tcp(SERVER, CLIENT, flags, seq=5, ack=6) << invalid(TCP_STATE, entries=0)


# --- the window ------------------------------------------------------------------------------------------


def test_data_beyond_the_window(play: Play) -> None:
    assert (
        opened(play, window=1000)
        >> tcp(CLIENT, SERVER, "A", seq=101 + 5000, ack=901, data=b"far")
        << invalid(TCP_SEQ_OVER)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, data=b"near")
        << accept(IP_CT_ESTABLISHED, reason="ok")
    )


def test_a_little_more_than_the_window_is_ignored_not_refused(play: Play) -> None:
    """Some stacks send more than they may. It passes; and when the peer acknowledges it, that is right too."""
    assert (
        opened(play, window=1000)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, data=bytes(1000))
        << accept(IP_CT_ESTABLISHED, reason="ok")
        >> tcp(CLIENT, SERVER, "A", seq=1102, ack=901, data=bytes(100))
        << accept(IP_CT_ESTABLISHED, reason="tcp_more_than_window")
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=1202)
        << accept(IP_CT_ESTABLISHED_REPLY, reason="ok")
    )


def test_acknowledging_what_was_never_sent(play: Play) -> None:
    assert opened(play) >> tcp(SERVER, CLIENT, "A", seq=901, ack=102) << invalid(TCP_ACK_OVER)


def test_a_retransmission_of_acknowledged_data_is_ignored(play: Play) -> None:
    """It refreshes nothing."""
    assert (
        opened(play, window=100)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, data=bytes(100))
        << accept()
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=201, window=100)
        << accept(timeout=FIVE_DAYS)
        >> tcp(CLIENT, SERVER, "A", seq=201, ack=901, data=bytes(100), window=100)
        << accept()
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=301, window=100)
        << accept(timeout=FIVE_DAYS)
        >> advance(100)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, data=bytes(50), window=100)
        << accept(IP_CT_ESTABLISHED, reason="tcp_seq_under_window", timeout=FIVE_DAYS - 100)
    )


def test_an_acknowledgement_far_too_old_is_ignored(play: Play) -> None:
    assert opened(play)
    for i in range(3):
        assert (
            play
            >> tcp(SERVER, CLIENT, "A", seq=901 + i * 40000, ack=101, data=bytes(40000))
            << accept(reason="ok")
            >> tcp(CLIENT, SERVER, "A", seq=101, ack=901 + (i + 1) * 40000)
            << accept(reason="ok")
        )
    assert play >> tcp(CLIENT, SERVER, "A", seq=101, ack=901) << accept(reason="tcp_ack_under_window")


def test_window_scaling_needs_both(play: Play) -> None:
    """Window 10 shifted by 7 is 1280: data fits that 10 bytes would not hold."""
    assert (
        opened(play, window=10, options=window_scale(7))
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101, data=bytes(1280))
        << accept(IP_CT_ESTABLISHED_REPLY, reason="ok")
        >> tcp(SERVER, CLIENT, "A", seq=901 + 1281, ack=101, data=bytes(2000))
        << invalid(TCP_SEQ_OVER)
    )


def test_window_scaling_offered_by_one_end_only_does_not_count(play: Play) -> None:
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100, window=10, options=window_scale(7))
        << accept()
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=101, window=10)
        << accept()
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, window=10)
        << accept()
        >> tcp(SERVER, CLIENT, "A", seq=901 + 100, ack=101, data=bytes(1000))
        << invalid(TCP_SEQ_OVER)
    )


def test_the_window_of_a_syn_is_never_scaled(play: Play) -> None:
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100, window=10, options=window_scale(14))
        << accept()
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=101, window=10, options=window_scale(14))
        << accept()
        >> tcp(SERVER, CLIENT, "A", seq=901 + 200, ack=101, data=bytes(1000))
        << invalid(TCP_SEQ_OVER)
    )


def test_a_selective_acknowledgement_counts_as_one(play: Play) -> None:
    """SACK of data beyond a hole: the highest edge is what may not have been unsent."""
    assert (
        opened(play, options=SACK_PERMITTED)
        >> tcp(CLIENT, SERVER, "A", seq=201, ack=901, data=bytes(100))
        << accept()
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101, options=sack((201, 301)))
        << accept(IP_CT_ESTABLISHED_REPLY, reason="ok")
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101, options=sack((201, 302)))
        << invalid(TCP_ACK_OVER)
    )


def test_sack_blocks_mean_nothing_to_who_did_not_permit_them(play: Play) -> None:
    assert opened(play) >> tcp(SERVER, CLIENT, "A", seq=901, ack=101, options=sack((500, 600))) << accept(reason="ok")


def test_liberal_means_no_window(family: int) -> None:
    play = Play(family, nf_conntrack_tcp_be_liberal=True)
    assert (
        opened(play, window=1000)
        >> tcp(CLIENT, SERVER, "A", seq=700_000, ack=901, data=b"far")
        << accept(IP_CT_ESTABLISHED, reason="ok")
    )


def test_sequence_numbers_wrap_around(play: Play) -> None:
    assert (
        opened(play, c=0xFFFFFFF0, s=0xFFFFFF00)
        >> tcp(CLIENT, SERVER, "A", seq=0xFFFFFFF1, ack=0xFFFFFF01, data=bytes(100))
        << accept(reason="ok", timeout=300)
        >> tcp(SERVER, CLIENT, "A", seq=0xFFFFFF01, ack=(0xFFFFFFF1 + 100) & 0xFFFFFFFF, data=bytes(1000))
        << accept(reason="ok")
        >> tcp(CLIENT, SERVER, "A", seq=0x55, ack=(0xFFFFFF01 + 1000) & 0xFFFFFFFF)
        << accept(reason="ok", timeout=FIVE_DAYS)
    )


def test_a_keepalive_and_its_answer(play: Play) -> None:
    """One byte before the next, answered: both pass, and both keep the connection alive."""
    assert (
        opened(play)
        >> advance(1000)
        >> tcp(CLIENT, SERVER, "A", seq=100, ack=901)
        << accept(IP_CT_ESTABLISHED, reason="ok", timeout=FIVE_DAYS)
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, reason="ok", timeout=FIVE_DAYS)
    )


# --- timeouts that the state alone does not give ---------------------------------------------------------


def test_a_closed_window_shortens_the_timeout(play: Play) -> None:
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, window=0)
        << accept(timeout=300)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, window=100)
        << accept(timeout=FIVE_DAYS)
    )


def test_three_retransmissions_shorten_the_timeout(family: int) -> None:
    """The same pure packet again and again: the other end may be gone."""
    play = Play(family, nf_conntrack_tcp_timeout_max_retrans=200)
    assert opened(play) >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, data=b"x") << accept(timeout=300)
    for timeout in (300, 300, 200, 200):
        assert play >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, data=b"x") << accept(timeout=timeout)
    assert play >> tcp(SERVER, CLIENT, "A", seq=901, ack=102) << accept(timeout=FIVE_DAYS)


# --- resets ------------------------------------------------------------------------------------------------


def test_a_reset_in_the_right_place(play: Play) -> None:
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "R", seq=901)
        << accept(IP_CT_ESTABLISHED_REPLY, state="CLOSE", timeout=10)
        >> advance(11)
        << destroyed("timeout")
    )


def test_a_stale_reset_is_invalid(play: Play) -> None:
    """Its sequence number lies before what the other end has acknowledged."""
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101, data=bytes(100))
        << accept()
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=1001)
        << accept(timeout=FIVE_DAYS)
        >> tcp(SERVER, CLIENT, "R", seq=950)
        << invalid(TCP_RST)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=1001)
        << accept(state="ESTABLISHED", timeout=FIVE_DAYS)
    )


def test_a_stale_reset_can_be_let_pass(family: int) -> None:
    """With nf_conntrack_tcp_ignore_invalid_rst it is judged by the window like others: kept, timeout lowered."""
    play = Play(family, nf_conntrack_tcp_ignore_invalid_rst=True)
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101, data=bytes(100))
        << accept()
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=1001)
        << accept()
        >> tcp(SERVER, CLIENT, "R", seq=950)
        << accept(state="ESTABLISHED", timeout=10)
    )


def test_a_reset_near_the_right_place_may_be_forged(play: Play) -> None:
    """In the window but not exact: the ends will challenge it (RFC 5961), so the state stays, for 10 s.

    Any further packet proves that it is alive; the RST's number counts as data not yet acknowledged.
    """
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "R", seq=905)
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=10)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901)
        << accept(state="ESTABLISHED", timeout=300)
    )


def test_a_reset_right_behind_its_data(play: Play) -> None:
    """Data and RST in a row: the RST begins where the data ended, though it is not acknowledged yet."""
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "PA", seq=901, ack=101, data=bytes(19))
        << accept(state="ESTABLISHED")
        >> tcp(SERVER, CLIENT, "RA", seq=920, ack=101)
        << accept(state="CLOSE", timeout=10)
    )


def test_a_reset_far_outside(play: Play) -> None:
    assert opened(play, window=1000) >> tcp(SERVER, CLIENT, "R", seq=500_000) << invalid(TCP_SEQ_OVER)


def test_a_reset_while_closing_is_not_judged(play: Play) -> None:
    """Its numbers may belong to a newer use of the same ports."""
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=901)
        << accept(state="FIN_WAIT")
        >> tcp(SERVER, CLIENT, "R", seq=123_456_789)
        << accept(state="CLOSE", timeout=10)
    )


def test_an_unmatched_fin_and_its_reset_shorten_the_timeout(play: Play) -> None:
    """Both ends talk of an end we cannot judge: 300 s instead of five days."""
    assert (
        opened(play, window=1000)
        >> tcp(CLIENT, SERVER, "FA", seq=900_000, ack=901)
        << invalid(TCP_SEQ_OVER)
        >> tcp(SERVER, CLIENT, "FA", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> advance(299)
        << nothing()
        >> advance(2)
        << destroyed("timeout")
    )


# --- the firewall is out of step, the ends are not ------------------------------------------------------------


def test_resynchronised_by_the_answer_to_an_ignored_syn(play: Play) -> None:
    """The client rebooted and calls again on the same ports; the server answers: their numbers, not ours."""
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "S", seq=500_000)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", reason="tcp_ignored")
        >> tcp(SERVER, CLIENT, "SA", seq=700_000, ack=500_001)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV", timeout=60)
        >> tcp(CLIENT, SERVER, "A", seq=500_001, ack=700_001)
        << accept(state="ESTABLISHED", timeout=FIVE_DAYS, reason="ok")
    )


def test_a_reset_that_answers_an_ignored_syn(play: Play) -> None:
    """The server knows nothing of it and says so: the entry closes without a window check."""
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "S", seq=500_000)
        << accept(reason="tcp_ignored")
        >> tcp(SERVER, CLIENT, "RA", seq=0, ack=500_001)
        << accept(state="CLOSE", timeout=10)
    )


def test_a_challenge_ack_is_not_the_last_ack(play: Play) -> None:
    """RFC 5961: in LAST_ACK a SYN is let through; the ACK that challenges it must not end the connection."""
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "FA", seq=901, ack=101)
        << accept(state="FIN_WAIT")
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=902)
        << accept(state="LAST_ACK")
        >> tcp(CLIENT, SERVER, "S", seq=500_000)
        << accept(reason="tcp_ignored", state="LAST_ACK")
        >> tcp(SERVER, CLIENT, "A", seq=902, ack=101)
        << accept(reason="tcp_challenge_ack", state="LAST_ACK")
        >> tcp(SERVER, CLIENT, "A", seq=902, ack=102)
        << accept(state="TIME_WAIT", timeout=120)
    )


def test_a_reset_that_answers_a_challenge_ack(play: Play) -> None:
    """SYN, challenge ACK from an old connection of the server, RST with that number: over."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "A", seq=7000, ack=3000)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT", reason="tcp_ignored")
        >> tcp(CLIENT, SERVER, "R", seq=3000)
        << accept(state="CLOSE", timeout=10)
    )


def test_a_reset_behind_ones_own_syn_proves_nothing(play: Play) -> None:
    """Only the other end can answer a SYN that was let through; far outside the window this RST is ignored."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "S", seq=90_000)
        << accept(state="SYN_SENT2")
        >> tcp(SERVER, CLIENT, "R", seq=10)
        << accept(state="SYN_SENT2", reason="tcp_seq_under_window", timeout=120)
    )


def test_who_was_picked_up_stays_unjudged_after_resynchronisation(play: Play) -> None:
    """The window check applies again to the side that sent the SYN, not yet to the other one."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "A", seq=100, ack=900)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "A", seq=900, ack=100)
        << accept()
        >> tcp(SERVER, CLIENT, "R", seq=900)
        << accept(state="CLOSE")
        >> tcp(CLIENT, SERVER, "S", seq=5000)
        << accept(reason="tcp_ignored")
        >> tcp(SERVER, CLIENT, "SA", seq=7000, ack=5001)
        << accept(state="SYN_RECV")
        >> tcp(CLIENT, SERVER, "A", seq=5001, ack=7001)
        << accept(state="ESTABLISHED")
        >> tcp(SERVER, CLIENT, "A", seq=7001, ack=5101)
        << accept(IP_CT_ESTABLISHED_REPLY, reason="ok")
        >> tcp(CLIENT, SERVER, "A", seq=5001, ack=7101)
        << invalid(TCP_ACK_OVER)
    )


def test_simultaneous_open(play: Play) -> None:
    """Both call; each answers the other; the table needs help to see that it is done."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, state="SYN_SENT")
        >> tcp(SERVER, CLIENT, "S", seq=900)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT2", timeout=120)
        >> tcp(CLIENT, SERVER, "SA", seq=100, ack=901)
        << accept(state="SYN_RECV", timeout=60)
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101)
        << accept(state="ESTABLISHED", status=IPS_ASSURED)
    )


# --- the same ports again --------------------------------------------------------------------------------------


def test_a_closed_connection_is_reopened_by_its_next_syn(play: Play) -> None:
    """In TIME_WAIT, without waiting for 120 s."""
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=901)
        << accept()
        >> tcp(SERVER, CLIENT, "FA", seq=901, ack=102)
        << accept()
        >> tcp(CLIENT, SERVER, "A", seq=102, ack=902)
        << accept(state="TIME_WAIT")
        >> tcp(CLIENT, SERVER, "S", seq=77_000)
        << accept(IP_CT_NEW, state="SYN_SENT", timeout=120, ended=["reopened"], entries=1)
        >> tcp(SERVER, CLIENT, "SA", seq=55_000, ack=77_001)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV")
    )


def test_after_its_own_reset_the_client_may_call_again(play: Play) -> None:
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "R", seq=101)
        << accept(state="CLOSE")
        >> tcp(CLIENT, SERVER, "S", seq=77_000)
        << accept(IP_CT_NEW, state="SYN_SENT", ended=["reopened"])
    )


def test_after_the_servers_reset_a_syn_is_let_through_unjudged(play: Play) -> None:
    """Nobody here began the close and the reset came from the other side."""
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "R", seq=901)
        << accept(state="CLOSE")
        >> tcp(CLIENT, SERVER, "S", seq=77_000)
        << accept(IP_CT_ESTABLISHED, state="CLOSE", reason="tcp_ignored", ended=[])
        >> tcp(SERVER, CLIENT, "SA", seq=55_000, ack=77_001)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV")
    )


def test_a_second_syn_with_another_number(play: Play) -> None:
    """While opening, the newer SYN counts."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(CLIENT, SERVER, "S", seq=200_000)
        << accept(IP_CT_NEW, state="SYN_SENT", reason="ok")
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=200_001)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV", reason="ok")
    )


# --- resets, and timeouts shortened by INVALID packets ---------------------------------------------------------


def test_a_reset_with_sequence_number_0_closes_a_connection_that_is_not_established(play: Play) -> None:
    """It answers a SYN+ACK or an ignored SYN (nf_conntrack_tcp_packet, case TCP_CONNTRACK_CLOSE)."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV")
        >> tcp(CLIENT, SERVER, "R", seq=0)
        << accept(IP_CT_ESTABLISHED, state="CLOSE", timeout=10, reason="ok")
    )


def test_a_reset_with_sequence_number_0_is_stale_in_an_established_connection(play: Play) -> None:
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "R", seq=0)
        << invalid(TCP_RST)
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=FIVE_DAYS)
    )


def test_a_reset_with_sequence_number_0_closes_an_established_connection_that_is_not_assured(play: Play) -> None:
    """It was picked up in mid-stream and has one packet of each end."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "A", seq=5000, ack=7000)
        << accept(IP_CT_NEW, state="ESTABLISHED")
        >> tcp(SERVER, CLIENT, "A", seq=7000, ack=5000)
        << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", not_status=IPS_ASSURED)
        >> tcp(CLIENT, SERVER, "R", seq=0)
        << accept(IP_CT_ESTABLISHED, state="CLOSE", timeout=10)
    )


def test_a_first_packet_in_mid_stream_sets_the_window_of_its_sender(play: Play) -> None:
    """So data beyond the small window of the server counts as sent and unacknowledged."""
    start = 1_000_000_000
    assert (
        play
        >> tcp(CLIENT, SERVER, "A", seq=start, ack=7000)
        << accept(IP_CT_NEW, state="ESTABLISHED", timeout=300)
        >> tcp(SERVER, CLIENT, "A", seq=7000, ack=start, window=10)
        << accept(IP_CT_ESTABLISHED_REPLY, reason="ok")
        >> tcp(CLIENT, SERVER, "A", seq=start + 100, ack=7000, data=bytes(50))
        << accept(IP_CT_ESTABLISHED, timeout=300, reason="ok")
        >> tcp(SERVER, CLIENT, "A", seq=7000, ack=start + 150)
        << accept(IP_CT_ESTABLISHED_REPLY, timeout=FIVE_DAYS, reason="ok")
    )


def test_one_invalid_fin_does_not_shorten_the_timeout(play: Play) -> None:
    """Nor does a second one of the same end."""
    assert (
        opened(play, window=1000)
        >> tcp(SERVER, CLIENT, "FA", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> advance(301)
        << nothing()
        >> tcp(SERVER, CLIENT, "FA", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> advance(301)
        << nothing()
    )


@pytest.mark.parametrize("kinds", [("FA", "FA"), ("FA", "RA"), ("RA", "FA"), ("RA", "RA")], ids="-".join)
def test_an_invalid_fin_or_rst_answered_by_another_shortens_the_timeout(play: Play, kinds: tuple[str, str]) -> None:
    first, second = kinds
    assert (
        opened(play, window=1000)
        >> tcp(SERVER, CLIENT, first, seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> tcp(CLIENT, SERVER, second, seq=900_000, ack=901)
        << invalid(TCP_SEQ_OVER)
        >> advance(301)
        << destroyed("timeout")
    )


def test_invalid_data_does_not_answer_an_invalid_fin(play: Play) -> None:
    assert (
        opened(play, window=1000)
        >> tcp(SERVER, CLIENT, "FA", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> tcp(CLIENT, SERVER, "A", seq=900_000, ack=901, data=b"x")
        << invalid(TCP_SEQ_OVER)
        >> advance(301)
        << nothing()
    )


def test_a_connection_that_is_not_assured_keeps_its_timeout(family: int) -> None:
    """The client closed with the last packet of the handshake, so the state was never ESTABLISHED."""
    play = Play(family, nf_conntrack_tcp_timeout_close_wait=1000)
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100, window=1000)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=101, window=1000)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "FA", seq=101, ack=901, window=1000)
        << accept(IP_CT_ESTABLISHED, state="FIN_WAIT")
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=102, window=1000)
        << accept(IP_CT_ESTABLISHED_REPLY, state="CLOSE_WAIT", timeout=1000, not_status=IPS_ASSURED)
        >> tcp(CLIENT, SERVER, "FA", seq=900_000, ack=901)
        << invalid(TCP_SEQ_OVER)
        >> tcp(SERVER, CLIENT, "FA", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> advance(301)
        << nothing()
    )


def test_a_fixed_timeout_is_not_shortened(play: Play) -> None:
    opened(play, window=1000)
    assert play.ct is not None
    play.ct.status |= IPS_FIXED_TIMEOUT
    assert (
        play
        >> tcp(CLIENT, SERVER, "FA", seq=900_000, ack=901)
        << invalid(TCP_SEQ_OVER)
        >> tcp(SERVER, CLIENT, "FA", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> advance(301)
        << nothing()
    )


@pytest.mark.parametrize(
    ("established", "unacknowledged", "left"),
    [
        (119, 60, 119),  # a timeout below 120 s is not shortened
        (120, 60, 60),
        (300, 300, 300),
        (299, 300, 299),  # never lengthened
        (301, 300, 300),
    ],
)
def test_how_far_the_timeout_is_shortened(family: int, established: int, unacknowledged: int, left: int) -> None:
    play = Play(
        family,
        nf_conntrack_tcp_timeout_established=established,
        nf_conntrack_tcp_timeout_unacknowledged=unacknowledged,
    )
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100, window=1000)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=101, window=1000)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901, window=1000)
        << accept(IP_CT_ESTABLISHED, timeout=established)
    )
    connection = play.ct
    assert (
        play
        >> tcp(CLIENT, SERVER, "FA", seq=900_000, ack=901)
        << invalid(TCP_SEQ_OVER)
        >> tcp(SERVER, CLIENT, "FA", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
    )
    assert connection is not None
    assert connection.remaining(play.now) == left * 1000


def test_the_sentence_for_a_stale_reset(play: Play) -> None:
    opened(play)
    for sender, receiver, number in ((SERVER, CLIENT, 901), (CLIENT, SERVER, 101)):
        assert (
            play
            >> tcp(sender, receiver, "R", seq=number - 3)
            << invalid(
                TCP_RST,
                why=f"INVALID: RST with SEQ {number - 3}, but its receiver has acknowledged up to {number}: "
                "it is old, or forged",
            )
        )


@pytest.mark.parametrize("flags", ["SA", "FA", "R", "RA"])
def test_packets_that_never_start_a_connection_are_refused_for_their_state(family: int, flags: str) -> None:
    """Also without mid-stream pickup."""
    play = Play(family, nf_conntrack_tcp_loose=False)
    assert play >> tcp(SERVER, CLIENT, flags, seq=5, ack=6) << invalid(TCP_STATE, entries=0)


def test_a_reset_that_acknowledges_0_acknowledges_nothing(play: Play) -> None:
    """Some stacks send RST with ACK and number 0. In other packets the number is checked."""
    assert (
        opened(play, c=1_000_000)
        >> tcp(SERVER, CLIENT, "A", seq=901, ack=0)
        << accept(IP_CT_ESTABLISHED_REPLY, reason="tcp_ack_under_window", state="ESTABLISHED")
        >> tcp(SERVER, CLIENT, "RA", seq=901, ack=1)
        << accept(IP_CT_ESTABLISHED_REPLY, reason="tcp_ack_under_window", state="ESTABLISHED")
        >> tcp(SERVER, CLIENT, "RA", seq=901, ack=0)
        << accept(IP_CT_ESTABLISHED_REPLY, reason="ok", state="CLOSE", timeout=10)
    )


def test_a_reset_with_sequence_number_0_is_checked_after_syn_sent(play: Play) -> None:
    """Only in SYN_SENT it has no number to check."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "S", seq=3_000_000_000)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT2")
        >> tcp(SERVER, CLIENT, "R", seq=0)
        << invalid(TCP_SEQ_OVER)
    )


# --- a window of 0 in a first packet ---------------------------------------------------------------------------


def test_a_syn_with_window_0_starts_the_window_check(play: Play) -> None:
    """maxwin 0 would mean that no packet of the sender was seen, and its next packet would not be checked."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100, window=0)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "SA", seq=900, ack=101, window=0)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=900_000, ack=901)
        << invalid(TCP_SEQ_OVER)
        >> tcp(SERVER, CLIENT, "A", seq=900_000, ack=101)
        << invalid(TCP_SEQ_OVER)
        >> tcp(CLIENT, SERVER, "A", seq=101, ack=901)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", reason="ok")
    )


def test_a_syn_with_window_0_starts_the_window_check_after_resynchronisation(play: Play) -> None:
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "S", seq=500_000, window=0)
        << accept(reason="tcp_ignored")
        >> tcp(SERVER, CLIENT, "SA", seq=700_000, ack=500_001)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV")
        >> tcp(CLIENT, SERVER, "A", seq=900_000, ack=700_001)
        << invalid(TCP_SEQ_OVER)
        >> tcp(CLIENT, SERVER, "A", seq=500_001, ack=700_001)
        << accept(state="ESTABLISHED", reason="ok")
    )


def test_resynchronisation_takes_over_the_window_scale_of_the_ignored_syn(play: Play) -> None:
    """Both ends offer a scale, so the client's window of 10 is 1280."""
    assert (
        opened(play)
        >> tcp(CLIENT, SERVER, "S", seq=500_000, window=10, options=window_scale(7))
        << accept(reason="tcp_ignored")
        >> tcp(SERVER, CLIENT, "SA", seq=700_000, ack=500_001, window=10, options=window_scale(3))
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV")
        >> tcp(CLIENT, SERVER, "A", seq=500_001, ack=700_001, window=10)
        << accept(state="ESTABLISHED", reason="ok")
        >> tcp(SERVER, CLIENT, "A", seq=700_001, ack=500_001, data=bytes(1280), window=10)
        << accept(reason="ok")
        >> tcp(SERVER, CLIENT, "A", seq=700_001 + 1281, ack=500_001, data=bytes(2000), window=10)
        << invalid(TCP_SEQ_OVER)
        >> tcp(CLIENT, SERVER, "A", seq=500_001, ack=700_001, data=bytes(80), window=10)
        << accept(reason="ok")
        >> tcp(CLIENT, SERVER, "A", seq=500_082, ack=700_001, data=bytes(2000), window=10)
        << invalid(TCP_SEQ_OVER)
    )


# --- what does not resynchronise ---------------------------------------------------------------------------------


def test_only_the_answer_to_the_ignored_syn_resynchronises(play: Play) -> None:
    """Not a SYN+ACK without a SYN before it, of the same end, or with another number."""
    assert (
        opened(play)
        >> tcp(SERVER, CLIENT, "SA", seq=700_000, ack=500_001)
        << accept(state="ESTABLISHED", reason="tcp_ignored")
        >> tcp(CLIENT, SERVER, "S", seq=500_000)
        << accept(state="ESTABLISHED", reason="tcp_ignored")
        >> tcp(CLIENT, SERVER, "SA", seq=700_000, ack=500_001)
        << invalid(TCP_STATE)
        >> tcp(SERVER, CLIENT, "SA", seq=700_000, ack=500_002)
        << accept(state="ESTABLISHED", reason="tcp_ignored")
        >> tcp(SERVER, CLIENT, "SA", seq=700_000, ack=500_001)
        << accept(state="ESTABLISHED", reason="tcp_ignored")  # the last packet was a SYN+ACK, not the SYN
    )


def challenged(play: Play) -> Play:
    """The server still has an old connection with these ports and answers the SYN with a challenge ACK."""
    return (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "A", seq=7000, ack=3000)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT", reason="tcp_ignored")
    )


@pytest.mark.parametrize(("number", "acknowledged"), [(3001, 0), (2999, 0), (5000, 7001), (5000, 6999)])
def test_a_reset_that_does_not_answer_the_challenge_ack_is_checked(play: Play, number: int, acknowledged: int) -> None:
    """Neither its number nor its acknowledgement fits the ACK. Its number is outside the window of the SYN."""
    flags = "RA" if acknowledged else "R"
    assert challenged(play) >> tcp(CLIENT, SERVER, flags, seq=number, ack=acknowledged) << invalid(TCP_SEQ_OVER)


def test_a_reset_that_acknowledges_the_challenge_ack_closes(play: Play) -> None:
    assert challenged(play) >> tcp(CLIENT, SERVER, "RA", seq=0x90000000, ack=7000) << accept(state="CLOSE", timeout=10)


def test_a_rst_for_an_ignored_ack_of_its_own_side_is_not_checked(play: Play) -> None:
    """Its ACK field happens to be the end of the ignored ACK. Its sender's window stays unknown, as in the kernel."""
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, state="SYN_SENT")
        >> tcp(SERVER, CLIENT, "A", seq=300, ack=9)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT", reason="tcp_ignored")
        >> tcp(SERVER, CLIENT, "RA", seq=999999, ack=300)
        << accept(IP_CT_ESTABLISHED_REPLY, state="CLOSE", timeout=10)
        >> tcp(SERVER, CLIENT, "A", seq=1, ack=101)
        << accept(IP_CT_ESTABLISHED_REPLY, state="CLOSE", reason="ok")
    )


def test_a_rst_for_an_accepted_syn_of_its_own_side_is_checked(play: Play) -> None:
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", seq=100)
        << accept(IP_CT_NEW, state="SYN_SENT")
        >> tcp(SERVER, CLIENT, "S", seq=2_000_000, ack=0)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT2")
        >> tcp(SERVER, CLIENT, "R", seq=471, ack=0)
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT2", reason="tcp_seq_under_window")
    )

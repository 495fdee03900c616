"""Control connections with a helper live on through a restart: their numbers, their help and what they announced."""

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_HELPER,
    IPS_SEQ_ADJUST,
    IPS_SRC_NAT,
)
from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.reasons import HELPER_PARTIAL
from tests.conversations.test_ftp import DATA, FTP, SHORT, ftp, inside_server, logged_in, port_command, shorter
from tests.support.control import Stream, assigned, expected, shown
from tests.support.play import CLIENT, ROUTER, SERVER, Play, Restart, accept, crash, dropped, restart, tcp
from tests.support.rules import masquerade

STEPS = pytest.mark.parametrize("step", [restart(2), crash(2)], ids=["restart", "crash"])


def adjusted(family: int) -> tuple[Play, Stream]:
    """A control connection whose command became shorter."""
    play = ftp(family, [shorter(family)])
    stream = logged_in(play, as_seen=SHORT)
    stream.says(CLIENT, port_command(family, CLIENT, 5001))
    stream.says(SERVER, b"200 fine\r\n", status=IPS_HELPER | IPS_SEQ_ADJUST)
    return play, stream


def goes_on(stream: Stream, **facts: int) -> None:
    """Each end gets the numbers that it expects."""
    for _ in range(2):
        assert stream.says(CLIENT, b"NOOP\r\n", **facts) == b"NOOP\r\n"
        assert stream.says(SERVER, b"200 fine\r\n", **facts) == b"200 fine\r\n"


@STEPS
def test_an_adjusted_stream(family: int, step: Restart) -> None:
    play, stream = adjusted(family)
    play >> step
    goes_on(stream, status=IPS_HELPER | IPS_SEQ_ADJUST)
    play >> step
    goes_on(stream, status=IPS_HELPER | IPS_SEQ_ADJUST)


@STEPS
def test_a_crash_right_after_the_command(family: int, step: Restart) -> None:
    """The correction is in the record before the changed command leaves; the command comes again, and counts once."""
    play = ftp(family, [shorter(family)])
    stream = logged_in(play, as_seen=SHORT)
    at, command = stream.seq["client"], port_command(family, CLIENT, 5001)
    assert play >> stream.segment(CLIENT, "PA", command) << accept(status=IPS_SEQ_ADJUST)
    first = play.left
    play >> step
    assert play >> stream.segment(CLIENT, "PA", command, seq=at) << accept(reason="ok")
    assert play.left == first
    stream.seen(SERVER)
    stream.acknowledges(SERVER)
    goes_on(stream)


@STEPS
def test_several_corrections(family: int, step: Restart) -> None:
    """With a restart before and behind each."""
    play, stream = adjusted(family)
    for port in (256, 65535, 1024, 5001, 6000, 7000, 8000, 9000, 10000, 11000, 12000):
        play >> step
        stream.says(CLIENT, port_command(family, CLIENT, port))
        assert shown(expected(play)[-1])[2] == port
        play >> step
        stream.says(SERVER, b"200 fine\r\n")
    assert play.engine.core.journal is not None
    assert play.engine.core.journal.shortened == 0


@STEPS
def test_further_commands_get_help(family: int, step: Restart) -> None:
    """The first segment of each direction begins a line."""
    play = ftp(family, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    play >> step
    assert play.engine.core.expectations.count == 0
    command = port_command(family, CLIENT, 5001)
    assert stream.says(CLIENT, command, status=IPS_HELPER) != command
    play >> tcp(SERVER, ROUTER, "S", sport=DATA, dport=5001)
    assert play << accept(IP_CT_RELATED, dst=CLIENT, dport=5001, status=IPS_EXPECTED | IPS_DST_NAT)
    play >> step
    assert stream.says(SERVER, b"229 go (|||30000|)\r\n") == b"229 go (|||30000|)\r\n"
    play >> tcp(CLIENT, SERVER, "S", sport=1234, dport=30000)
    assert play << accept(IP_CT_RELATED, src=ROUTER, status=IPS_EXPECTED | IPS_SRC_NAT)


def test_what_was_announced_before(family: int) -> None:
    """The translated data connection comes after the restart."""
    play = ftp(family, inside_server(family))
    stream = logged_in(play, server=CLIENT, at=ROUTER, as_seen=SERVER)
    stream.says(CLIENT, b"229 go (|||30000|)\r\n")
    (before,) = expected(play)
    play >> restart(2)
    (after,) = expected(play)
    for name in ("tuple", "mask", "until", "kind", "helper", "child_helper", "follows", "direction", "port", "id"):
        assert getattr(after, name) == getattr(before, name), name
    assert (
        play
        >> tcp(SERVER, ROUTER, "S", seq=1, sport=9, dport=30000)
        << accept(IP_CT_RELATED, dst=CLIENT, dport=30000, status=IPS_EXPECTED | IPS_DST_NAT)
    )


def test_active_data_to_another_port_than_announced_outside(family: int) -> None:
    """Two clients announced the same port. The outer port of the second leads to its own port after the restart."""
    play, stream = ftp(family, [masquerade()]), None
    outer = []
    for sport in (40000, 40001):
        client = Stream(play, CLIENT, SERVER, FTP, as_seen=ROUTER)
        client.client = type(CLIENT)(CLIENT.name, CLIENT.v4, CLIENT.v6, CLIENT.link, sport)
        stream = client.open()
        stream.says(SERVER, b"220 ready\r\n")
        stream.says(stream.client, b"USER anonymous\r\n")
        stream.says(stream.client, port_command(family, CLIENT, 5001))
        outer = [shown(known)[2] for known in expected(play)]
    assert outer[0] == 5001 != outer[1]
    assert (
        play
        >> restart()
        >> tcp(SERVER, ROUTER, "S", sport=DATA, dport=outer[1])
        << accept(IP_CT_RELATED, dst=CLIENT, dport=5001)
    )


@STEPS
def test_a_data_connection_goes_on(family: int, step: Restart) -> None:
    play = ftp(family, [masquerade()])
    logged_in(play, as_seen=ROUTER).says(CLIENT, port_command(family, CLIENT, 5001))
    assert (
        play
        >> tcp(SERVER, ROUTER, "S", seq=7, sport=DATA, dport=5001)
        << accept(IP_CT_RELATED, dst=CLIENT, dport=5001)
        >> step
        >> tcp(CLIENT, SERVER, "SA", seq=9, ack=8, sport=5001, dport=DATA)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, dst=SERVER, sport=5001)
        >> step
        >> tcp(SERVER, ROUTER, "A", seq=8, ack=10, sport=DATA, dport=5001, data=b"x")
        << accept(IP_CT_ESTABLISHED, dst=CLIENT, state="ESTABLISHED", status=IPS_EXPECTED)
    )
    assert play.ct is not None
    assert play.ct.master is not None


@STEPS
def test_without_its_helper_a_connection_keeps_its_corrections(family: int, step: Restart) -> None:
    """The configuration names no helper any more. Another one brings the help of new connections back."""
    play, stream = adjusted(family)
    play.helpers = ()
    play.make.keywords["raw_rules"] = None
    play >> step
    goes_on(stream, status=IPS_SEQ_ADJUST)
    command = port_command(family, CLIENT, 5003)
    assert stream.says(CLIENT, command) == command
    assert play.ct is not None
    assert play.engine.helpers.name_of(play.ct) == ""
    assert play >> tcp(SERVER, SHORT, "S", sport=DATA, dport=5003) << accept(IP_CT_NEW)
    play.helpers, play.make.keywords["raw_rules"] = (Ftp,), assigned("ftp", FTP)
    play >> step
    goes_on(stream, status=IPS_SEQ_ADJUST)


def test_a_reload_after_the_restart_keeps_the_corrections(family: int) -> None:
    play, stream = adjusted(family)
    play.helpers = ()
    play >> restart()
    play.engine.configure(play.tunables, nat_rules=[shorter(family)])
    goes_on(stream, status=IPS_SEQ_ADJUST)


def test_a_command_that_was_cut_off_comes_again(family: int) -> None:
    """Nothing is kept of its beginning: it was dropped."""
    play = ftp(family, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    whole = port_command(family, CLIENT, 5001)
    at = stream.seq["client"]
    assert play >> stream.segment(CLIENT, "PA", whole[:7], seq=at) << dropped(HELPER_PARTIAL)
    play >> restart()
    assert stream.says(CLIENT, whole) != whole
    assert len(expected(play)) == 1


def test_nothing_is_kept_of_a_restored_connection_that_has_ended(family: int) -> None:
    play, _ = adjusted(family)
    assert play >> restart()
    core, helpers = play.engine.core, play.engine.helpers
    assert (len(helpers.helped), len(core.helper_names), len(core.seqadj)) == (1, 1, 1)
    play.engine.flush(play.now)
    play.engine.expire(play.now + 10_000, 1 << 20)
    assert (len(helpers.helped), len(core.helper_names), len(core.seqadj), len(expected(play))) == (0, 0, 0, 0)

"""FTP: data connections that the control connection announces, through NAT in both roles, both families."""

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_NEW,
    IP_CT_RELATED,
    IPPROTO_TCP,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_HELPER,
    IPS_SEQ_ADJUST,
    IPS_SRC_NAT,
)
from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NAT_SNAT, NatRule
from conntrackd_py.reasons import HELPER_PARTIAL, HELPER_REFUSED
from tests.support.control import Stream, assigned, expected, payload_of, shown
from tests.support.packets import SACK_PERMITTED, sack
from tests.support.packets import address as packed
from tests.support.play import (
    CLIENT,
    INSIDE,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    WAN,
    Host,
    Play,
    accept,
    advance,
    dropped,
    tcp,
)
from tests.support.rules import forward, masquerade

FTP = 21
DATA = 20
SHORT = Host("short", "9.9.9.9", "fd00::9", WAN, 0)  # its text is shorter than that of the client


def address(host: Host, family: int) -> str:
    return host.v4 if family == 4 else host.v6


def ftp(family: int, rules: list[NatRule] | None = None, **tunables: object) -> Play:
    return Play(family, rules, raw_rules=assigned("ftp", FTP), helpers=(Ftp,), **tunables)  # type: ignore[arg-type]


def shorter(family: int) -> NatRule:
    to = packed(address(SHORT, family))
    return NatRule(NAT_SNAT, Match(out_interface=InterfaceNames(["wan"])), Range(to, to))


def logged_in(play: Play, *, server: Host = SERVER, at: Host | None = None, as_seen: Host | None = None) -> Stream:
    """A control connection after its first lines, which no helper reads."""
    client = CLIENT if server is not CLIENT else SERVER
    stream = Stream(play, client, server, FTP, at=at, as_seen=as_seen).open()
    stream.says(stream.server, b"220 ready\r\n")
    stream.says(stream.client, b"USER anonymous\r\n")
    stream.says(stream.server, b"230 welcome\r\n")
    return stream


def inside_server(family: int) -> list[NatRule]:
    """The server is the client of the other tests: port 21 of the router leads to it."""
    return [masquerade(), forward(family, (FTP, FTP), protonum=IPPROTO_TCP)]


def port_command(family: int, host: Host, port: int) -> bytes:
    if family == 6:
        return f"EPRT |2|{host.v6}|{port}|\r\n".encode()
    return f"PORT {host.v4.replace('.', ',')},{port >> 8},{port & 255}\r\n".encode()


def data(sender: Host, receiver: Host, sport: int, dport: int) -> object:
    return tcp(sender, receiver, "S", seq=1, sport=sport, dport=dport)


# --- without NAT ----------------------------------------------------------------------------------------------


def test_active(family: int) -> None:
    """The server may connect to the announced port, from any port, once."""
    play = ftp(family)
    stream = logged_in(play)
    command = port_command(family, CLIENT, 5001)
    assert stream.says(CLIENT, command, status=IPS_HELPER, not_status=IPS_SEQ_ADJUST) == command
    (known,) = expected(play)
    assert shown(known) == (address(SERVER, family), address(CLIENT, family), 5001)
    assert (known.helper, known.kind, known.until - play.now) == ("ftp", 0, 300_000)
    play.ct = None
    assert play >> tcp(SERVER, CLIENT, "S", sport=DATA, dport=5001) << accept(IP_CT_RELATED, status=IPS_EXPECTED)
    assert expected(play) == []
    assert play >> tcp(SERVER, CLIENT, "S", sport=DATA + 1, dport=5001) << accept(IP_CT_NEW)


def test_passive(family: int) -> None:
    play = ftp(family)
    stream = logged_in(play)
    answer = b"229 Entering Extended Passive Mode (|||30000|)\r\n"
    assert stream.says(SERVER, answer) == answer
    assert play >> tcp(OTHER, SERVER, "S", dport=30000, sport=1) << accept(IP_CT_NEW)
    assert play >> tcp(CLIENT, SERVER, "S", dport=30000, sport=2) << accept(IP_CT_RELATED, status=IPS_EXPECTED)


def test_the_four_numbers_of_pasv() -> None:
    play = ftp(4)
    stream = logged_in(play)
    stream.says(SERVER, b"227 Entering Passive Mode (198,51,100,2,117,48)\r\n")
    assert play >> tcp(CLIENT, SERVER, "S", dport=30000) << accept(IP_CT_RELATED, status=IPS_EXPECTED)


def test_an_expectation_ends_after_300_s(family: int) -> None:
    play = ftp(family)
    logged_in(play).says(CLIENT, port_command(family, CLIENT, 5001))
    assert play >> advance(301) >> tcp(SERVER, CLIENT, "S", sport=DATA, dport=5001) << accept(IP_CT_NEW)


def test_one_expectation_for_a_master(family: int) -> None:
    """A later command replaces the earlier one."""
    play = ftp(family)
    stream = logged_in(play)
    for port in (5001, 5002):
        stream.says(CLIENT, port_command(family, CLIENT, port))
    assert [shown(known)[2] for known in expected(play)] == [5002]


def test_without_a_rule_nothing_is_expected(family: int) -> None:
    """A helper is assigned by a rule, never by the port alone."""
    play = Play(family, helpers=(Ftp,))
    stream = logged_in(play)
    stream.says(CLIENT, port_command(family, CLIENT, 5001), not_status=IPS_HELPER)
    assert expected(play) == []


def test_the_data_connection_has_no_helper(family: int) -> None:
    play = ftp(family)
    logged_in(play).says(CLIENT, port_command(family, CLIENT, 5001))
    assert play >> tcp(SERVER, CLIENT, "S", sport=DATA, dport=5001) << accept(not_status=IPS_HELPER)


# --- the bounce check -----------------------------------------------------------------------------------------


def test_no_third_host(family: int) -> None:
    """The bounce attack: the client names another host. The command passes unchanged, nothing is expected."""
    play = ftp(family, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    command = port_command(family, NEIGHBOUR, 5001)
    assert stream.says(CLIENT, command) == command
    assert expected(play) == []


def test_a_third_host_if_loose(family: int) -> None:
    """Expected, but not translated."""
    play = ftp(family, [masquerade()], nf_conntrack_ftp_loose=True)
    stream = logged_in(play, as_seen=ROUTER)
    command = port_command(family, OTHER, 5001)
    assert stream.says(CLIENT, command) == command
    (known,) = expected(play)
    assert shown(known)[1] == address(OTHER, family)
    assert not known.follows


# --- through source NAT -----------------------------------------------------------------------------------------


def test_active_behind_a_router(family: int) -> None:
    """The command names the router; the data connection is translated to the client; all numbers fit from then on."""
    play = ftp(family, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    got = stream.says(CLIENT, port_command(family, CLIENT, 5001), status=IPS_HELPER)
    full = "2001:0db8:0001:0000:0000:0000:0000:0001"
    assert got == (b"PORT 203,0,113,1,19,137\r\n" if family == 4 else f"EPRT |2|{full}|5001|\r\n".encode())
    assert (
        play
        >> tcp(SERVER, ROUTER, "S", seq=7, sport=DATA, dport=5001)
        << accept(IP_CT_RELATED, src=SERVER, dst=CLIENT, dport=5001, status=IPS_EXPECTED | IPS_DST_NAT)
        >> tcp(CLIENT, SERVER, "SA", seq=9, ack=8, sport=5001, dport=DATA)
        << accept(src=ROUTER, dst=SERVER, sport=5001)
    )
    stream.says(SERVER, b"150 here it comes\r\n")
    assert stream.says(CLIENT, b"NOOP\r\n", status=IPS_SEQ_ADJUST if family == 6 else 0) == b"NOOP\r\n"
    stream.says(SERVER, b"200 fine\r\n")


def test_several_changes_in_one_stream(family: int) -> None:
    play = ftp(family, [shorter(family)])
    stream = logged_in(play, as_seen=SHORT)
    for port in (5001, 256, 65535, 1024, 5001, 6000, 7000, 8000, 9000, 10000, 11000):
        stream.says(CLIENT, port_command(family, CLIENT, port))
        stream.says(SERVER, b"200 fine\r\n")
        assert shown(expected(play)[0])[2] == port


def test_a_retransmitted_command(family: int) -> None:
    """It is changed again, to the same bytes at the same place, and counts once."""
    play = ftp(family, [shorter(family)])
    stream = logged_in(play, as_seen=SHORT)
    stream.says(CLIENT, port_command(family, CLIENT, 256))
    at = stream.seq["client"]
    command = port_command(family, CLIENT, 257)
    segment = stream.segment(CLIENT, "PA", command)
    assert play >> segment << accept()
    first = play.left
    assert play >> stream.segment(CLIENT, "PA", command, seq=at) << accept()
    assert play.left == first
    stream.seen(SERVER)
    stream.acknowledges(SERVER)
    stream.says(CLIENT, b"NOOP\r\n")


def test_a_command_repeated_after_its_connection_has_come(family: int) -> None:
    """The peer reads the same port again, though the expectation is used up."""
    play = ftp(family, [masquerade()])
    for sport in (40000, 40001):
        stream = Stream(play, CLIENT, SERVER, FTP, as_seen=ROUTER)
        stream.client = type(CLIENT)(CLIENT.name, CLIENT.v4, CLIENT.v6, CLIENT.link, sport)
        stream.open()
        stream.says(stream.client, b"USER anonymous\r\n")
        at = stream.seq[CLIENT.name]
        first = stream.says(stream.client, port_command(family, CLIENT, 5001))
    outer = shown(expected(play)[-1])[2]
    assert outer != 5001
    assert play >> tcp(SERVER, ROUTER, "S", sport=DATA, dport=outer) << accept(IP_CT_RELATED, dst=CLIENT, dport=5001)
    assert play >> stream.segment(stream.client, "PA", port_command(family, CLIENT, 5001), seq=at) << accept()
    assert stream.seen(SERVER) == first
    assert shown(expected(play)[-1])[2] == outer


def test_the_outer_port_is_another_one_if_taken(family: int) -> None:
    """Two clients announce the same port to the same server."""
    play = ftp(family, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    stream.says(CLIENT, port_command(family, CLIENT, 5001))
    other = Stream(play, NEIGHBOUR, SERVER, FTP, as_seen=ROUTER).open()
    other.says(SERVER, b"220 ready\r\n")
    other.says(NEIGHBOUR, b"USER anonymous\r\n")
    changed = other.says(NEIGHBOUR, port_command(family, NEIGHBOUR, 5001))
    at = other.seq[NEIGHBOUR.name] - len(port_command(family, NEIGHBOUR, 5001))
    assert play >> other.segment(NEIGHBOUR, "PA", port_command(family, NEIGHBOUR, 5001), seq=at) << accept()
    assert payload_of(play.left)[1] == changed
    taken, chosen = (shown(known)[2] for known in expected(play))
    assert taken == 5001
    assert chosen != 5001
    assert (
        play >> tcp(SERVER, ROUTER, "S", sport=DATA, dport=chosen) << accept(IP_CT_RELATED, dst=NEIGHBOUR, dport=5001)
    )


def test_passive_through_source_nat_follows_the_master(family: int) -> None:
    """The answer needs no change; the data connection gets the source of its master."""
    play = ftp(family, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    answer = b"229 go (|||30000|)\r\n"
    assert stream.says(SERVER, answer) == answer
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", sport=1234, dport=30000)
        << accept(IP_CT_RELATED, src=ROUTER, sport=1234, status=IPS_EXPECTED | IPS_SRC_NAT | IPS_CONFIRMED)
    )
    assert play.ct is not None
    assert play.ct.masquerade


def test_the_end_of_the_address_ends_the_data_connection(family: int) -> None:
    play = ftp(family, [masquerade()])
    logged_in(play, as_seen=ROUTER).says(SERVER, b"229 go (|||30000|)\r\n")
    assert play >> tcp(CLIENT, SERVER, "S", sport=1234, dport=30000) << accept(IP_CT_RELATED, entries=2)
    play.engine.remove_interface(3, play.now)
    assert len(play.engine.core.table) == 0


# --- through destination NAT ------------------------------------------------------------------------------------


def test_passive_behind_a_router(family: int) -> None:
    """The answer names the router, whose port leads to the server inside."""
    play = ftp(family, inside_server(family))
    stream = logged_in(play, server=CLIENT, at=ROUTER, as_seen=SERVER)
    got = stream.says(CLIENT, b"229 go (|||30000|)\r\n")
    assert got == b"229 go (|||30000|)\r\n"
    assert play >> tcp(SERVER, ROUTER, "S", sport=1, dport=30000) << accept(IP_CT_RELATED, dst=CLIENT, dport=30000)


def test_the_address_of_pasv_behind_a_router() -> None:
    play = ftp(4, inside_server(4))
    stream = logged_in(play, server=CLIENT, at=ROUTER, as_seen=SERVER)
    got = stream.says(CLIENT, b"227 Passive (192,168,1,2,117,48).\r\n")
    assert got == b"227 Passive (203,0,113,1,117,48).\r\n"
    assert stream.says(CLIENT, b"150 ok\r\n") == b"150 ok\r\n"
    stream.says(SERVER, b"NOOP\r\n")


def test_active_to_a_server_behind_a_router(family: int) -> None:
    """The server inside connects to the client; its source becomes the address that the client connected to."""
    play = ftp(family, inside_server(family))
    stream = logged_in(play, server=CLIENT, at=ROUTER, as_seen=SERVER)
    command = port_command(family, SERVER, 5001)
    assert len(stream.says(SERVER, command)) >= len(command)
    assert (
        play
        >> tcp(CLIENT, SERVER, "S", sport=DATA, dport=5001)
        << accept(IP_CT_RELATED, src=ROUTER, sport=DATA, dst=SERVER, dport=5001, status=IPS_EXPECTED)
    )


# --- lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"PORT 192,168,1,2,19",
        b"PORT",
        b"POR",
        b"PORT 192,168,1,2,19,137",
        b"PORT 192,168,1,2,19,137 \r\n",
        b"PORT 192,168,1,256,19,137\r\n",
        b"EPRT |1|192.168.1.2|500",
        b"EPRT |1|192.168.1.2|0|\r\n",
        b"EPRT |1|192.168.1.2|65536|\r\n",
    ],
)
def test_a_command_that_is_cut_off_or_wrong_is_dropped(text: bytes) -> None:
    """The client repeats it, with the rest. Nothing was expected, and no number changed."""
    play = ftp(4, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    at = stream.seq["client"]
    assert play >> stream.segment(CLIENT, "PA", text, seq=at) << dropped(HELPER_PARTIAL)
    assert expected(play) == []
    whole = port_command(4, CLIENT, 5001)
    assert stream.says(CLIENT, whole) == b"PORT 203,0,113,1,19,137\r\n"


@pytest.mark.parametrize(
    "text",
    [b"NOOP\r\n", b"PASV\r\n", b"xPORT 192,168,1,2,19,137\r\n", b"\r\n", b"EPRT |2|fd00::2|500|\r\n"],
)
def test_other_lines_pass(text: bytes) -> None:
    play = ftp(4, [masquerade()])
    stream = logged_in(play, as_seen=ROUTER)
    assert stream.says(CLIENT, text) == text
    assert expected(play) == []


def test_a_command_must_begin_a_line(family: int) -> None:
    """Else a host could make its peer's data look like a command."""
    play = ftp(family)
    stream = logged_in(play)
    stream.says(CLIENT, b"STOR ")
    stream.says(CLIENT, port_command(family, CLIENT, 5001))
    assert expected(play) == []
    stream.says(CLIENT, port_command(family, CLIENT, 5002))
    assert len(expected(play)) == 1


def test_the_directions_are_not_exchanged(family: int) -> None:
    """The answer of a client and the command of a server mean nothing."""
    play = ftp(family)
    stream = logged_in(play)
    stream.says(CLIENT, b"229 go (|||30000|)\r\n")
    stream.says(SERVER, port_command(family, SERVER, 5001))
    assert expected(play) == []


def test_a_full_expectation_table_drops_the_command(family: int) -> None:
    play = ftp(family, nf_conntrack_expect_max=1)
    logged_in(play).says(CLIENT, port_command(family, CLIENT, 5001))
    other = Stream(play, NEIGHBOUR, SERVER, FTP).open()
    other.says(NEIGHBOUR, b"USER anonymous\r\n")
    command = port_command(family, NEIGHBOUR, 5002)
    assert play >> other.segment(NEIGHBOUR, "PA", command) << dropped(HELPER_REFUSED)


def test_a_deleted_control_connection_expects_nothing(family: int) -> None:
    """Also a packet between its visits when the connection ends."""
    play = ftp(family)
    stream = logged_in(play)
    stream.says(CLIENT, port_command(family, CLIENT, 5001))
    assert play.ct is not None
    play.engine.delete(play.ct.slot, play.now)
    assert expected(play) == []


def test_every_packet_of_a_control_connection_makes_both_visits(family: int) -> None:
    play = ftp(family)
    stream = logged_in(play)
    assert play >> stream.segment(CLIENT, "A") << accept(IP_CT_ESTABLISHED, visits=2)
    assert play >> tcp(SERVER, CLIENT, "SA", sport=9, dport=9) << accept()


# --- the router itself ------------------------------------------------------------------------------------------


def test_a_server_on_the_router(family: int) -> None:
    play = ftp(family, [masquerade()])
    stream = logged_in(play, server=INSIDE)
    stream.says(INSIDE, b"229 go (|||30000|)\r\n")
    assert play >> tcp(SERVER, INSIDE, "S", dport=30000, sport=9) << accept(IP_CT_NEW)
    assert play >> tcp(CLIENT, INSIDE, "S", dport=30000) << accept(IP_CT_RELATED, status=IPS_EXPECTED)
    stream.says(CLIENT, port_command(family, CLIENT, 5001))
    assert play >> tcp(INSIDE, CLIENT, "S", sport=DATA, dport=5001) << accept(IP_CT_RELATED, status=IPS_EXPECTED)


def test_a_redirect_to_the_router(family: int) -> None:
    """The router's own packets are adjusted when they leave: OUTPUT does not change them without need."""
    to = packed(address(INSIDE, family))
    redirect = NatRule(NAT_DNAT, Match(proto=Numbers([6, 6]), dport=Numbers([FTP, FTP])), Range(to, to))
    play = ftp(family, [redirect])
    stream = logged_in(play, server=INSIDE, at=SERVER)
    got = stream.says(INSIDE, b"229 go (|||30000|)\r\n")
    assert got == b"229 go (|||30000|)\r\n"
    assert play >> tcp(CLIENT, SERVER, "S", dport=30000, sport=9) << accept(IP_CT_RELATED, dst=INSIDE, dport=30000)
    command = port_command(family, CLIENT, 5001)
    assert len(stream.says(CLIENT, command)) >= len(command)
    stream.says(INSIDE, b"200 fine\r\n", status=IPS_SEQ_ADJUST if family == 6 else 0)
    stream.says(CLIENT, b"NOOP\r\n")
    assert (
        play
        >> tcp(INSIDE, CLIENT, "S", sport=DATA, dport=5001)
        << accept(IP_CT_RELATED, src=SERVER, sport=DATA, dst=CLIENT, dport=5001)
    )


def test_both_ends_inside(family: int) -> None:
    """Hairpin: the client reaches the server inside by the outer address, the server sees the router."""
    inner, own = packed(address(NEIGHBOUR, family)), packed(address(INSIDE, family))
    rules = [
        NatRule(NAT_DNAT, Match(proto=Numbers([6, 6]), dport=Numbers([FTP, FTP])), Range(inner, inner)),
        NatRule(NAT_SNAT, Match(out_interface=InterfaceNames(["lan"])), Range(own, own)),
    ]
    play = ftp(family, rules)
    stream = logged_in(play, server=NEIGHBOUR, at=ROUTER, as_seen=INSIDE)
    assert stream.says(NEIGHBOUR, b"229 go (|||30000|)\r\n") == b"229 go (|||30000|)\r\n"
    assert (
        play
        >> tcp(CLIENT, ROUTER, "S", dport=30000, sport=9)
        << accept(IP_CT_RELATED, src=INSIDE, dst=NEIGHBOUR, dport=30000)
        >> tcp(NEIGHBOUR, INSIDE, "SA", sport=30000, dport=9, ack=1)
        << accept(src=ROUTER, dst=CLIENT, sport=30000, dport=9)
    )


def test_sack_blocks_in_a_conversation(family: int) -> None:
    """The server has the second segment behind a change, not the first: both edges are the client's numbers."""
    play = ftp(family, [shorter(family)])
    stream = Stream(play, CLIENT, SERVER, FTP, as_seen=SHORT)
    syn = tcp(CLIENT, SERVER, "S", seq=999, dport=FTP, options=SACK_PERMITTED)
    answer = tcp(SERVER, SHORT, "SA", seq=499_999, ack=1000, sport=FTP, dport=CLIENT.port, options=SACK_PERMITTED)
    assert (
        play
        >> syn
        << accept()
        >> answer
        << accept()
        >> tcp(CLIENT, SERVER, "A", seq=1000, ack=500_000, dport=FTP)
        << accept()
    )
    stream.ack = {"client": 500_000, "server": 1000}
    stream.port_seen = CLIENT.port
    stream.says(CLIENT, b"USER x\r\n")
    command = port_command(family, CLIENT, 5001)
    grown = len(stream.says(CLIENT, command)) - len(command)
    assert grown != 0
    ack = stream.seq["client"]
    holes = sack((ack + grown + 10, ack + grown + 20))
    segment = tcp(SERVER, SHORT, "A", seq=500_000, ack=ack + grown, sport=FTP, dport=CLIENT.port, options=holes)
    ahead = stream.segment(CLIENT, "PA", b"x" * 10, seq=ack + 10)
    assert play >> ahead << accept(reason="ok") >> segment << accept(reason="ok")
    assert sack((ack + 10, ack + 20)) in play.left

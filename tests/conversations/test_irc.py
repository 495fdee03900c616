"""IRC: DCC offers, through source NAT."""

import pytest

from conntrackd_py.const import IP_CT_NEW, IP_CT_RELATED, IPS_DST_NAT, IPS_EXPECTED
from conntrackd_py.helpers.irc import Irc
from conntrackd_py.nat.rules import NatRule
from tests.support.control import Stream, assigned, expected, shown
from tests.support.play import CLIENT, OTHER, ROUTER, SERVER, Play, accept, tcp
from tests.support.rules import masquerade

IRC = 6667
INSIDE, OUTSIDE, FOREIGN = 3232235778, 3405803777, 3325256707  # the client, the router, another host


def irc(rules: list[NatRule] | None = None, family: int = 4) -> Play:
    return Play(family, rules, raw_rules=assigned("irc", IRC), helpers=(Irc,))


def stream(play: Play) -> Stream:
    return Stream(play, CLIENT, SERVER, IRC, as_seen=ROUTER if play.engine.nat.rules.source_rules else None).open()


@pytest.mark.parametrize("offer", [b"SEND f", b"CHAT chat", b"MOVE f", b"TSEND f", b"SCHAT chat"])
def test_anyone_may_connect_once(offer: bytes) -> None:
    play = irc()
    said = b"PRIVMSG bob :\1DCC " + offer + b" %d 5001 99\1\r\n" % INSIDE
    assert stream(play).says(CLIENT, said) == said
    (known,) = expected(play)
    assert shown(known) == ("0.0.0.0", CLIENT.v4, 5001)
    assert play >> tcp(OTHER, CLIENT, "S", dport=5001) << accept(IP_CT_RELATED, status=IPS_EXPECTED)
    assert play >> tcp(OTHER, CLIENT, "S", dport=5001, sport=9) << accept(IP_CT_NEW)


@pytest.mark.parametrize("named", [INSIDE, OUTSIDE])
def test_behind_a_router(named: int) -> None:
    """A client may know its outer address already. All numbers of the stream fit afterwards."""
    play = irc([masquerade()])
    talk = stream(play)
    got = talk.says(CLIENT, b"PRIVMSG bob :\1DCC SEND f %d 05001 99\1\r\n" % named)
    assert got == b"PRIVMSG bob :\1DCC SEND f %d 5001 99\1\r\n" % OUTSIDE
    both = IPS_EXPECTED | IPS_DST_NAT
    assert play >> tcp(OTHER, ROUTER, "S", dport=5001) << accept(IP_CT_RELATED, dst=CLIENT, dport=5001, status=both)
    talk.says(CLIENT, b"PRIVMSG bob :hello\r\n")
    talk.says(SERVER, b"PING x\r\n")


def test_eight_offers_at_once() -> None:
    play = irc()
    talk = stream(play)
    for port in range(5000, 5010):
        talk.says(CLIENT, b"PRIVMSG bob :\1DCC SEND f %d %d 99\1\r\n" % (INSIDE, port))
    assert [shown(known)[2] for known in expected(play)] == list(range(5002, 5010))


@pytest.mark.parametrize(
    "said",
    [
        b"PRIVMSG bob :\1DCC SEND f %d 5001 99\1\r\n" % FOREIGN,
        b"PRIVMSG bob :\1DCC SEND f %d 0 99\1\r\n" % INSIDE,
        b"PRIVMSG bob :\1DCC SEND f %d 65536 99\1\r\n" % INSIDE,
        b"PRIVMSG bob :\1DCC SEND f %d" % INSIDE,
        b"PRIVMSG bob :\1DCC SEND f %d 5001" % INSIDE,
        b"PRIVMSG bob :\1DCC SEND %d5001\r\n" % INSIDE,
        b"PRIVMSG bob :\1DCC XMIT f %d 5001 99\1\r\n" % INSIDE,
        b"PRIVMSG bob :say \1DCC SEND f %d 5001 99\1\r\n" % INSIDE,
        b"NOTICE bob :\1DCC SEND f %d 5001 99\1\r\n" % INSIDE,
        b"PRIVMSG bob \1DCC SEND f 99999999999 5001 99\1\r\n",
    ],
)
def test_what_is_no_offer_of_its_own(said: bytes) -> None:
    play = irc([masquerade()])
    assert stream(play).says(CLIENT, said) == said
    assert expected(play) == []


def test_an_offer_of_the_server_means_nothing() -> None:
    play = irc()
    stream(play).says(SERVER, b"PRIVMSG bob :\1DCC SEND f %d 5001 99\1\r\n" % 3325256706)
    assert expected(play) == []


def test_ipv6_is_left_alone() -> None:
    play = irc(family=6)
    stream(play).says(CLIENT, b"PRIVMSG bob :\1DCC SEND f %d 5001 99\1\r\n" % INSIDE)
    assert expected(play) == []

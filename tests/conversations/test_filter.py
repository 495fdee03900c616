"""The filter in the pipeline: what it lets through, what it stops and how it answers, with NAT around it."""

from ipaddress import ip_address

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    FORWARD,
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED_REPLY,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.filter import nft_ruleset
from conntrackd_py.filter.policy import Policy
from conntrackd_py.filter.reject import lacks_source, with_source
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_REDIRECT, NatRule
from conntrackd_py.reasons import FILTER_DROP, FILTER_REJECT, IP_VERSION
from tests.support import packets
from tests.support.play import (
    CLIENT,
    INSIDE,
    LAN,
    NEIGHBOUR,
    ROUTER,
    SERVER,
    WAN,
    Play,
    accept,
    advance,
    corrupted,
    dropped,
    error,
    invalid,
    ping,
    pong,
    raw,
    tcp,
    udp,
)
from tests.support.rules import masquerade, web_server_inside

# The example of "Connection tracking (conntrack) - Part 3: State and Examples" (thermalcircle.de).
EXAMPLE = """
# allowing new connections to be established from eth0 to eth1,
# but only established+related packets allowed from eth1 to eth0
table ip filter {
        chain forward {
                type filter hook forward priority filter; policy drop;
                iif eth0 oif eth1 ct state new,established,related accept
                iif eth1 oif eth0 ct state established,related accept
        }
}
"""


class Filtered(Play):
    """A router with a ruleset in nft's words, its links called eth0 (lan) and eth1 (wan)."""

    def __init__(self, family: int, ruleset: str, nat_rules: list[NatRule] | None = None, mode: str = "nat") -> None:
        super().__init__(family, nat_rules)
        self.policy = Policy(nft_ruleset.parse(ruleset))
        self.engine = Engine(Tunables(), Repeatable(7), nat_rules=nat_rules, mode=mode, policy=self.policy)
        self.engine.core.events.enabled = True
        for link, name, host in ((LAN, "eth0", INSIDE), (WAN, "eth1", ROUTER)):
            self.engine.set_interface(link, name, [packets.address(a) for a in (host.v4, host.v6)], self.now)

    def answers(self) -> list[bytes]:
        return [answer.data for answer in self.engine.drain_rejects()]


def inet(chain: str, rules: str, policy: str = "accept") -> str:
    return f"table inet t {{ chain c {{ type filter hook {chain} priority 0; policy {policy};\n{rules}\n}} }}"


@pytest.fixture
def example(family: int) -> Filtered:
    return Filtered(family, EXAMPLE if family == 4 else EXAMPLE.replace("table ip", "table ip6"))


def test_the_published_example(example: Filtered) -> None:
    """Connections are opened from inside only, and what belongs to them comes back."""
    assert (
        example
        >> tcp(CLIENT, SERVER, "S", seq=1)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, CLIENT, "SA", seq=9, ack=2)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=10)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED")
        >> tcp(SERVER, NEIGHBOUR, "S", seq=1, sport=5555, dport=22)
        << dropped(FILTER_DROP)
        >> udp(SERVER, NEIGHBOUR)
        << dropped(FILTER_DROP)
        >> ping(SERVER, NEIGHBOUR)
        << dropped(FILTER_DROP)
        >> ping(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> pong(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY)
    )


def test_errors_about_an_accepted_connection_come_back(example: Filtered) -> None:
    question = udp(CLIENT, SERVER)
    assert (
        example
        >> question
        << accept(IP_CT_NEW)
        >> error(SERVER, CLIENT, question)
        << accept(IP_CT_RELATED_REPLY)
        >> corrupted(udp(SERVER, CLIENT))
        << dropped(FILTER_DROP)
    )


def test_the_example_says_nothing_of_the_router_itself_or_of_the_other_family(family: int) -> None:
    other = Filtered(family, EXAMPLE.replace("table ip", "table ip6") if family == 4 else EXAMPLE)
    assert other >> udp(SERVER, CLIENT) << accept(IP_CT_NEW)
    ours = Filtered(family, EXAMPLE if family == 4 else EXAMPLE.replace("table ip", "table ip6"))
    assert ours >> udp(SERVER, ROUTER) << accept(IP_CT_NEW) >> udp(ROUTER, SERVER) << accept(IP_CT_ESTABLISHED_REPLY)


def test_a_dropped_first_packet_leaves_no_connection(example: Filtered) -> None:
    assert example >> udp(SERVER, CLIENT) << dropped(FILTER_DROP)
    assert len(example.engine.core.table) == 0
    assert example >> advance(3) >> udp(SERVER, CLIENT) << dropped(FILTER_DROP)
    assert example.events == []
    assert example.engine.core.stats.reasons[FILTER_DROP] == 2


def test_a_packet_dropped_later_leaves_its_connection(family: int) -> None:
    play = Filtered(family, inet("forward", "ct direction reply drop"))
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, entries=1) >> udp(SERVER, CLIENT) << dropped(FILTER_DROP), (
        "the reply was seen, and dropped"
    )
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_ESTABLISHED, entries=1)


def test_rules_see_the_packet_behind_dnat_and_before_snat(family: int) -> None:
    rules = f"iif eth0 oif eth1 {'ip' if family == 4 else 'ip6'} saddr {CLIENT.v4 if family == 4 else CLIENT.v6} accept"
    to = f"{'ip' if family == 4 else 'ip6'} daddr {CLIENT.v4 if family == 4 else CLIENT.v6}"
    rules += f"\nct state established accept\niif eth1 {to} tcp dport 80 ct status dnat accept"
    nat = [NatRule(3, Match(out_interface=masquerade().match.out_interface)), web_server_inside(family)]
    for rule in nat:
        for names in (rule.match.in_interface, rule.match.out_interface):
            if names is not None:
                names.names = ["eth1"]
    play = Filtered(family, inet("forward", rules, "drop"), nat)
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, src=ROUTER)
        >> tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)
        << accept(IP_CT_NEW, dst=CLIENT, dport=80)
        >> tcp(CLIENT, SERVER, "SA", seq=9, ack=2, sport=80, dport=5555)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080)
    )


def test_each_hook_has_its_own_chains(family: int) -> None:
    play = Filtered(
        family,
        inet("input", "udp dport 53 accept\nct state established accept", "drop")
        + inet("output", "ct state established accept\nudp dport 123 drop"),
    )
    assert (
        play
        >> udp(CLIENT, INSIDE, dport=53)
        << accept(IP_CT_NEW)
        >> udp(INSIDE, CLIENT, sport=53)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> udp(CLIENT, INSIDE, dport=54)
        << dropped(FILTER_DROP)
        >> udp(ROUTER, SERVER, dport=123)
        << dropped(FILTER_DROP)
        >> udp(ROUTER, SERVER, dport=124)
        << accept(IP_CT_NEW)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
    )
    assert len(play.engine.core.table) == 3


def test_accept_ends_only_its_chain(family: int) -> None:
    """The chains of a hook are asked in the order of their priority, like those of nft."""
    first = inet("forward", "udp dport 80 accept", "drop")
    second = first.replace("priority 0", "priority 10").replace("udp dport 80 accept", "ct state new drop")
    assert Filtered(family, second + first) >> udp(CLIENT, SERVER) << dropped(FILTER_DROP)


def test_an_unreadable_packet_is_invalid_for_the_filter_too(family: int) -> None:
    nonsense = raw(CLIENT, lambda f: b"\x10" + packets.udp(CLIENT.v4, SERVER.v4, 1, 2)[1:])
    assert Filtered(family, inet("forward", "udp dport 2 drop")) >> nonsense << invalid(IP_VERSION)
    assert Filtered(family, inet("forward", "ct state invalid drop")) >> nonsense << dropped(FILTER_DROP)
    own = raw(ROUTER, lambda f: b"\x10" + packets.udp(ROUTER.v4, SERVER.v4, 1, 2)[1:])
    assert Filtered(family, inet("output", "ct state invalid drop")) >> own << dropped(FILTER_DROP)


def test_observing_drops_nothing(family: int) -> None:
    assert Filtered(family, inet("forward", "drop"), mode="observe") >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert Filtered(family, inet("forward", "drop"), mode="track") >> udp(CLIENT, SERVER) << dropped(FILTER_DROP)


def test_counters(family: int) -> None:
    play = Filtered(family, inet("forward", "ct state new counter\nudp dport 80 accept", "drop"))
    assert play >> udp(CLIENT, SERVER, b"12345678") << accept(IP_CT_NEW) >> ping(CLIENT, SERVER) << dropped(FILTER_DROP)
    chain = play.policy.chains[FORWARD][0]
    header = 20 if family == 4 else 40
    assert [(rule.packets, rule.bytes) for rule in chain.rules] == [(2, 2 * header + 24), (1, header + 16)]
    assert (chain.packets, chain.bytes) == (1, header + 8)


# --- reject ---------------------------------------------------------------------------------------------


def ends(data: bytes) -> tuple[str, str]:
    pair = data[12:20] if data[0] >> 4 == 4 else data[8:40]
    half = len(pair) // 2
    return str(ip_address(pair[:half])), str(ip_address(pair[half:]))


def at(host: object, family: int) -> str:
    return str(getattr(host, f"v{family}"))


def test_a_rejected_packet_is_answered_from_where_it_was_going(family: int) -> None:
    play = Filtered(family, inet("forward", "reject with tcp reset"))
    assert play >> tcp(CLIENT, SERVER, "S", seq=1000) << dropped(FILTER_REJECT)
    (answer,) = play.answers()
    expected = packets.tcp(at(SERVER, family), at(CLIENT, family), 80, 40000, "RA", ack=1001, window=0)
    assert answer[-20:] == expected[-20:]
    assert ends(answer) == (at(SERVER, family), at(CLIENT, family))
    assert len(play.engine.core.table) == 0
    assert play.answers() == []


def test_the_answer_quotes_what_its_receiver_sent(family: int) -> None:
    """The destination was translated before the filter saw the packet; its sender knows only the router."""
    rule = web_server_inside(family)
    assert rule.match.in_interface is not None
    rule.match.in_interface.names = ["eth1"]
    play = Filtered(family, inet("forward", "tcp dport 80 reject"), [rule])
    sent = tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)
    assert play >> sent << dropped(FILTER_REJECT)
    (answer,) = play.answers()
    assert ends(answer) == (at(ROUTER, family), at(SERVER, family)), "from the address it was sent to"
    quoted = answer[28:] if family == 4 else answer[48:]
    assert quoted == sent.bytes_for(family)


def test_a_rejected_answer_quotes_it_too(family: int) -> None:
    """The other way round: the reply came to the router's address, not to the client's."""
    rule = masquerade()
    assert rule.match.out_interface is not None
    rule.match.out_interface.names = ["eth1"]
    play = Filtered(family, inet("forward", "ct direction reply reject"), [rule])
    reply = udp(SERVER, ROUTER)
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER) >> reply << dropped(FILTER_REJECT)
    (answer,) = play.answers()
    assert ends(answer) == (at(ROUTER, family), at(SERVER, family))
    assert (answer[28:] if family == 4 else answer[48:]) == reply.bytes_for(family)


def test_the_answer_quotes_the_source_port_that_was_sent(family: int) -> None:
    """PREROUTING changed it, because another connection to the same service has it."""
    rule = NatRule(
        NAT_REDIRECT,
        Match(in_interface=InterfaceNames(["eth0"]), dport=Numbers([81, 82])),
        Range(port_low=80, port_high=80),
    )
    play = Filtered(family, inet("input", "ct mark 1 reject"), [rule])
    assert play >> udp(CLIENT, ROUTER, dport=81) << accept(IP_CT_NEW, sport=40000)
    sent = udp(CLIENT, ROUTER, dport=82)
    assert play >> sent << accept(IP_CT_NEW)
    assert play.ct is not None
    play.ct.mark = 1
    assert play >> sent << dropped(FILTER_REJECT)
    (answer,) = play.answers()
    assert (answer[28:] if family == 4 else answer[48:]) == sent.bytes_for(family)


def test_the_router_answers_for_itself(family: int) -> None:
    play = Filtered(family, inet("input", "reject"))
    assert play >> udp(CLIENT, INSIDE) << dropped(FILTER_REJECT)
    (answer,) = play.answers()
    assert ends(answer) == (at(INSIDE, family), at(CLIENT, family))


def test_the_source_of_an_error_about_a_forwarded_packet_is_left_to_the_route(family: int) -> None:
    play = Filtered(family, inet("forward", "reject"))
    assert play >> udp(CLIENT, SERVER) << dropped(FILTER_REJECT)
    (answer,) = play.answers()
    assert lacks_source(answer)
    assert ends(with_source(answer, packets.address(at(INSIDE, family)))) == (at(INSIDE, family), at(CLIENT, family))


def test_errors_are_not_answered(family: int) -> None:
    play = Filtered(family, inet("forward", "ct state related reject"))
    question = udp(CLIENT, SERVER)
    assert play >> question << accept(IP_CT_NEW) >> error(SERVER, CLIENT, question) << dropped(FILTER_REJECT)
    assert play.answers() == []
    assert play.engine.rejects.unanswerable == 1


def test_our_own_answers_pass_the_router(family: int) -> None:
    """Marked as ours, an answer is neither filtered nor guarded nor tracked on its way out."""
    play = Filtered(family, inet("output", "drop") + inet("forward", "reject with tcp reset"), [masquerade()])
    assert play >> tcp(CLIENT, SERVER, "S", seq=1) << dropped(FILTER_REJECT)
    (answer,) = play.answers()
    for hook, done in ((LOCAL_OUT, 0), (POST_ROUTING, play.engine.mark_codec.done)):
        skb = Skb(answer, play.engine.own_mark, 0, LAN)
        assert play.engine.handle(skb, hook, play.now) == NF_ACCEPT
        assert skb.data == answer
        assert skb.mark == play.engine.own_mark | done
    assert len(play.engine.core.table) == 0


@pytest.mark.parametrize(
    ("packet", "is_forwarded"),
    [
        (packets.ip("2001:db8::1", "2001:db8::2", 58, bytes((136, 0)) + bytes(22), ttl=255), False),
        (packets.ip("fe80::1", "ff02::16", 58, bytes((143, 0)) + bytes(6), ttl=1), False),
        (packets.ip("::", "ff02::1:ff00:1", 58, bytes((135, 0)) + bytes(22), ttl=255), False),
        (packets.ip("192.0.2.1", "224.0.0.22", 2, bytes(8), ttl=1), False),
        (packets.icmp("2001:db8::1", "2001:db8::2", 128), True),
        (packets.udp("192.0.2.1", "192.0.2.2", 1, 2), True),
    ],
    ids=["neighbour advertisement", "MLD", "neighbour solicitation", "IGMP", "ping on a stick", "udp on a stick"],
)
def test_what_the_kernel_says_of_itself_is_not_forwarded(packet: bytes, is_forwarded: bool) -> None:
    """At POSTROUTING such packets come with an incoming interface, which is the outgoing one."""
    play = Filtered(4, inet("forward", "drop"))
    skb = Skb(packet, 0, LAN, LAN)
    assert play.engine.handle(skb, POST_ROUTING, play.now) == (NF_DROP if is_forwarded else NF_ACCEPT)
    assert play.engine.handle(Skb(packet, 0, LAN, WAN), POST_ROUTING, play.now) == NF_DROP
    assert play.engine.handle(Skb(packet, 0, 0, LAN), POST_ROUTING, play.now) == NF_ACCEPT


def test_a_drop_gives_its_reason_once_and_the_cause_if_there_is_one(family: int) -> None:
    play = Filtered(family, inet("output", "ct state invalid drop\nudp dport 80 drop"))
    why = []
    for packet in (udp(ROUTER, SERVER), tcp(ROUTER, SERVER, "SA", seq=1, ack=1)):
        assert play >> packet << dropped(FILTER_DROP)
        why.append(play.seen["why"])
    assert why == [
        "DROPPED: the filter drops it: t c line 3",
        "DROPPED: the filter drops it: t c line 2; "
        "it was INVALID: SYN+ACK cannot start a connection and belongs to none",
    ]

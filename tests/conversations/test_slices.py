"""Deterministic NAT: the rule alone says which outer address and ports each inside address has (RFC 7422)."""

import pytest

from conntrackd_py.const import IP_CT_NEW, IPS_SRC_NAT
from conntrackd_py.match.address import packed_address
from conntrackd_py.nat.carrier.deterministic import inside_of, slice_of
from conntrackd_py.reasons import BLOCK_LIMIT
from tests.support.invariants import check
from tests.support.packets import address
from tests.support.play import CLIENT, NEIGHBOUR, OTHER, SERVER, Play, accept, dropped, ping, tcp, udp
from tests.support.rules import rules_of

TEXT = """
    [[nat]]
    action = "SNAT"
    out_interface = "wan"
    source = "{}"
    to = "{}:2000-2079"
    deterministic = true
    {}
"""
PLACES = {4: ("192.168.1.0/30", "203.0.113.8"), 6: ("fd00:1::/126", "[2001:db8:9::8]")}
MAPPINGS = ["endpoint-dependent", "endpoint-independent"]


def sliced(family: int, keys: str = "") -> Play:
    """Four inside addresses with 20 ports each: 192.168.1.2 has 2040 to 2059, 192.168.1.3 the rest."""
    return Play(family, rules_of(TEXT.format(*PLACES[family], keys)))


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_each_host_has_its_slice(family: int, mapping: str) -> None:
    play = sliced(family, f'mapping = "{mapping}"\nhairpin = {str(mapping == MAPPINGS[1]).lower()}')
    (rule,) = play.engine.nat.rules.source_rules
    for host, low in ((CLIENT, 2040), (NEIGHBOUR, 2060)):
        inside = address(host.v4 if family == 4 else host.v6)
        outer = packed_address(PLACES[family][1].strip("[]"))
        assert slice_of(rule, inside) == (outer, low, low + 19)
        for said in (udp(host, SERVER), udp(host, OTHER, sport=7), tcp(host, SERVER, "S"), ping(host, SERVER)):
            assert play >> said << accept(IP_CT_NEW, status=IPS_SRC_NAT)
            port = play.seen["ident"]
            assert isinstance(port, int)
            assert inside_of(rule, outer, port) == inside
    assert play >> udp(CLIENT, SERVER, sport=2050) << accept(IP_CT_NEW, sport=2050)
    check(play.engine)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_full_slice(family: int, mapping: str) -> None:
    play = sliced(family, f'mapping = "{mapping}"')
    for sport in range(1, 21):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept(IP_CT_NEW)
    assert play >> udp(CLIENT, SERVER, sport=21) << dropped(BLOCK_LIMIT)
    assert play >> udp(NEIGHBOUR, SERVER, sport=21) << accept(IP_CT_NEW)
    assert play.engine.nat.rules.source_rules[0].pool.limited == 1


def test_a_connection_in_another_slice_is_stale(family: int) -> None:
    play = sliced(family)
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert play.ct is not None
    assert play.engine.stale().why(play.ct, play.now) == 0
    source, to = PLACES[family]
    wider = source.replace("/30", "/29").replace("/126", "/125")
    play.engine.configure(play.tunables, nat_rules=rules_of(TEXT.format(wider, to, "").replace("2079", "2239")))
    assert play.engine.stale().why(play.ct, play.now) != 0

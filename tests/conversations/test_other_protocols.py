"""NAT of protocols without ports: only the addresses identify a connection."""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IPPROTO_ESP, IPPROTO_GRE
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NatRule
from tests.support import packets
from tests.support.play import CLIENT, ROUTER, SERVER, Host, Play, Said, accept, raw
from tests.support.rules import masquerade

PROTOCOLS = pytest.mark.parametrize("protonum", [IPPROTO_GRE, IPPROTO_ESP, 253])


def packet(sender: Host, receiver: Host, protonum: int) -> Said:
    def make(family: int) -> bytes:
        ends = (sender.v4, receiver.v4) if family == 4 else (sender.v6, receiver.v6)
        return packets.ip(*ends, protonum, bytes(16))

    return raw(sender, make, f"protocol {protonum} {sender.name} > {receiver.name}")


def to_client(family: int, protonum: int) -> NatRule:
    to = packets.address(CLIENT.v4 if family == 4 else CLIENT.v6)
    return NatRule(
        NAT_DNAT,
        Match(in_interface=InterfaceNames(["wan"]), proto=Numbers([protonum, protonum])),
        Range(to, to),
        "nat[1]",
    )


@PROTOCOLS
def test_dnat_to_an_inside_host(family: int, protonum: int) -> None:
    play = Play(family, [masquerade(), to_client(family, protonum)])
    for ctinfo in (IP_CT_NEW, IP_CT_ESTABLISHED):
        assert (
            play
            >> packet(SERVER, ROUTER, protonum)
            << accept(ctinfo, src=SERVER, dst=CLIENT, entries=1)
            >> packet(CLIENT, SERVER, protonum)
            << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, dst=SERVER, entries=1)
        )


@PROTOCOLS
def test_snat_of_an_inside_host(snat: Play, protonum: int) -> None:
    for ctinfo in (IP_CT_NEW, IP_CT_ESTABLISHED):
        assert (
            snat
            >> packet(CLIENT, SERVER, protonum)
            << accept(ctinfo, src=ROUTER, dst=SERVER, entries=1)
            >> packet(SERVER, ROUTER, protonum)
            << accept(IP_CT_ESTABLISHED_REPLY, src=SERVER, dst=CLIENT, entries=1)
        )

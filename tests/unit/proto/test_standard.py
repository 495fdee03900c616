"""All trackers, by protocol number."""

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP
from conntrackd_py.proto.generic import Generic
from conntrackd_py.proto.rfc7857 import Rfc7857
from conntrackd_py.proto.standard import RFC7857, distinct, standard_protos
from conntrackd_py.proto.tcp import Tcp


def test_tcp_has_the_tracker_of_the_configuration() -> None:
    assert type(standard_protos(Tunables())[IPPROTO_TCP]) is Tcp
    assert type(standard_protos(Tunables(), RFC7857)[IPPROTO_TCP]) is Rfc7857


def test_a_protocol_without_a_tracker_of_its_own_has_the_generic_one() -> None:
    protos = standard_protos(Tunables())
    assert len(protos) == 256
    assert type(protos[99]) is Generic
    assert type(protos[IPPROTO_UDP]) is not Generic


def test_distinct_has_each_tracker_once() -> None:
    protos = standard_protos(Tunables())
    assert len(distinct(protos)) == len({id(one) for one in protos}) < 16

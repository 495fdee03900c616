"""Inverting a tuple twice gives the tuple, whatever the protocol; what has no answer says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6
from conntrackd_py.proto.standard import standard_protos

TRACKERS = standard_protos(Tunables())
ADDRESSES = st.one_of([st.tuples(*[st.binary(min_size=n, max_size=n)] * 2) for n in (4, 16)])
L4 = st.binary(min_size=4, max_size=4)
IDENT = st.binary(min_size=2, max_size=2)
# By protocol: the type that answers each query, and back.
ANSWERS = {
    IPPROTO_ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17},
    IPPROTO_ICMPV6: {128: 129, 129: 128, 139: 140, 140: 139},
}


def inverted(t: bytes) -> bytes:
    l4 = TRACKERS[tuples.protonum(t)].invert(tuples.l4(t))
    return tuples.swapped(t, l4) if l4 else b""


def twice_is_the_identity(ends: tuple[bytes, bytes], l4: bytes, protonum: int) -> None:
    t = tuples.make(ends[0] + ends[1], l4, protonum)
    answer = inverted(t)
    assert (tuples.src(answer), tuples.dst(answer)) == (ends[1], ends[0])
    assert tuples.protonum(answer) == protonum
    assert len(answer) == len(t)
    assert inverted(answer) == t


@given(ADDRESSES, L4, st.integers(0, 255).filter(lambda protonum: protonum not in ANSWERS))
def test_twice_is_the_identity(ends: tuple[bytes, bytes], l4: bytes, protonum: int) -> None:
    twice_is_the_identity(ends, l4, protonum)


@pytest.mark.parametrize("protonum", ANSWERS)
@given(ADDRESSES, IDENT, st.data(), st.integers(0, 255))
def test_twice_is_the_identity_of_queries(
    protonum: int, ends: tuple[bytes, bytes], ident: bytes, data: st.DataObject, code: int
) -> None:
    kind = data.draw(st.sampled_from(sorted(ANSWERS[protonum])))
    twice_is_the_identity(ends, ident + bytes((kind, code)), protonum)


@given(L4)
def test_ports_change_places(l4: bytes) -> None:
    t = tuples.make(bytes(8), l4, 17)
    assert (tuples.l4src(inverted(t)), tuples.l4dst(inverted(t))) == (tuples.l4dst(t), tuples.l4src(t))


@pytest.mark.parametrize("protonum", ANSWERS)
@given(IDENT, st.integers(0, 255))
def test_an_icmp_answer_keeps_identifier_and_code(protonum: int, ident: bytes, code: int) -> None:
    answers = ANSWERS[protonum]
    for kind in range(256):
        answer = TRACKERS[protonum].invert(ident + bytes((kind, code)))
        assert answer == (ident + bytes((answers[kind], code)) if kind in answers else b"")

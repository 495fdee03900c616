"""Filters: which connections they mean, and what is said about one that means nothing."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import IPS_SRC_NAT
from conntrackd_py.control.matcher import Matcher
from conntrackd_py.control.protocol.requests import Filter, RequestError
from tests.support import packets
from tests.support.router import CLIENT, CLIENT6, SERVER, SERVER6, Router


def matcher(spec: dict[str, Any]) -> Matcher:
    return Matcher(msgspec.convert(spec, Filter))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"family": "ipv4"},
        {"proto": 17},
        {"src": CLIENT},
        {"src": "10.0.0.99/8"},
        {"src": "0.0.0.0/0"},
        {"dst": SERVER, "reply_src": SERVER, "reply_dst": CLIENT},
        {"proto": 17, "sport": 5353, "dport": 53, "reply_sport": 53, "reply_dport": 5353},
        {"status": ["CONFIRMED"]},
        {"mark": 0x15},
        {"mark": 5, "mark_mask": 0xF},
    ],
)
def test_a_filter_that_fits(spec: dict[str, Any]) -> None:
    ct = Router().udp(mark=0x15)
    assert matcher(spec).matches(ct, ct)


@pytest.mark.parametrize(
    "spec",
    [
        {"family": "ipv6"},
        {"proto": 6},
        {"src": SERVER},
        {"src": "11.0.0.0/8"},
        {"src": "::/0"},
        {"proto": 17, "dport": 54},
        {"proto": 17, "dport": 53, "sport": 1},
        {"status": ["CONFIRMED", "ASSURED"]},
        {"mark": 5},
        {"mark": 4, "mark_mask": 0xF},
        {"proto": 6, "state": "SYN_SENT"},
        {"src_nat": True},
        {"any_nat": "192.0.2.1"},
    ],
)
def test_a_filter_that_does_not_fit(spec: dict[str, Any]) -> None:
    ct = Router().udp(mark=0x15)
    assert not matcher(spec).matches(ct, ct)


def test_ipv6_networks_and_states() -> None:
    router = Router()
    six = router.udp(src=CLIENT6, dst=SERVER6)
    assert matcher({"src": "fd00::/64"}).matches(six, six)
    assert not matcher({"src": "fd00:1::/64"}).matches(six, six)
    tcp = router.established()
    assert matcher({"proto": 6, "state": "ESTABLISHED"}).matches(tcp, tcp)
    assert not matcher({"proto": 6, "state": "SYN_SENT"}).matches(tcp, tcp)


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"src_nat": True}, True),
        ({"any_nat": True}, True),
        ({"dst_nat": True}, False),
        ({"src_nat": "192.0.2.1"}, True),
        ({"src_nat": "192.0.2.1:6000"}, True),
        ({"any_nat": "192.0.2.1:6000"}, True),
        ({"src_nat": "192.0.2.1:6001"}, False),
        ({"src_nat": "192.0.2.2"}, False),
        ({"dst_nat": "192.0.2.1"}, False),
    ],
)
def test_translated_connections_are_found_by_what_the_other_side_sees(spec: dict[str, Any], fits: bool) -> None:
    ct = Router().udp()
    ct.reply = tuples.with_dst(ct.reply, packets.address("192.0.2.1"), tuples.l4(ct.reply)[:2] + (6000).to_bytes(2))
    ct.status |= IPS_SRC_NAT
    assert matcher(spec).matches(ct, ct) is fits


@pytest.mark.parametrize(
    ("original", "reply", "wanted"),
    [
        (0, 0, {"zone": 0, "orig_zone": 0, "reply_zone": 0}),
        (7, 7, {"zone": 7, "orig_zone": 0, "reply_zone": 0}),
        (8, 0, {"zone": 0, "orig_zone": 8, "reply_zone": 0}),
        (0, 9, {"zone": 0, "orig_zone": 0, "reply_zone": 9}),
    ],
)
def test_a_zone_is_of_both_directions_or_of_one(original: int, reply: int, wanted: dict[str, int]) -> None:
    ct = Router().udp()
    ct.original, ct.reply = tuples.with_zone(ct.original, original), tuples.with_zone(ct.reply, reply)
    for key, zone in wanted.items():
        assert [at for at in (0, 7, 8, 9) if matcher({key: at}).matches(ct, ct)] == [zone]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"src": "1.2.3"}, "Invalid IP address `1.2.3'"),
        ({"src": "10.0.0.0/33"}, "Invalid netmask `33'"),
        ({"src": "10.0.0.0/x"}, "Invalid netmask `x'"),
        ({"src": CLIENT, "dst": SERVER6}, "mismatched address family"),
        ({"family": "ipv6", "src": CLIENT}, "mismatched address family"),
        ({"sport": 5}, "sport needs a protocol with ports"),
        ({"proto": 1, "dport": 5}, "dport needs a protocol with ports"),
        ({"proto": 6, "icmp_type": 8}, "icmp_type needs the protocol icmp or icmpv6"),
        ({"proto": 17, "state": "ESTABLISHED"}, "state needs a protocol that has states"),
        ({"proto": 6, "state": "BOGUS"}, "unknown state 'BOGUS'"),
        ({"mark_mask": 1}, "mark_mask needs mark"),
        ({"src_nat": False}, "src_nat must be an address"),
        ({"stale": False}, "stale must be true"),
        ({"src_nat": "1.2.3.4:70000"}, "Invalid port `70000'"),
    ],
)
def test_what_is_wrong_with_a_filter_is_said(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(RequestError) as raised:
        matcher(spec)
    assert str(raised.value).startswith(why)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(Filter.__struct_fields__)) | st.text(), JSON))
def test_whatever_comes_is_a_query_or_a_filter_error(spec: dict[str, Any]) -> None:
    ct = Router().udp()
    with suppress(RequestError, msgspec.ValidationError):
        matcher(spec).matches(ct, ct)

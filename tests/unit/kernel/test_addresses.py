"""Which address of an interface is preferred. Changes as they happen: tests/e2e/test_addresses.py."""

from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from conntrackd_py.kernel.addresses import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_SECONDARY,
    IFA_F_TENTATIVE,
    IFF_UP,
    interfaces,
    mtus,
    networks,
)

LINK_SCOPE = 253


def link(index: int, name: str | bytes, flags: int = IFF_UP) -> Any:
    message = ifinfmsg()
    message["index"], message["flags"], message["attrs"] = index, flags, [("IFLA_IFNAME", name)]
    return message


def address(index: int, text: str, flags: int = 0, *, scope: int = 0, peer: str = "") -> Any:
    message = ifaddrmsg()
    message["index"], message["scope"], message["flags"] = index, scope, flags & 0xFF
    message["attrs"] = [("IFA_ADDRESS", peer or text), ("IFA_FLAGS", flags)]
    if ":" not in text or peer:
        message["attrs"].append(("IFA_LOCAL", text))
    return message


def shown(links: list[Any], addresses: list[Any]) -> dict[str, list[str]]:
    return {name: [str(ip_address(a)) for a in packed] for name, packed in interfaces(links, addresses).values()}


@pytest.mark.parametrize("flag", [IFA_F_SECONDARY, IFA_F_DEPRECATED, IFA_F_TENTATIVE])
def test_an_ordinary_address_comes_before_a_secondary_deprecated_or_tentative_one(flag: int) -> None:
    addresses = [address(2, "2001:db8::2", flag), address(2, "2001:db8::1")]
    assert shown([link(2, "wan0")], addresses) == {"wan0": ["2001:db8::1", "2001:db8::2"]}


def test_a_global_address_comes_before_a_link_local_one() -> None:
    addresses = [address(2, "fe80::1", scope=LINK_SCOPE), address(2, "2001:db8::1", IFA_F_DEPRECATED)]
    assert shown([link(2, "wan0")], addresses) == {"wan0": ["2001:db8::1", "fe80::1"]}


def test_a_name_may_be_any_bytes() -> None:
    """pyroute2 leaves those that are not UTF-8 as they are."""
    assert shown([link(2, b"\xff\xfea")], []) == {"\\xff\\xfea": []}


def test_otherwise_the_order_is_the_kernels() -> None:
    addresses = [address(2, "192.0.2.9"), address(2, "192.0.2.1")]
    assert shown([link(2, "wan0")], addresses) == {"wan0": ["192.0.2.9", "192.0.2.1"]}


def test_on_a_point_to_point_link_our_end_counts() -> None:
    assert shown([link(2, "ppp0")], [address(2, "192.0.2.1", peer="198.51.100.1")]) == {"ppp0": ["192.0.2.1"]}


def test_an_address_of_another_host_is_not_used() -> None:
    assert shown([link(2, "wan0")], [address(2, "2001:db8::1", IFA_F_DADFAILED)]) == {"wan0": []}


def test_an_interface_that_is_down_has_no_addresses() -> None:
    assert shown([link(2, "wan0", flags=0)], [address(2, "192.0.2.1")]) == {"wan0": []}


def test_each_interface_has_its_own() -> None:
    links = [link(2, "lan0"), link(3, "wan0")]
    assert shown(links, [address(3, "192.0.2.1"), address(2, "192.168.1.1")]) == {
        "lan0": ["192.168.1.1"],
        "wan0": ["192.0.2.1"],
    }


def test_an_address_of_an_interface_that_came_after_the_links_were_read_waits_for_the_next_reading() -> None:
    assert shown([link(2, "lan0")], [address(9, "192.0.2.1")]) == {"lan0": []}


def test_the_mtu_of_each_link() -> None:
    wan = link(3, "wan0")
    wan["attrs"].append(("IFLA_MTU", 1492))
    assert mtus([link(2, "lan0"), wan]) == {2: 0, 3: 1492}


def test_networks() -> None:
    """Of addresses with a broadcast address that are not secondary."""
    found = []
    for text, broadcast, flags in (
        ("192.0.2.1", "192.0.2.127", 0),
        ("192.0.2.2", "", 0),
        ("192.0.2.3", "192.0.2.9", 1),
    ):
        found.append(address(3, text, flags))
        found[-1]["prefixlen"] = 25
        found[-1]["attrs"] += [("IFA_BROADCAST", broadcast)] if broadcast else []
    assert networks([*found, address(3, "fd00::1")]) == {(3, b"\xc0\0\2\x7f"): b"\xff\xff\xff\x80"}

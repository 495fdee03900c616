"""The text of the chains of offload; tests/e2e/test_offloaded.py has the kernel run it."""

from conntrackd_py.kernel.maps.flows import chains, lookup, sets

MASK = 0xFFFFFF00


def bodies(family: str = "ip", mask: int = MASK, *, translate: bool = True) -> dict[str, list[str]]:
    parts = [part.splitlines() for part in chains(family, mask, translate=translate).split("chain ")[1:]]
    return {head.removesuffix(" {"): lines for head, *lines, _ in parts}


def test_what_is_looked_up() -> None:
    assert lookup("ip", MASK) == [
        "meta mark & 0xff != 0 return",
        "tcp flags & (fin | syn | rst) != 0 return",
        "udp checksum 0 return",
        "meta mark set ip saddr . ip daddr . meta l4proto . th sport . th dport map @flows accept",
    ]


def test_a_mask_of_all_bits_leaves_none_to_others() -> None:
    assert lookup("ip", 0xFFFFFFFF) == lookup("ip", MASK)[1:]


def test_ipv6_only_where_nothing_stands_before_the_ports() -> None:
    assert lookup("ip6", MASK)[1] == "ip6 nexthdr != { tcp, udp } return"
    assert bodies("ip6")["leave"][2] == "ip6 nexthdr != { tcp, udp } return"


def test_a_forged_mark_goes_and_the_source_follows() -> None:
    assert bodies()["forged"] == ["meta mark & 0x1800 == 0x1000 meta mark set meta mark & 0xffffe7ff"]
    assert bodies()["leave"] == [
        "type filter hook postrouting priority -152",
        "meta mark & 0x800 == 0 goto forged",
        "udp checksum 0 return",
        "meta mark & 0xffffef00 . oif . ip saddr . ip daddr . th sport != @leaves return",
        "ip saddr set meta mark & 0xffffef00 map @saddr",
        "tcp sport set meta mark & 0xffffef00 map @sport",
        "udp sport set meta mark & 0xffffef00 map @sport",
        "meta mark set meta mark & 0xfffff7ff | 0x1000",
    ]


def test_the_source_is_compared_before_the_packet_counts_as_done() -> None:
    place, rule = bodies()["left"]
    assert place == "type filter hook postrouting priority -146"
    assert rule.startswith("meta mark & 0x1800 == 0x1000 meta mark & 0xffffff00 . ip saddr != @sources ")
    assert rule.endswith(" meta mark set meta mark & 0xffffe7ff")


def test_without_translation() -> None:
    assert not any("map @saddr" in line for line in bodies(translate=False)["leave"])


def test_the_sets_are_limited() -> None:
    assert sets("ipv6_addr").count("size 32768") == 3

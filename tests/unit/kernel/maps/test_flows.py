"""The text of the chains that spare visits; tests/e2e/test_offloaded.py and test_visits.py have the kernel run it."""

from conntrackd_py.kernel.maps.flows import ALONE, RENEW, chains, leave, lookup, sets, spared

MASK = 0xFFFFFF00
KEY = "meta mark & 0xffffef00"


def bodies(*, offload: bool = True) -> dict[str, list[str]]:
    parts = [part.splitlines() for part in chains("ip", MASK, translate=True, offload=offload).split("chain ")[1:]]
    return {head.removesuffix(" {"): lines for head, *lines, _ in parts}


def test_what_is_looked_up() -> None:
    assert lookup("ip") == [
        "tcp flags & (fin | syn | rst) != 0 return",
        "udp checksum 0 return",
        "meta protocol @alive meta mark set ip saddr . ip daddr . meta l4proto . th sport . th dport map @flows accept",
    ]
    assert bodies()["flows"] == lookup("ip")
    assert "flows" not in bodies(offload=False)


def test_ipv6_only_where_nothing_stands_before_the_ports() -> None:
    assert lookup("ip6")[0] == "ip6 nexthdr != { tcp, udp } return"
    assert leave("ip6", MASK)[1] == "ip6 nexthdr != { tcp, udp } return"


def test_a_forged_mark_goes_and_the_source_follows() -> None:
    assert bodies()["forged"] == ["meta mark & 0x1800 == 0x1000 meta mark set meta mark & 0xffffe7ff"]
    assert bodies()["leave"] == [
        "type filter hook postrouting priority -152",
        "meta mark & 0x800 == 0 goto forged",
        "udp checksum 0 return",
        "tcp flags & syn != 0 return",
        f"{KEY} . oif . ip saddr . ip daddr . th sport @leaves goto spared",
    ]
    assert bodies()["spared"] == [
        f"tcp sport set {KEY} map @sport",
        f"udp sport set {KEY} map @sport",
        f"ip saddr set {KEY} map @saddr meta mark set meta mark & 0xfffff7ff | 0x1000 return",
        "meta mark set meta mark & 0xfffff7ff | 0x1000",
    ]


def test_without_offload_the_table_mangle_comes_first() -> None:
    assert bodies(offload=False)["leave"][0] == "type filter hook postrouting priority -149"


def test_forged_marks_go_also_while_no_packet_is_spared() -> None:
    assert leave("ip", MASK, spare=False) == ["meta mark & 0x800 == 0 goto forged"]


def test_without_translation() -> None:
    assert spared("ip", MASK, translate=False) == ["meta mark set meta mark & 0xfffff7ff | 0x1000"]


def test_the_sets_are_limited() -> None:
    assert sets("ip6", "ipv6_addr", offload=True).count("size 32768") == 3
    assert sets("ip6", "ipv6_addr", offload=False).count("size 32768") == 2


def test_the_kernel_forgets_a_daemon_that_is_gone() -> None:
    alive = "set alive {\ntype ether_type\ntimeout 60s\nelements = { ip6 }\n}\n"
    assert alive in sets("ip6", "ipv6_addr", offload=True)
    assert RENEW * 3 < ALONE * 1000

"""The text of the chains that recognise known connections; tests/e2e/test_known.py has the kernel run it."""

import pytest

from conntrackd_py.kernel.maps.recognition import chains, known_set, remember, remembered, unqueued

MASK = 0xFFFFFF00
UPDATE = "update @known { ip saddr . ip daddr . meta l4proto . th sport . th dport }"
INVERSE = "update @known { ip daddr . ip saddr . meta l4proto . th dport . th sport }"


def bodies(family: str = "ip", mask: int = MASK, excluded: tuple[str, ...] = ()) -> dict[str, list[str]]:
    found = (part.splitlines() for part in chains(family, mask, excluded).split("chain ")[1:])
    return {head.removesuffix(" {"): lines for head, *lines, _ in found}


def test_marks_from_elsewhere_go_before_a_known_packet_gets_its_own() -> None:
    known = "ip saddr . ip daddr . meta l4proto . th sport . th dport @known"
    assert bodies(excluded=("lo", "wg+"))["recognise"] == [
        "type filter hook prerouting priority -301",
        'iifname "lo" return',
        'iifname "wg*" return',
        "meta mark & 0x1800 != 0 meta mark set meta mark & 0xffffe7ff",
        f"meta l4proto {{ tcp, udp }} {known} {UPDATE} meta mark set meta mark | 0x1000",
    ]


def test_the_mark_ends_where_the_queue_would_have_been() -> None:
    assert unqueued(MASK) == "meta mark & 0x1800 == 0x1000 meta mark set meta mark & 0xffffefff"


def test_what_is_remembered_has_a_reply() -> None:
    assert bodies()["remember_own"] == [
        "type filter hook input priority 55",
        f"meta mark & 0xf00 {{ 0x800, 0xb00 }} meta l4proto {{ tcp, udp }} {UPDATE}",
    ]
    assert remembered("ip") == INVERSE


def test_what_leaves_is_remembered_if_the_leak_table_lets_it_pass() -> None:
    assert remember("ip", MASK) == f"meta mark & 0x1f00 {{ 0x1800, 0x1b00 }} meta l4proto {{ tcp, udp }} {INVERSE}"


def test_other_bits_of_the_mark() -> None:
    assert "meta mark & 0x1800000 == 0x1000000" in unqueued(0x0FF00000)
    assert "meta mark & 0xf00000 { 0x800000, 0xb00000 }" in chains("ip", 0x0FF00000, ())
    assert "meta mark & 0x1f00000 { 0x1800000, 0x1b00000 }" in remember("ip", 0x0FF00000)


def test_ipv6_only_where_nothing_stands_before_the_ports() -> None:
    text = chains("ip6", MASK, ()) + remember("ip6", MASK)
    assert "meta l4proto {" not in text
    assert text.count("ip6 nexthdr { tcp, udp }") == 3


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a*b", "+", "ä"])
def test_a_name_that_nft_cannot_write_is_left_out(name: str) -> None:
    """The steering rules exclude it."""
    assert bodies(excluded=(name,)) == bodies()


def test_the_set_is_limited_and_forgets() -> None:
    assert "size 131072\nflags dynamic,timeout\ntimeout 60s" in known_set("ipv4_addr")


def test_with_offload_packets_without_other_marks_are_looked_up_first() -> None:
    cleared = "meta mark & 0x1800 != 0 meta mark set meta mark & 0xffffe7ff"
    assert f"{cleared}\nmeta mark & 0xff == 0 jump flows\n" in chains("ip", MASK, (), offload=True)
    assert "\njump flows\n" in chains("ip", 0xFFFFFFFF, (), offload=True)
    assert "flows" not in chains("ip", MASK, ())

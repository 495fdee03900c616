"""The text of the tables: one chain at each hook and priority. tests/e2e has the kernel run it."""

import re

import pytest

from conntrackd_py.kernel.maps.tables import Parts, digest, ruleset

MASK = 0xFFFFFF00
INVERSE = "update @known { ip daddr . ip saddr . meta l4proto . th dport . th sport }"
SPARED = Parts(MASK, ("lo",), translate=True, spare=True)
OFFLOADED = SPARED._replace(offload=True)


def chains(parts: Parts) -> dict[str, list[str]]:
    """Of the table for IPv4."""
    text = ruleset(parts).split("table ip6 ")[0]
    return {name: body.splitlines() for name, body in re.findall(r"chain (\w+) \{\n(.*?)\n\}", text, re.DOTALL)}


@pytest.mark.parametrize("parts", [Parts(MASK), SPARED, OFFLOADED, Parts(MASK, spare=True, offload=True)])
def test_a_packet_passes_few_base_chains(parts: Parts) -> None:
    bases = [body[0].split("hook ")[1] for body in chains(parts).values() if body[0].startswith("type filter")]
    assert len(set(bases)) == len(bases) == (5 if parts.spare else 4)


def test_known_ends_where_the_destination_is_translated() -> None:
    unqueued = "meta mark & 0x1800 == 0x1000 meta mark set meta mark & 0xffffefff"
    place = "type filter hook prerouting priority -250"
    assert chains(Parts(MASK))["destination"] == [place, unqueued]
    assert chains(SPARED)["destination"] == [
        place,
        unqueued,
        "udp checksum 0 return",
        "ip daddr set meta mark & 0xffffef00 map @daddr goto dports",
    ]


def test_the_source_is_compared_before_a_spared_packet_counts_as_done() -> None:
    assert chains(SPARED)["last"][:3] == [
        "type filter hook postrouting priority -145",
        "meta mark & 0x1800 == 0x1000 goto left",
        "meta mark & 0x1800 == 0x800 jump source",
    ]
    assert chains(SPARED)["left"] == [
        f"meta mark & 0xffffff00 . ip saddr @sources meta mark set meta mark | 0x800 {INVERSE} return",
        "meta mark & 0xffffff00 == 0x1000 fib saddr type local return",  # of the router itself
        "meta mark set meta mark & 0xffffe7ff",
    ]


def test_what_the_kernel_forwards_is_not_remembered() -> None:
    assert chains(OFFLOADED)["left"][0].endswith("@sources meta mark set meta mark | 0x800 return")


def test_the_source_after_the_last_visit() -> None:
    assert chains(SPARED)["source"] == [
        "udp checksum 0 return",
        "ip saddr set meta mark & 0xffffff00 map @saddr meta mark set meta mark | 0x1000 goto sports",
    ]
    assert "source" not in chains(Parts(MASK, spare=True, offload=True))


def test_other_tables_have_another_digest() -> None:
    digests = {digest(parts) for parts in (Parts(MASK), SPARED, OFFLOADED, SPARED._replace(excluded=("eth0",)))}
    assert len(digests) == 4
    assert f"chain {digest(SPARED)} {{\n}}" in ruleset(SPARED)

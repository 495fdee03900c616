"""The steering rules of nft as text: what is written, what is recognised, and how one set replaces another."""

from typing import Any

import pytest

from conntrackd_py.kernel.steering import nft_rules as rules
from conntrackd_py.kernel.steering.plan import plan
from conntrackd_py.settings.load import parse


def wanted(family: str = "ipv4", **data: object) -> dict[str, tuple[str, ...]]:
    return rules.wanted(plan(parse(data, "FILE")), family)


def listed(chains: rules.Chains) -> str:
    return "\n".join(rules.block("ip", chains))


CLEARED = "meta mark & 0x00001000 == 0x00001000 meta mark set meta mark & 0xffffe7ff"
DONE = ("meta mark & 0x00001c00 == 0x00001800 return", "meta mark & 0x00003f00 == 0x00001f00 return")


def established(queue: int, before: str = "") -> tuple[str, ...]:
    marks = ("0x00000800", "0x00000b00")
    return tuple(f"{before}meta mark & 0x00000f00 == {mark} goto queue_{queue}" for mark in marks)


TRANSLATED = "meta mark & 0x00001800 == 0x00001000 return"  # by the kernel, which spares the visit
ALL = {
    "queue_9": ("queue num 9", "drop"),
    "queue_7": ("queue num 7", "drop"),
    "queue_8": ("queue num 8", "drop"),
    "queue_10": ("queue num 10", "drop"),
    "prerouting": (
        "type filter hook prerouting priority -299; policy accept;",
        f'iifname "lo" {CLEARED}',
        'iifname "lo" return',
        "notrack",
        "meta mark & 0x00001800 == 0x00001000 goto queue_9",
        "goto queue_7",
        "meta l4proto tcp tproxy to :1",
    ),
    "input": ("type filter hook input priority 51; policy accept;", 'iifname "lo" return', *DONE, "goto queue_8"),
    "output": (
        "type filter hook output priority -299; policy accept;",
        CLEARED,
        'oifname "lo" return',
        "notrack",
        "goto queue_7",
    ),
    "postrouting": (
        "type filter hook postrouting priority -148; policy accept;",
        TRANSLATED,
        'oifname "lo" return',
        *DONE,
        *established(10),
        "goto queue_8",
    ),
}


def test_all_of_it() -> None:
    assert wanted(queue={"first": 7}) == ALL
    assert list(wanted()) == [
        "queue_2",
        "queue_0",
        "queue_1",
        "queue_3",
        "prerouting",
        "input",
        "output",
        "postrouting",
    ]


def test_without_recognition_every_mark_from_elsewhere_is_cleared_here() -> None:
    made = wanted(queue={"known_first": False})
    assert made["prerouting"][1:] == (CLEARED, 'iifname "lo" return', "notrack", "goto queue_0", ALL["prerouting"][-1])
    assert "queue_2" not in made


def test_observing_touches_nothing_but_what_comes_in() -> None:
    made = wanted(mode="observe", steering={"exclude_interfaces": []})
    assert made.keys() == {"prerouting", "output"}
    assert made["prerouting"][1:] == ("log group 9466 snaplen 256 queue-threshold 32",)
    queued = wanted(mode="observe", observe={"via": "nfqueue"}, steering={"exclude_interfaces": []})
    assert queued.keys() == {"queue_0", "prerouting", "output"}
    assert queued["prerouting"][1:] == ("goto queue_0",)


def test_with_the_kernels_tracking() -> None:
    nat = [
        {"in_interface": "ppp+", "proto": "tcp", "dport": 80, "action": "DNAT", "to": "10.0.0.1"},
        {"out_interface": "wan0", "action": "MASQUERADE"},
    ]
    made = wanted(steering={"kernel_conntrack": "keep", "exclude_interfaces": []}, nat=nat)
    error = "ct state related ct status ! expected,confirmed"
    assert made["prerouting"][1:] == ("meta mark & 0x00001800 == 0x00001000 goto queue_2", "goto queue_0")
    assert made["output"][1:] == (CLEARED, f"{error} return", "goto queue_0")
    errors = f"ct original ip daddr 10.0.0.1 {error} drop", f"{error} return"
    assert made["postrouting"][1:] == (
        TRANSLATED,
        *errors,
        *established(3, 'oifname "wan0" '),
        'oifname "wan0" goto queue_1',
        *DONE,
        *established(3),
        "goto queue_1",
    )
    assert rules.tracked(made)
    assert not rules.tracked(wanted())
    assert not rules.tracked({})


def test_a_packet_that_a_source_rule_can_match_is_queued_whatever_its_mark_says() -> None:
    names = ("wan0", "ppp+", "! docker0")
    made = wanted(nat=[{"out_interface": name, "action": "MASQUERADE"} for name in names])
    assert [line for line in made["postrouting"][3:] if "queue_3" not in line] == [
        'oifname "wan0" goto queue_1',
        'oifname "ppp*" goto queue_1',
        'oifname != "docker0" goto queue_1',
        *DONE,
        "goto queue_1",
    ]


def test_without_a_mask_every_packet_makes_all_its_visits() -> None:
    made = wanted(steering={"mark_mask": 0})
    assert not [line for chain in made.values() for line in chain if "mark" in line]


def test_without_the_routers_own_traffic_its_packets_pass_by_on_the_way_out() -> None:
    made = wanted(steering={"local": False})
    assert "fib saddr type local return" in made["postrouting"]
    assert "input" not in made


def test_failing_open_bypasses_the_queue() -> None:
    made = wanted(mode="track", queue={"fail_open": True})
    assert made["queue_0_bypass"] == ("queue num 0 bypass", "drop")
    assert rules.queue_number("queue_12_bypass") == (12, True)
    assert rules.queue_number("queue_12") == (12, False)


@pytest.mark.parametrize(("name", "written"), [("wg+", '"wg*"'), ("a*", '"a\\*"'), ("eth0", '"eth0"')])
def test_names_of_interfaces(name: str, written: str) -> None:
    assert wanted(steering={"exclude_interfaces": [name]})["input"][1] == f"iifname {written} return"


def test_every_interface_is_written_without_a_match() -> None:
    assert wanted(steering={"exclude_interfaces": ["+"]})["input"][1] == "return"


def test_a_family_left_out_gets_nothing() -> None:
    assert wanted("ipv6", steering={"families": ["ipv4"]}) == {}


@pytest.mark.parametrize("line", ["queue num 5", "queue to 5", "queue num 5 bypass", "queue flags bypass to 5"])
def test_a_queue_rule_is_recognised_in_every_form(line: str) -> None:
    name = "queue_5_bypass" if "bypass" in line else "queue_5"
    assert rules.found(listed({name: (line, "drop")})) == {name: (rules.queue_rule(name), "drop")}


def test_what_is_listed_is_read_again() -> None:
    text = "table ip conntrackd_py {\n\tset other {\n\t\ttype ipv4_addr\n\t}\n\n" + listed(ALL).partition("\n")[2]
    assert rules.found(text) == ALL


def test_a_chain_of_another_name_is_not_taken_for_a_queue() -> None:
    assert not rules.is_queue("queue_mine")
    assert rules.missing_queues({}, {"queue_mine": ("drop",)}) == []


def test_queue_chains_come_first_and_drop() -> None:
    assert rules.missing_queues({}, ALL) == ["queue_9", "queue_7", "queue_8", "queue_10"]
    assert rules.missing_queues({**ALL, "queue_7": ("drop",)}, ALL) == ["queue_7"]
    assert rules.missing_queues(ALL, ALL) == []
    assert rules.new_queues("ip6", ["queue_7"]) == (
        "add table ip6 conntrackd_py\n"
        "add chain ip6 conntrackd_py queue_7\n"
        "flush chain ip6 conntrackd_py queue_7\n"
        "add rule ip6 conntrackd_py queue_7 drop\n"
    )


def test_a_base_chain_that_stays_is_not_deleted() -> None:
    """Its deletion would drop the packets that wait in the queue."""
    before = {
        **wanted(),
        "queue_9": ("queue num 9", "drop"),
        "output": ("type filter hook output priority -301; policy accept;", "goto queue_9"),
        "odd": (),
    }
    lines = rules.transaction("ip", before, wanted()).splitlines()
    begin = lines.index("table ip conntrackd_py {")
    assert [line.split()[-1] for line in lines[:begin] if line.startswith("flush")] == [
        "prerouting", "input", "output", "postrouting", "queue_9", "odd",
    ]  # fmt: skip
    assert [line.split()[-1] for line in lines[:begin] if line.startswith("delete")] == ["output", "queue_9", "odd"]
    assert "queue_0 {" not in "\n".join(lines[begin:])


def test_removal_deletes_the_table() -> None:
    assert rules.transaction("ip", ALL, {}) == "delete table ip conntrackd_py\n"
    assert rules.transaction("ip", {}, {}) == "delete table ip conntrackd_py\n"
    assert rules.transaction("ip", None, {}) == ""


def test_status() -> None:
    assert rules.status(ALL, ALL) == "installed"
    assert rules.status(None, ALL) == "not installed"
    assert rules.status({}, ALL) == "not installed"
    assert rules.status({**ALL, "input": (), "odd": ()}, ALL) == (
        "partly installed: input, odd not as the configuration says"
    )


def test_the_explained_text_says_the_same() -> None:
    made = plan(parse({}, "FILE"))
    chains = rules.wanted(made, "ipv4")
    explained = rules.explained(made, "ipv4", chains)
    assert explained.count("#") == sum(len(lines) - 1 for name, lines in chains.items() if not rules.is_queue(name))
    assert [line for line in explained.splitlines() if "#" not in line] == rules.block("ip", chains)


def test_large_packets() -> None:
    chains = wanted(queue={"large_packets": "headers"})
    assert "meta mark & 0x00001800 == 0x00001000 goto queue_2" in chains["prerouting"]
    for mark in ("0x00000800", "0x00000b00"):
        assert f"meta mark & 0x00000f00 == {mark} goto queue_3" in chains["postrouting"]
    assert chains["queue_3"] == ("queue num 3", "drop")


def test_offload_lets_packets_pass_that_the_kernel_has_recognised_or_translated() -> None:
    nat = [{"out_interface": "wan0", "action": "MASQUERADE"}]
    made = wanted(offload={"mode": "established"}, nat=nat)
    queue = made["prerouting"].index("meta mark & 0x00001800 == 0x00001000 goto queue_2")
    assert made["prerouting"][queue - 2 : queue] == ("notrack", "meta mark & 0x00000800 == 0x00000800 return")
    assert made["postrouting"][1] == TRANSLATED
    without = wanted(nat=nat)
    assert made.keys() == without.keys()
    assert sum(map(len, made.values())) == sum(map(len, without.values())) + 1


@pytest.mark.parametrize("settings", [{"queue": {"large_packets": "whole"}}, {"mode": "track"}])
def test_where_the_kernel_translates_nothing_the_last_visit_is_made(settings: dict[str, Any]) -> None:
    assert TRANSLATED not in wanted(**settings)["postrouting"]
    assert TRANSLATED in wanted(**settings, offload={"mode": "established"})["postrouting"]

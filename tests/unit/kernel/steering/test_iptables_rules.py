"""The steering rules as text: what is written, what is recognised, and how one set replaces another."""

from conntrackd_py.kernel.steering import iptables_rules as rules
from conntrackd_py.kernel.steering.plan import plan
from conntrackd_py.settings.load import parse


def wanted(family: str = "ipv4", **data: object) -> dict[str, rules.Table]:
    return rules.wanted(plan(parse(data, "FILE")), family)


def save(restore: str) -> str:
    """What iptables-save would say after this restore text on empty tables."""
    return "\n".join(line for line in restore.splitlines() if not line.startswith(("-D", "-X")))


# Every table is there, and nothing in it.
EMPTY = rules.found("*mangle\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*security\nCOMMIT\n*raw\nCOMMIT\n")


def test_all_of_it() -> None:
    assert rules.transaction(EMPTY, wanted(queue={"first": 7})) == (
        """\
*mangle
:CONNTRACKD_PY_POST - [0:0]
-A CONNTRACKD_PY_POST -o lo -j RETURN
-A CONNTRACKD_PY_POST -m mark --mark 0x1800/0x1c00 -j RETURN
-A CONNTRACKD_PY_POST -m mark --mark 0x1f00/0x3f00 -j RETURN
-A CONNTRACKD_PY_POST -m mark --mark 0x800/0xf00 -j NFQUEUE --queue-num 10
-A CONNTRACKD_PY_POST -m mark --mark 0xb00/0xf00 -j NFQUEUE --queue-num 10
-A CONNTRACKD_PY_POST -j NFQUEUE --queue-num 8
-A POSTROUTING -j CONNTRACKD_PY_POST
COMMIT
*security
:CONNTRACKD_PY_IN - [0:0]
-A CONNTRACKD_PY_IN -i lo -j RETURN
-A CONNTRACKD_PY_IN -m mark --mark 0x1800/0x1c00 -j RETURN
-A CONNTRACKD_PY_IN -m mark --mark 0x1f00/0x3f00 -j RETURN
-A CONNTRACKD_PY_IN -j NFQUEUE --queue-num 8
-A INPUT -j CONNTRACKD_PY_IN
COMMIT
*raw
:CONNTRACKD_PY_PRE - [0:0]
:CONNTRACKD_PY_OUT - [0:0]
-A CONNTRACKD_PY_PRE -i lo -m mark --mark 0x1000/0x1000 -j MARK --set-xmark 0x0/0x1800
-A CONNTRACKD_PY_PRE -i lo -j RETURN
-A CONNTRACKD_PY_PRE -j CT --notrack
-A CONNTRACKD_PY_PRE -m mark --mark 0x1000/0x1800 -j NFQUEUE --queue-num 9
-A CONNTRACKD_PY_PRE -j NFQUEUE --queue-num 7
-A CONNTRACKD_PY_PRE -m socket
-A CONNTRACKD_PY_OUT -m mark --mark 0x1000/0x1000 -j MARK --set-xmark 0x0/0x1800
-A CONNTRACKD_PY_OUT -o lo -j RETURN
-A CONNTRACKD_PY_OUT -j CT --notrack
-A CONNTRACKD_PY_OUT -j NFQUEUE --queue-num 7
-A PREROUTING -j CONNTRACKD_PY_PRE
-A OUTPUT -j CONNTRACKD_PY_OUT
COMMIT
"""
    )


def test_offload_lets_packets_pass_that_the_kernel_has_recognised_or_translated() -> None:
    made = wanted(offload={"mode": "established"})
    at = made["raw"].rules.index("-A CONNTRACKD_PY_PRE -m mark --mark 0x800/0x800 -j RETURN")
    assert made["raw"].rules[at - 1] == "-A CONNTRACKD_PY_PRE -j CT --notrack"
    assert made["mangle"].rules[0] == "-A CONNTRACKD_PY_POST -m mark --mark 0x1000/0x1800 -j RETURN"


def test_observing_touches_nothing_but_raw() -> None:
    assert rules.transaction(EMPTY, wanted(mode="observe", steering={"exclude_interfaces": []})) == (
        """\
*raw
:CONNTRACKD_PY_PRE - [0:0]
:CONNTRACKD_PY_OUT - [0:0]
-A CONNTRACKD_PY_PRE -j NFLOG --nflog-group 9466 --nflog-size 256 --nflog-threshold 32
-A CONNTRACKD_PY_OUT -j NFLOG --nflog-group 9466 --nflog-size 256 --nflog-threshold 32
-A PREROUTING -j CONNTRACKD_PY_PRE
-A OUTPUT -j CONNTRACKD_PY_OUT
COMMIT
"""
    )


def test_without_the_routers_own_traffic_its_packets_pass_by_on_the_way_out() -> None:
    made = wanted(steering={"local": False})
    assert "-A CONNTRACKD_PY_POST -m addrtype --src-type LOCAL -j RETURN" in made["mangle"].rules
    assert made["security"] == rules.Table()


def test_failing_open_bypasses_the_queue() -> None:
    made = wanted(mode="track", queue={"fail_open": True})
    queued = [rule for table in made.values() for rule in table.rules if "NFQUEUE" in rule]
    assert queued
    assert all(rule.endswith("--queue-bypass") for rule in queued)


def test_a_family_left_out_gets_nothing() -> None:
    assert rules.transaction(EMPTY, wanted("ipv6", steering={"families": ["ipv4"]})) == ""


def test_a_table_we_make_is_remembered_in_the_table() -> None:
    made = rules.found(save(rules.transaction({}, wanted())))
    assert made.keys() == wanted().keys()
    assert all(table.created_by_us for table in made.values())
    assert rules.as_wanted(made, wanted())
    again = rules.found(save(rules.transaction(made, wanted())))
    assert again.keys() == made.keys()
    assert all(table.created_by_us for table in again.values()), "and still after an upgrade"


def test_a_table_of_another_program_is_not() -> None:
    assert not any(table.created_by_us for table in rules.found(save(rules.transaction(EMPTY, wanted()))).values())


def test_an_older_set_is_replaced_whole() -> None:
    older = rules.found(
        """\
*raw
:PREROUTING ACCEPT [0:0]
:CONNTRACKD_PY_OLD - [0:0]
:CONNTRACKD_PY_PRE - [0:0]
-A PREROUTING -j CONNTRACKD_PY_PRE
-A PREROUTING -i eth0 -j CONNTRACKD_PY_OLD
-A PREROUTING -s 192.0.2.1/32 -j DROP
-A CONNTRACKD_PY_PRE -j NFQUEUE --queue-num 3
COMMIT
"""
    )
    assert rules.transaction(older, wanted(mode="observe", observe={"via": "nfqueue"}, steering={"local": False})) == (
        """\
*raw
:CONNTRACKD_PY_PRE - [0:0]
:CONNTRACKD_PY_OLD - [0:0]
-D PREROUTING -j CONNTRACKD_PY_PRE
-D PREROUTING -i eth0 -j CONNTRACKD_PY_OLD
-A CONNTRACKD_PY_PRE -i lo -j RETURN
-A CONNTRACKD_PY_PRE -j NFQUEUE --queue-num 0
-A PREROUTING -j CONNTRACKD_PY_PRE
-X CONNTRACKD_PY_OLD
COMMIT
"""
    )


def test_removal_goes_the_other_way_round() -> None:
    installed = rules.found(save(rules.transaction(EMPTY, wanted())))
    text = rules.transaction(installed, wanted("ipv6", steering={"families": ["ipv4"]}))
    assert [line for line in text.splitlines() if line.startswith("*")] == ["*raw", "*security", "*mangle"]
    assert "-A " not in text


def test_only_an_empty_table_of_ours_is_left_over() -> None:
    installed = rules.found(save(rules.transaction({}, wanted())))
    now = rules.found(
        """\
*mangle
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -j MARK --set-xmark 0x1/0x1
COMMIT
*security
:INPUT DROP [0:0]
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
"""
    )
    assert rules.leftovers(installed, now) == {"raw": ("PREROUTING", "OUTPUT")}


def test_status() -> None:
    installed = rules.found(save(rules.transaction(EMPTY, wanted())))
    assert rules.status(installed, wanted()) == "installed"
    assert rules.status(EMPTY, wanted()) == "not installed"
    raw_only = {**EMPTY, "raw": installed["raw"]}
    assert rules.status(raw_only, wanted()) == "partly installed: mangle, security not as the configuration says"
    assert not rules.as_wanted(installed, wanted(queue={"first": 1}))
    assert not rules.as_wanted(installed, wanted("ipv6", steering={"families": ["ipv4"]}))


def test_rules_behind_our_jump_are_pointed_out() -> None:
    now = rules.found(
        """\
*mangle
:POSTROUTING ACCEPT [0:0]
:CONNTRACKD_PY_POST - [0:0]
-A POSTROUTING -j MARK --set-xmark 0x1/0x1
-A POSTROUTING -j CONNTRACKD_PY_POST
-A POSTROUTING -j MARK --set-xmark 0x2/0x2
-A PREROUTING -j MARK --set-xmark 0x3/0x3
COMMIT
"""
    )
    assert rules.bypassed(now) == ["mangle: -A POSTROUTING -j MARK --set-xmark 0x2/0x2"]
    table = now["mangle"]
    copying = rules.Table(
        table.chains, ("-A CONNTRACKD_PY_POST -j NFLOG --nflog-group 1",), table.jumps, (), table.after_jump
    )
    assert rules.bypassed({"mangle": copying}) == []


def test_the_explained_text_says_the_same() -> None:
    made = plan(parse({}, "FILE"))
    text = rules.transaction(EMPTY, rules.wanted(made, "ipv4"))
    explained = rules.explained(made, "ipv4", text)
    assert explained.count("#") == explained.count(f"-A {rules.PREFIX}")
    assert [line for line in explained.splitlines() if not line.startswith("#")] == text.splitlines()


def test_with_the_kernels_tracking() -> None:
    made = wanted(
        steering={"kernel_conntrack": "keep", "exclude_interfaces": []},
        nat=[
            {"in_interface": "wan0", "proto": "tcp", "dport": 80, "action": "DNAT", "to": "10.0.0.1"},
            {"out_interface": "wan0", "action": "MASQUERADE"},
        ],
    )
    error = "-m conntrack --ctstate RELATED -m conntrack ! --ctstatus EXPECTED,CONFIRMED"
    clear = "-m mark --mark 0x1000/0x1000 -j MARK --set-xmark 0x0/0x1800"
    assert made["raw"].rules == (
        "-A CONNTRACKD_PY_PRE -m mark --mark 0x1000/0x1800 -j NFQUEUE --queue-num 2",
        "-A CONNTRACKD_PY_PRE -j NFQUEUE --queue-num 0",
        f"-A CONNTRACKD_PY_OUT {clear}",
        f"-A CONNTRACKD_PY_OUT {error} -j RETURN",
        "-A CONNTRACKD_PY_OUT -j NFQUEUE --queue-num 0",
    )
    established = [f"-m mark --mark {mark} -j NFQUEUE --queue-num 3" for mark in ("0x800/0xf00", "0xb00/0xf00")]
    assert made["mangle"].rules == (
        f"-A CONNTRACKD_PY_POST {error} -m conntrack --ctorigdst 10.0.0.1 -j DROP",
        f"-A CONNTRACKD_PY_POST {error} -j RETURN",
        *(f"-A CONNTRACKD_PY_POST -o wan0 {rule}" for rule in established),
        "-A CONNTRACKD_PY_POST -o wan0 -j NFQUEUE --queue-num 1",
        "-A CONNTRACKD_PY_POST -m mark --mark 0x1800/0x1c00 -j RETURN",
        "-A CONNTRACKD_PY_POST -m mark --mark 0x1f00/0x3f00 -j RETURN",
        *(f"-A CONNTRACKD_PY_POST {rule}" for rule in established),
        "-A CONNTRACKD_PY_POST -j NFQUEUE --queue-num 1",
    )
    assert rules.tracked(made)
    assert not rules.tracked(wanted())
    assert not rules.tracked(EMPTY)


def test_large_packets() -> None:
    tables = wanted(queue={"large_packets": "headers"})
    assert "-A CONNTRACKD_PY_PRE -m mark --mark 0x1000/0x1800 -j NFQUEUE --queue-num 2" in tables["raw"].rules
    for mark in ("0x800/0xf00", "0xb00/0xf00"):
        rule = f"-A CONNTRACKD_PY_POST -m mark --mark {mark} -j NFQUEUE --queue-num 3"
        assert rule in tables["mangle"].rules

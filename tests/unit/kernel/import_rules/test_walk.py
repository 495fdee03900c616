"""Jumps, returns and base chains. The same with random chains, beside the kernel: tests/oracle/test_import_rules.py."""

from typing import Any

import pytest

from conntrackd_py.kernel.import_rules.conditions import Value
from conntrackd_py.kernel.import_rules.walk import (
    ACCEPT,
    GOTO,
    JUMP,
    NAT,
    RAW,
    RETURN,
    Base,
    Entry,
    UnusableError,
    rules,
)

LAN, WAN = {"in_interface": Value(("lan",))}, {"in_interface": Value(("wan",))}
NOT_LAN = {"in_interface": Value(("lan",), True)}
TCP = {"proto": Value(("tcp",))}
V4 = {"family": Value(("ipv4",))}


def entry(does: str, when: dict[str, Value] | None = None, action: str = "") -> Entry:
    return Entry(0, f"{does} {action}", does, when or {}, action)


def dnat(when: dict[str, Value] | None = None, action: str = "DNAT") -> Entry:
    return entry(NAT, when, action)


def base(*entries: Entry, hook: str = "prerouting", kind: str = NAT, priority: int = 0, **chains: list[Entry]) -> Base:
    return Base(kind, hook, priority, "ip", list(entries), chains)


def walked(*bases: Base) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """(action, conditions without the family) of each rule, and the problems."""
    problems: list[str] = []
    found = rules(list(bases), lambda _, why: problems.append(why))
    return [(one.action, {key: one.when[key] for key in one.when if key != "family"}) for one in found], problems


def test_a_jump_adds_its_conditions() -> None:
    assert walked(base(entry(JUMP, LAN, "a"), dnat(), a=[dnat(TCP)])) == (
        [("DNAT", LAN | TCP), ("DNAT", {})],
        [],
    )


def test_conditions_that_exclude_each_other_leave_no_rule() -> None:
    assert walked(base(entry(JUMP, LAN, "a"), a=[dnat(WAN)])) == ([], [])


def test_a_return_excludes_its_packets_from_the_rest_of_its_chain_only() -> None:
    one = base(entry(JUMP, TCP, "a"), dnat(WAN), dnat(), a=[entry(RETURN, LAN), dnat()])
    assert walked(one) == ([("DNAT", TCP | NOT_LAN), ("DNAT", WAN), ("DNAT", {})], [])


def test_a_return_after_which_nothing_follows_is_accept() -> None:
    one = base(entry(JUMP, TCP, "a"), a=[entry(RETURN, LAN), dnat()])
    assert walked(one) == ([("ACCEPT", TCP | LAN), ("DNAT", TCP)], [])


def test_after_a_goto_the_caller_goes_on() -> None:
    one = base(entry(JUMP, {}, "a"), dnat(), a=[entry(GOTO, LAN, "b"), dnat(TCP)], b=[dnat(TCP)])
    assert walked(one) == ([("DNAT", LAN | TCP), ("DNAT", NOT_LAN | TCP), ("DNAT", {})], [])


def test_after_a_goto_of_the_base_chain_its_policy_accepts() -> None:
    one = base(entry(GOTO, LAN, "a"), dnat(), a=[dnat(TCP)])
    assert walked(one) == ([("DNAT", LAN | TCP), ("ACCEPT", LAN), ("DNAT", {})], [])


def test_accept_ends_only_its_base_chain() -> None:
    """A later base chain of the same hook sees the packets."""
    first = base(entry(JUMP, {}, "a"), dnat(TCP), a=[entry(ACCEPT, LAN)], priority=-1)
    later = base(dnat(LAN))
    assert walked(later, first) == ([("DNAT", NOT_LAN | TCP), ("DNAT", LAN)], [])


def test_base_chains_of_two_families_do_not_see_each_other() -> None:
    first = base(entry(ACCEPT, LAN), dnat(), priority=-1)
    later = base(dnat())
    later.family = "ip6"
    assert walked(first, later)[0] == [("ACCEPT", LAN), ("DNAT", {}), ("DNAT", {})]


def test_an_accept_before_nothing_is_left_out() -> None:
    assert walked(base(dnat(LAN), entry(ACCEPT, TCP))) == ([("DNAT", LAN)], [])


def test_rules_after_one_for_all_packets_stay() -> None:
    """The configuration may refuse the first one."""
    assert walked(base(dnat(), dnat(LAN))) == ([("DNAT", {}), ("DNAT", LAN)], [])


def test_raw_rules_have_no_accept() -> None:
    one = base(entry(ACCEPT, LAN), entry(RAW), kind=RAW)
    assert walked(one) == ([("", NOT_LAN)], [])


def test_a_chain_reached_twice_gives_its_rules_twice() -> None:
    one = base(entry(JUMP, LAN, "a"), entry(JUMP, WAN, "a"), a=[dnat()])
    assert walked(one) == ([("DNAT", LAN), ("DNAT", WAN)], [])


def test_what_cannot_be_translated_is_reported_and_left_out() -> None:
    broken = entry(NAT, LAN, "DNAT")
    broken.problem = "-m quota has no counterpart"
    marked = dnat({"mark": Value(("0x1",))})
    one = base(broken, marked, entry(JUMP, {}, "missing"), dnat(TCP))
    found, problems = walked(one)
    assert found == [("DNAT", TCP)]
    assert problems[0] == "-m quota has no counterpart"
    assert "before the rules of mangle set a mark" in problems[1]
    assert problems[2] == "the chain missing is missing"


def test_a_return_that_cannot_be_inverted_is_reported() -> None:
    one = base(entry(JUMP, {}, "a"), dnat(), a=[entry(RETURN, {"ct": Value(("ct state new",))}), dnat(LAN)])
    assert walked(one) == ([("DNAT", LAN), ("DNAT", {})], ["the opposite of a ct expression is needed"])


def test_a_circle_of_jumps() -> None:
    with pytest.raises(UnusableError, match="in a circle"):
        walked(base(entry(JUMP, {}, "a"), a=[entry(JUMP, {}, "a")]))


def test_chains_that_multiply() -> None:
    """Each chain jumps ten times to the next one."""
    chains = {str(at): [entry(JUMP, {}, str(at + 1))] * 10 for at in range(12)}
    with pytest.raises(UnusableError, match="too many"):
        walked(Base(NAT, "prerouting", 0, "ip", chains["0"], chains | {"12": []}))
    chains["3"] = [dnat(TCP)] * 100
    with pytest.raises(UnusableError, match="more than 10000 rules"):
        walked(Base(NAT, "prerouting", 0, "ip", chains["0"], chains))

"""The JSON of nft, as the doctor understands it."""

import json
from typing import Any

import pytest

from conntrackd_py.kernel.doctor.nft_json import read, rule, texts
from conntrackd_py.kernel.doctor.ruleset import ACCEPT, CT_WRITE, DROP, OFFLOAD, QUEUE, TEMPLATE, TPROXY, TRANSLATE

MARK = {"meta": {"key": "mark"}}
CT_MARK = {"ct": {"key": "mark"}}
CHAIN = {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "forward", "prio": -150}


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def ruleset(*expressions: Any) -> str:
    rules = [
        {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": at, "expr": expr}}
        for at, expr in enumerate(expressions)
    ]
    return json.dumps({"nftables": [{"metainfo": {}}, {"chain": CHAIN}, *rules]})


def test_a_rule_has_its_text_and_handle() -> None:
    listing = 'table inet t { # handle 9\n\tchain c { # handle 1\n\t\tcounter comment "x" # handle 0\n\t}\n}\n'
    chains, unread = read(ruleset([{"accept": None}]), listing, set())
    assert unread == 0
    assert (chains[0].hook, chains[0].priority, chains[0].policy) == ("forward", -150, ACCEPT)
    assert chains[0].rules[0].text == 'counter comment "x" # handle 0'
    assert texts(listing)["inet", "t", 0] == 'counter comment "x"'


def test_tables_that_iptables_shows_are_skipped() -> None:
    assert read(ruleset([{"accept": None}]), "", {("inet", "t")}) == ([], 0)


@pytest.mark.parametrize(
    ("statement", "does"),
    [
        ({"reject": {"type": "icmpx", "expr": "port-unreachable"}}, {DROP}),
        ({"queue": {"num": {"range": [3, 5]}}}, {QUEUE}),
        ({"queue": None}, {QUEUE}),
        ({"dnat": {"addr": "10.0.0.1"}}, {TRANSLATE}),
        ({"flow": {"op": "add", "flowtable": "@ft"}}, {OFFLOAD}),
        ({"tproxy": {"port": 50080}}, {TPROXY}),
        ({"ct helper": "ftp"}, {CT_WRITE}),
        ({"mangle": {"key": CT_MARK, "value": MARK}}, {CT_WRITE}),
        ({"mangle": {"key": {"ct": {"key": "zone"}}, "value": 3}}, {TEMPLATE}),
        ({"vmap": {"key": MARK, "data": {"set": [[1, {"drop": None}], [2, {"accept": None}]]}}}, {ACCEPT, DROP}),
        ({"log": {"prefix": "x"}}, set()),
    ],
)
def test_what_a_statement_does(statement: dict[str, Any], does: set[str]) -> None:
    assert rule([statement], "").does == does


@pytest.mark.parametrize(
    ("value", "bits", "restores"),
    [
        (5, 0xFFFFFFFF, False),
        ({"|": [MARK, 5]}, 0x5, False),
        ({"&": [MARK, 0xFF]}, 0xFFFFFF00, False),
        ({"|": [{"&": [MARK, 0xFFFFFF00]}, 1]}, 0xFF, False),
        ({"^": [MARK, 6]}, 0x6, False),
        (CT_MARK, 0xFFFFFFFF, True),
        ({"&": [CT_MARK, 0xFF]}, 0xFFFFFFFF, True),
        ({"map": {"key": {"meta": {"key": "iifname"}}, "data": "@marks"}}, 0xFFFFFFFF, False),
    ],
)
def test_which_bits_of_the_mark_it_writes(value: Any, bits: int, restores: bool) -> None:
    found = rule([{"mangle": {"key": MARK, "value": value}}], "")
    assert (found.writes_mark, found.restores) == (bits, restores)


def test_matches() -> None:
    prefix = {"prefix": {"addr": "10.0.0.0", "len": 8}}
    payload = {"payload": {"protocol": "tcp", "field": "dport"}}
    found = rule(
        [
            match({"meta": {"key": "iifname"}}, "wg*"),
            match({"payload": {"protocol": "ip", "field": "saddr"}}, prefix),
            match(payload, 80),
            match({"&": [MARK, 0xF0]}, 0x10),
            match({"ct": {"key": "state"}}, ["new", "untracked"], "in"),
        ],
        "",
    )
    assert (found.in_interface, found.source, found.proto, found.dports) == ("wg+", "10.0.0.0/8", "tcp", (80, 80))
    assert (found.compares_mark, found.states, found.inverted, found.narrow) == (
        0xF0,
        {"new", "untracked"},
        False,
        True,
    )
    assert not rule([match({"meta": {"key": "oifname"}}, "wan0"), {"drop": None}], "").narrow


def test_a_verdict_map_of_states() -> None:
    data = {"set": [["established", {"accept": None}], ["new", {"jump": {"target": "fresh"}}]]}
    found = rule([{"vmap": {"key": {"ct": {"key": "state"}}, "data": data}}], "")
    assert (found.ct, found.states, found.jumps) == (True, {"established", "new"}, {"fresh"})


@pytest.mark.parametrize("expr", [None, [5], [{"xt": {"type": "target", "name": "CT"}}], [{"match": {}}], [{}]])
def test_a_rule_that_is_not_understood_is_counted(expr: Any) -> None:
    chains, unread = read(ruleset(expr, [{"accept": None}]), "", set())
    assert (unread, len(chains[0].rules)) == (1, 1)


@pytest.mark.parametrize("text", ["{", "[]", '{"nftables": 5}', "null"])
def test_a_text_that_is_no_ruleset(text: str) -> None:
    chains, _ = read(text, "", set())
    assert chains == []

"""The doctor never fails: whatever a ruleset holds, a rule is understood or counted."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.cli.conntrackd.rules_check import grouped
from conntrackd_py.kernel.doctor import iptables_save, nft_json
from conntrackd_py.kernel.doctor.diagnosis import judged
from conntrackd_py.kernel.doctor.machine import Machine
from conntrackd_py.kernel.doctor.ruleset import Ruleset
from conntrackd_py.settings.load import parse

SETTINGS = [
    parse({"mode": mode, "nat": [{"action": "MASQUERADE", "source": "10.0.0.0/8"}]}, "FILE")
    for mode in ("nat", "track", "observe")
]
WORDS = (
    "-A -j -g -m -i -o -s -p ! ACCEPT DROP RETURN CT MARK CONNMARK NFQUEUE MASQUERADE TPROXY FORWARD POSTROUTING USER "
    "CONNTRACKD_PY_POST conntrack mark connmark comment --ctstate NEW,ESTABLISHED UNTRACKED --mark --set-xmark 0x1 "
    "0x1/0xff --restore-mark --nfmask --queue-num --queue-balance 0:3 --dport 80:90 --comment ' \" \\ \x1b[31m \udcff "
    "--notrack lan0 10.0.0.0/8 tcp x/y"
)
LINES = st.lists(st.sampled_from(WORDS.split(" ")), max_size=12).map(" ".join)
TABLES = st.sampled_from(("raw", "mangle", "nat", "filter", "security", "other"))
CHAINS = st.sampled_from(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "USER"))


@st.composite
def saves(draw: st.DrawFn) -> str:
    lines = []
    for table in draw(st.lists(TABLES, max_size=3)):
        lines += [f"*{table}", *(f":{chain} DROP [0:0]" for chain in draw(st.lists(CHAINS, max_size=4)))]
        lines += [f"-A {draw(CHAINS)} {rest}" for rest in draw(st.lists(LINES, max_size=6))]
        lines += [draw(LINES), "COMMIT"]
    return "\n".join(lines)


KEY_NAMES = (
    "match op left right == != in ct key state mark status meta payload protocol field saddr dport iifname mangle "
    "value vmap data set queue num range jump target accept drop flow tproxy notrack snat prefix addr len limit & | ^"
)
KEYS = st.sampled_from(KEY_NAMES.split())
LEAVES = st.none() | st.booleans() | st.integers(-5, 1 << 33) | KEYS | st.text(max_size=5)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)
STATEMENTS = JSON | st.lists(
    st.builds(lambda left, right: {"match": {"op": "==", "left": left, "right": right}}, JSON, JSON)
    | st.builds(lambda key, value: {"mangle": {"key": key, "value": value}}, JSON, JSON)
    | st.builds(lambda key, data: {"vmap": {"key": key, "data": {"set": data}}}, JSON, JSON)
    | st.dictionaries(KEYS, JSON, min_size=1, max_size=1),
    max_size=4,
)


def examined(ruleset: Ruleset) -> str:
    """Every line that would be printed, in every mode."""
    return "\n".join(line for settings in SETTINGS for line in grouped(judged(settings, ruleset, Machine())))


@given(saves())
def test_iptables(text: str) -> None:
    chains, unread = iptables_save.read(text, "iptables", "ip")
    shown = examined(Ruleset(chains, unread))
    assert all(line.isprintable() for line in shown.split("\n"))
    assert ("not understood" in shown) is bool(unread)


@given(st.lists(STATEMENTS, max_size=4), JSON)
def test_nft(rules: list[Any], other: Any) -> None:
    chain = {"family": "inet", "table": "t", "name": "c", "hook": "forward", "prio": 0}
    made = [{"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 1, "expr": expr}} for expr in rules]
    text = json.dumps({"nftables": [{"chain": chain}, *made, {"rule": other}, {"chain": other}, other]})
    chains, unread = nft_json.read(text, "", set())
    shown = examined(Ruleset(chains, unread))
    assert sum(len(found.rules) for found in chains) + unread >= len(rules)
    assert all(line.isprintable() for line in shown.split("\n"))


@given(JSON | st.text())
def test_no_ruleset_at_all(value: Any) -> None:
    for text in (json.dumps(value), str(value)):
        chains, unread = nft_json.read(text, str(value), set())
        examined(Ruleset(chains, unread))
        assert unread >= 0

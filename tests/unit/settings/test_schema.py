"""The chains of a [filter] table."""

import tomllib

from conntrackd_py.const import FORWARD, LOCAL_IN, NF_ACCEPT, NF_DROP
from conntrackd_py.settings.load import parse
from conntrackd_py.settings.schema import Filter

CHAIN = "table ip t { chain c { type filter hook forward priority 0; policy drop; } }"


def settings(text: str) -> Filter:
    return parse(tomllib.loads(text), "FILE").filter


def test_no_filter() -> None:
    assert settings("").policy() is None
    assert settings("[filter]\ndefault_in = 'accept'").chains() == []


def test_defaults_make_chains() -> None:
    chains = settings("[filter]\ndefault_in = 'drop'\ndefault_forward = 'drop'").chains()
    assert [(chain.hook, chain.default, chain.rules) for chain in chains] == [
        (LOCAL_IN, NF_DROP, []),
        (FORWARD, NF_DROP, []),
    ]


def test_a_rule_stands_at_each_of_its_hooks_and_before_the_ruleset() -> None:
    found = settings(
        f"""
        [filter]
        nft = "{CHAIN}"
        [[filter.rule]]
        hooks = ["in", "forward"]
        action = "accept"
        [[filter.rule]]
        hook = "forward"
        action = "drop"
        """
    )
    assert [(chain.hook, len(chain.rules), chain.default, chain.label) for chain in found.chains()] == [
        (LOCAL_IN, 1, NF_ACCEPT, "filter"),
        (FORWARD, 2, NF_ACCEPT, "filter"),
        (FORWARD, 0, NF_DROP, "t c"),
    ]
    policy = found.policy()
    assert policy is not None
    assert [len(chains) for chains in policy.chains] == [0, 1, 2, 0, 0]

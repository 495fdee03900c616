"""Which base chains reach a chain, and what a rule may do through its jumps."""

from conntrackd_py.kernel.doctor.ruleset import ACCEPT, DROP, Chain, Rule, Ruleset, base_priority, tolerant


def chain(name: str, *rules: Rule, hook: str = "", table: str = "filter", policy: str = ACCEPT) -> Chain:
    return Chain("iptables", "ip", table, name, hook, policy=policy, rules=list(rules))


def jump(target: str) -> Rule:
    return Rule(f"-j {target}", jumps={target})


ACCEPTING = Rule("-j ACCEPT", does={ACCEPT})
LOOP = Ruleset(
    [
        chain("FORWARD", jump("A"), hook="forward"),
        chain("INPUT", jump("B"), hook="input", policy=DROP),
        chain("A", jump("B"), jump("MISSING")),
        chain("B", jump("A"), ACCEPTING),  # no kernel accepts a loop; the doctor must end anyway
        chain("A", ACCEPTING, table="mangle"),
    ]
)


def named(name: str, table: str = "filter") -> Chain:
    return LOOP.chains["iptables", "ip", table, name]


def test_the_base_chains_that_reach_a_chain() -> None:
    assert [base.name for base in LOOP.bases(named("B"))] == ["FORWARD", "INPUT"]
    assert LOOP.bases(named("A", "mangle")) == []


def test_a_rule_does_what_the_chains_behind_it_do() -> None:
    forward = named("FORWARD")
    assert LOOP.effects(forward, forward.rules[0]) == {ACCEPT}
    assert LOOP.effects(forward, jump("MISSING")) == set()


def test_a_base_chain_drops_by_its_policy_or_by_a_rule_for_everything() -> None:
    assert LOOP.drops(named("INPUT"))
    assert not LOOP.drops(named("FORWARD"))
    for narrow in (True, False):
        base = chain("FORWARD", Rule("-j DROP", does={DROP}, narrow=narrow), hook="forward")
        assert Ruleset([base]).drops(base) is not narrow


def test_priorities_of_iptables() -> None:
    assert [base_priority("nat", hook) for hook in ("prerouting", "postrouting")] == [-100, 100]
    assert base_priority("security", "input") == 50


def test_items_that_fail_are_counted() -> None:
    assert tolerant(["1", "x", None, "2"], lambda item: print(int(str(item)))) == 2

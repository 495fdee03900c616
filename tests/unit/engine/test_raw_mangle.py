"""One operation a hook; conversations/test_assign says what the rules do."""

from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import LOCAL_OUT, PRE_ROUTING
from conntrackd_py.engine.raw_mangle import MARK_SET, MarkRule, mangles_by_hook
from conntrackd_py.match.match import Match
from conntrackd_py.proto.standard import standard_protos


def test_only_hooks_with_rules_have_an_operation() -> None:
    core = Conntrack(standard_protos(Tunables()), Tunables(), Repeatable())
    rules = [MarkRule(Match(), MARK_SET, value=1, hooks=(PRE_ROUTING, LOCAL_OUT))]
    found = mangles_by_hook(core, rules, {}, 0)
    assert [mangle is not None for mangle in found] == [True, False, False, True, False]

"""What a rule must still match for packets that are not queued; the hooks: test_iptables_text.py, test_nft_text.py."""

import pytest

from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.doctor.ruleset import Chain, Rule, Ruleset
from conntrackd_py.kernel.translate.places import BOTH, NEVER_QUEUED, NOTE, ONLY_QUEUED, Remark, Translation, unqueued
from conntrackd_py.settings.schema import Settings, Steering


@pytest.mark.parametrize(
    ("interface", "excluded", "kind"),
    [
        ("wan0", ("mgmt0",), ONLY_QUEUED),
        ("mgmt0", ("mgmt0",), NEVER_QUEUED),
        ("mgmt+", ("mgmt0",), BOTH),
        ("mgmt*", ("mgmt0",), BOTH),
        ("", ("mgmt0",), BOTH),
        ("", ("lo",), ONLY_QUEUED),
        ("", (), ONLY_QUEUED),
    ],
)
def test_by_interface(interface: str, excluded: tuple[str, ...], kind: int) -> None:
    chain = Chain("nft", "inet", "t", "c", hook="forward")
    settings = Settings(steering=Steering(exclude_interfaces=excluded))
    rule = Rule("", in_interface=interface)
    assert unqueued(Context(settings), Ruleset([chain]), chain, rule) == kind


def test_notes_leave_a_translation_complete() -> None:
    assert Translation("", remarks=[Remark(NOTE, 1, "", "")]).complete
    assert not Translation("", remarks=[Remark("translated in part", 1, "", "")]).complete

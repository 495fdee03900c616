"""Rules of nft: one in, the translated one out."""

import pytest

from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.translate.nft_text import translate, without
from conntrackd_py.settings.schema import Settings, Steering

KEY = "meta mark & 0x00000f00"
PASSED = f"{KEY} == {{ 0x00000800, 0x00000900, 0x00000b00, 0x00000c00 }}"


def chain(rule: str, base: str = "type filter hook forward priority 0; policy drop;") -> str:
    return f"flush ruleset\ntable inet t {{\n    chain c {{\n        {base}\n        {rule}\n    }}\n}}\n"


def context(*excluded: str) -> Context:
    return Context(Settings(steering=Steering(exclude_interfaces=excluded)))


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("ct state established,related accept", f"{PASSED} accept"),
        ("ct state established | related counter accept", f"{PASSED} counter accept"),
        ("ct state { established, related } accept # ct state new", f"{PASSED} accept # ct state new"),
        ("ct state {\n established,\n related\n } accept", f"{PASSED} accept"),
        (
            'iifname "ct" ct state == new accept comment "ct state"',
            f'iifname "ct" {KEY} == 0x00000a00 accept comment "ct state"',
        ),
        ("ct state != { new, invalid, untracked } accept", f"{PASSED} accept"),
        ("ct state ! new,invalid,untracked accept", f"{PASSED} accept"),
        ("tcp dport {22, 80} ct state new jump x", f"tcp dport {{22, 80}} {KEY} == 0x00000a00 jump x"),
        ("ct direction reply accept", f"{KEY} == {{ 0x00000b00, 0x00000c00 }} accept"),
        ("ct direction != original accept", f"{KEY} == {{ 0x00000b00, 0x00000c00 }} accept"),
        (
            "ct state vmap { established:accept, related : jump x, invalid : drop, * : drop }",
            f"{KEY} vmap {{ 0x00000800 : accept, 0x00000b00:accept, 0x00000900 : jump x, 0x00000c00 : jump x, "
            "0x00000d00 : drop, * : drop }",
        ),
        ("ct state new ct direction original accept", f"{KEY} == 0x00000a00 {KEY} == {{ 0x00000800, 0x00000900, "),
    ],
)
def test_a_rule_stays_one_rule(rule: str, wanted: str) -> None:
    done = translate(chain(rule), context("lo"))
    assert (done.translated, done.remarks) == (1, [])
    assert done.text.startswith(chain(wanted).removesuffix("\n    }\n}\n"))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("ct status dnat accept", "ct status"),
        ("ct state new ct mark 5 accept", "ct mark"),
        ("meta mark set ct mark", "ct mark"),
        ("ct original ip saddr 10.0.0.1 accept", "ct original"),
        ("tcp dport 22 ct state new ct count over 9 drop", "ct count"),
        ("ct state . iifname { new . lo } accept", "concatenation"),
        ("iifname . ct state vmap { lo . new : accept }", "concatenation"),
        ("ct state != established,related drop", "in braces"),
        ("ct state $mine accept", r"$mine"),
        ("ct state @mine accept", r"@mine"),
        ("ct state & (established|related) == established accept", "& is no state"),
        ("ct state vmap @verdicts", "named map"),
        ("ct state vmap { new . lo : accept }", "element"),
        ("ct state vmap { 8 : accept }", "8 is no state"),
        ("ct direction != { original, reply } drop", "matches no packet"),
    ],
)
def test_what_stays_is_listed_with_its_line(rule: str, why: str) -> None:
    done = translate(chain(rule), context("lo"))
    assert done.text == chain(rule)
    assert [(remark.kind, remark.line, remark.rule) for remark in done.remarks] == [("not translated", 5, rule)]
    assert why in done.remarks[0].why


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ("type filter hook output priority filter", "OUTPUT"),
        ("type filter hook prerouting priority raw - 10", "PREROUTING, priority -310"),
        ("type filter hook prerouting priority -300", "PREROUTING, priority -300"),
        ("type filter hook input priority 60", "INPUT, priority 60"),
        ("type nat hook postrouting priority srcnat", "NAT chains"),
    ],
)
def test_hooks_where_the_mark_has_no_state(base: str, why: str) -> None:
    text = chain("ct state new accept", base)
    done = translate(text, context("lo"))
    assert done.text == text
    assert [remark.why.startswith(why) for remark in done.remarks] == [True]


def test_mangle_postrouting_lacks_the_state_of_the_routers_own_packets() -> None:
    done = translate(chain("ct state new accept", "type filter hook postrouting priority mangle"), context("lo"))
    assert [remark.kind for remark in done.remarks] == ["translated in part"]
    assert f"{KEY} == 0x00000a00 accept" in done.text


def test_bridges_are_not_queued() -> None:
    text = chain("ct state new accept").replace("inet", "bridge")
    assert translate(text, context("lo")).text == text


def test_commands_are_rules_too() -> None:
    text = (
        "add table t\nadd chain ip t c { type filter hook forward priority 0 ; }\n"
        "add rule t c ct state new accept\ninsert rule ip t c index 0 ct state { invalid } drop; add rule t c accept\n"
    )
    done = translate(text, context("lo"))
    assert done.remarks == []
    assert done.text == text.replace("ct state new", f"{KEY} == 0x00000a00").replace(
        "ct state { invalid }", f"{KEY} == 0x00000d00"
    )


def test_an_included_file_is_listed() -> None:
    done = translate('flush ruleset\ninclude "/etc/nftables.d/*.nft"\n', context("lo"))
    assert [(remark.kind, remark.line, remark.rule) for remark in done.remarks] == [
        ("not translated", 2, 'include "/etc/nftables.d/*.nft"')
    ]


def test_packets_that_are_not_queued_keep_the_rule() -> None:
    done = translate(chain('oifname "wan0" ct state new accept'), context("mgmt0"))
    lines = [line for line in done.text.split("\n") if "wan0" in line]
    assert lines == [
        '        meta mark & 0x00000800 == 0x00000000 oifname "wan0" ct state new accept',
        f'        oifname "wan0" {KEY} == 0x00000a00 accept',
    ]


def test_a_command_is_doubled_with_its_chain() -> None:
    text = "add chain t c { type filter hook forward priority 0; }\nadd rule t c ct state new accept\n"
    assert translate(text, context("mgmt0")).text.split("\n")[1:] == [
        "add rule t c meta mark & 0x00000800 == 0x00000000 ct state new accept",
        f"add rule t c {KEY} == 0x00000a00 accept",
        "",
    ]
    replaced = translate(text.replace("add rule t c", "replace rule t c handle 4"), context("mgmt0"))
    assert [remark.kind for remark in replaced.remarks] == ["not translated"]


@pytest.mark.parametrize(
    ("rule", "doubled"),
    [('iifname "mgmt0" ct state new accept', None), ('iifname "wan0" ct state new accept', False)],
)
def test_rules_with_an_interface_are_not_doubled(rule: str, doubled: bool | None) -> None:
    done = translate(chain(rule), context("mgmt0"))
    assert (done.text == chain(rule)) == (doubled is None)
    assert "0x00000800" not in done.text


def test_loopback_packets_that_no_rule_accepts_keep_the_rule() -> None:
    base = "type filter hook input priority 0; policy drop;"
    assert "ct state new" in translate(chain("ct state new accept", base), context("lo")).text
    accepted = chain('iifname "lo" counter packets 1 bytes 2 accept\n        ct state new accept', base)
    assert "ct state" not in translate(accepted, context("lo")).text


def test_tables_of_iptables_are_left_out_of_a_listing() -> None:
    listing = (
        "# Warning: table ip filter is managed by iptables-nft, do not touch!\ntable ip filter {\n\tchain a {\n\t}\n}\n"
    )
    own = "table ip6 filter {\n\tchain a {\n\t}\n}\n"
    assert without(listing + own, {("ip", "filter")}) == own

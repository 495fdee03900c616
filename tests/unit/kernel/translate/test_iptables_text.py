"""Rules of iptables: one in, the translated one out."""

import pytest

from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.translate.iptables_text import translate
from conntrackd_py.settings.schema import Settings, Steering

PASSED = "-m mark --mark 0x800/0x800 -m mark ! --mark 0xa00/0xf00 -m mark ! --mark 0xd00/0xd00"
HEAD = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [3:4]\n:OUTPUT ACCEPT [0:0]\n:own - [0:0]\n-A INPUT -i lo -j ACCEPT\n"
WITHOUT_LOOPBACK = HEAD.rpartition("-A INPUT")[0]


def context(*excluded: str, local: bool = True, mask: int = 0xFFFFFF00) -> Context:
    return Context(Settings(steering=Steering(exclude_interfaces=excluded, local=local, mark_mask=mask)))


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", f"-A INPUT {PASSED} -j ACCEPT"),
        ("-A FORWARD -m state --state INVALID -j DROP", "-A FORWARD -m mark --mark 0xd00/0xf00 -j DROP"),
        (
            "-A FORWARD -m conntrack ! --ctstate NEW,INVALID,UNTRACKED -j own",
            f"-A FORWARD {PASSED} -j own",
        ),
        (
            '[5:60] -A FORWARD  -p tcp -m conntrack --ctstate NEW -m tcp --dport 22  -j LOG --log-prefix "x -m y"',
            '[5:60] -A FORWARD  -p tcp -m mark --mark 0xa00/0xf00 -m tcp --dport 22  -j LOG --log-prefix "x -m y"',
        ),
        ("-I FORWARD 1 -m conntrack --ctdir REPLY -j own", "-I FORWARD 1 -m mark --mark 0x800/0x800 -m mark ! "),
        (
            "--append FORWARD --match conntrack --ctstate=new --jump own",
            "--append FORWARD -m mark --mark 0xa00/0xf00 --",
        ),
        (
            "-A FORWARD -m conntrack -s 10.0.0.1 ! --ctstate NEW -j DROP",
            "-A FORWARD -m mark --mark 0x800/0x800 -m mark ! --mark 0xa00/0xf00 -s 10.0.0.1 -j DROP",
        ),
        (
            "-A FORWARD -m conntrack --ctstate ESTABLISHED --ctdir ORIGINAL -j ACCEPT",
            "-A FORWARD -m mark --mark 0x800/0xf00 -j ACCEPT",
        ),
        (
            "-A FORWARD -m conntrack --ctstate INVALID --ctdir ORIGINAL -j ACCEPT",
            "-A FORWARD -m mark --mark 0xd00/0xf00 -j ACCEPT",
        ),
        (
            "-A FORWARD -m mark --mark 0x1/0xff -m conntrack --ctstate NEW -j ACCEPT\r",
            "-A FORWARD -m mark --mark 0x1/0xff -m mark --mark 0xa00/0xf00 -j ACCEPT\r",
        ),
        (
            "-A FORWARD -m state --state NEW -m conntrack --ctdir REPLY -j ACCEPT",
            "-A FORWARD -m mark --mark 0xa00/0xf00 -m mark --mark 0x800/0x800 -m mark ! ",
        ),
    ],
)
def test_a_rule_stays_one_rule(rule: str, wanted: str) -> None:
    done = translate(f"{HEAD}{rule}\nCOMMIT\n", context("lo"))
    assert done.text.startswith(f"{HEAD}{wanted}")
    assert done.text.endswith("\nCOMMIT\n")
    assert (done.text.count("\n"), done.translated, done.remarks) == (HEAD.count("\n") + 2, 1, [])


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT", "does not tell whether a packet is translated"),
        ("-A FORWARD -m conntrack --ctstate NEW --ctstatus ASSURED -j ACCEPT", "--ctstatus"),
        ("-A FORWARD -m conntrack --ctorigdst 10.0.0.1 -j ACCEPT", "--ctorigdst"),
        ("-A FORWARD -m conntrack --ctstate NEW --ctdir REPLY -j ACCEPT", "matches no packet"),
        ("-A FORWARD -m conntrack -j ACCEPT", "no --ctstate"),
        ("-A FORWARD -m state --state NEW -m connlimit --connlimit-above 9 -j DROP", "-m connlimit"),
        ("-A FORWARD -m helper --helper ftp -j ACCEPT", "-m helper"),
        ("-A FORWARD -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x1/0xff", "CONNMARK"),
        ("-A FORWARD -j CT --zone 3", "CT"),
        ("-A OUTPUT -m conntrack --ctstate NEW -j ACCEPT", "OUTPUT: the packet mark has no state there"),
    ],
)
def test_what_stays_is_listed_with_its_line(rule: str, why: str) -> None:
    text = f"{HEAD}{rule}\n-A own -j RETURN\nCOMMIT\n"
    done = translate(text, context("lo"))
    assert done.text == text
    assert [(remark.kind, remark.line, remark.rule) for remark in done.remarks] == [("not translated", 7, rule)]
    assert why in done.remarks[0].why
    assert not done.complete


@pytest.mark.parametrize(
    "rule",
    [
        '-A FORWARD -m comment --comment "-m conntrack --ctstate NEW" -j ACCEPT',
        "-A FORWARD -m comment --comment conntrack -j ACCEPT",
        "-A CONNTRACKD_PY_PRE -j CT --notrack",
        "-A CONNTRACKD_PY_PRE -m conntrack --ctstate NEW -j RETURN",
        "-A FORWARD -i lo -m conntrack --ctstate NEW -j ACCEPT",
    ],
)
def test_what_is_no_ct_match_of_queued_packets_stays_without_a_word(rule: str) -> None:
    text = f"{HEAD}{rule}\nCOMMIT"
    done = translate(text, context("lo"))
    assert (done.text, done.remarks, done.translated) == (text, [], 0)


@pytest.mark.parametrize(
    ("head", "rule", "excluded"),
    [
        (HEAD, "-A FORWARD -m state --state NEW -j own", ("lo", "mgmt0")),
        (HEAD, "-A FORWARD -i mgmt+ -m state --state NEW -j own", ("mgmt0",)),
        (WITHOUT_LOOPBACK, "-A INPUT -m state --state NEW -j own", ("lo",)),
    ],
)
def test_packets_that_are_not_queued_keep_the_rule(head: str, rule: str, excluded: tuple[str, ...]) -> None:
    """The kernel tracks them."""
    done = translate(f"{head}{rule}\nCOMMIT\n", context(*excluded))
    former, new = done.text.split("\n")[-4:-2]
    assert former == rule.replace("-m state", "-m mark --mark 0x0/0x800 -m state")
    assert new == rule.replace("-m state --state NEW", "-m mark --mark 0xa00/0xf00")


@pytest.mark.parametrize(
    ("rule", "excluded"),
    [
        ("-A INPUT -m state --state NEW -j own", ()),
        ("-A INPUT -i wan0 -m state --state NEW -j own", ("mgmt0",)),
        ("-A FORWARD -m state --state NEW -j own", ("lo",)),
    ],
)
def test_other_rules_are_not_doubled(rule: str, excluded: tuple[str, ...]) -> None:
    done = translate(f"{WITHOUT_LOOPBACK}{rule}\nCOMMIT\n", context(*excluded))
    assert done.text.count("-m mark") == 1


def test_a_chain_that_several_hooks_reach_is_translated_in_part() -> None:
    text = f"{HEAD}-A FORWARD -j own\n-A OUTPUT -j own\n-A own -m state --state NEW -j ACCEPT\nCOMMIT\n"
    done = translate(text, context("lo"))
    assert "-A own -m mark --mark 0xa00/0xf00 -j ACCEPT" in done.text
    assert [(remark.kind, remark.line) for remark in done.remarks] == [("translated in part", 9)]


def test_a_chain_that_no_hook_reaches_is_noted_once() -> None:
    """As in /etc/ufw/before.rules, where the jumps are elsewhere."""
    rule = "-A own -m state --state NEW -j ACCEPT\n"
    done = translate(f"{HEAD}{rule}{rule}COMMIT\n", context("lo"))
    assert done.text.count("-A own -m mark --mark 0xa00/0xf00") == 2
    assert [(remark.kind, remark.line, remark.rule) for remark in done.remarks] == [("note", 7, "chain own")]
    assert done.complete


def test_rules_without_a_table_are_those_of_filter() -> None:
    done = translate("-A OUTPUT -m state --state NEW -j DROP\n-A FORWARD -m state --state NEW -j DROP\n", context())
    assert [remark.line for remark in done.remarks] == [1]
    assert done.text.endswith("-A FORWARD -m mark --mark 0xa00/0xf00 -j DROP\n")


def test_another_mask_and_a_router_whose_own_traffic_is_not_queued() -> None:
    text = f"{HEAD}-A FORWARD -m state --state NEW -j DROP\n-A INPUT -m state --state NEW -j DROP\nCOMMIT\n"
    done = translate(text, context("lo", local=False, mask=0x0FF0))
    assert "-A FORWARD -m mark --mark 0xa0/0xf0 -j DROP" in done.text
    assert [(remark.line, remark.why.split(":")[0]) for remark in done.remarks] == [
        (8, "INPUT with steering.local = false")
    ]

"""What the leak table says of the configuration. tests/e2e/test_steering_guard.py has the kernel read and apply it."""

import tomllib

import pytest

from conntrackd_py.kernel.steering.leak_table import REFUSALS, NoTableError, ruleset
from conntrackd_py.settings.load import parse

MASQUERADE = '[[nat]]\nout_interface = "wan0"\nsource = "10.0.0.0/8"\naction = "MASQUERADE"\n'


def table(text: str, *, keep: bool = False) -> str:
    return ruleset(parse(tomllib.loads(text), "FILE"), keep=keep)


def leaving(text: str) -> list[str]:
    """The lines of the chain at POSTROUTING that the rules cause."""
    return table(text).split("fib saddr type local return\n")[1].split("\n}")[0].splitlines()


def chain(text: str, number: int = 0) -> list[str]:
    return table(text).split(f"chain rule_{number} {{\n")[1].split("\n}")[0].splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[[nat]]\nin_interface = "wan0"\nproto = "tcp"\ndport = 80\naction = "DNAT"\nto = "10.0.0.1"\n',
        '[[nat]]\nout_interface = "wan0"\naction = "ACCEPT"\n',
        'mode = "track"\n' + MASQUERADE,
        'mode = "observe"\n' + MASQUERADE,
        "leak_guard = false\n" + MASQUERADE,
    ],
)
def test_without_anything_to_guard_there_is_no_table(text: str) -> None:
    assert table(text) == ""


def test_what_a_source_rule_covers() -> None:
    assert leaving(MASQUERADE) == [
        'oifname "wan0" meta nfproto ipv4 ip saddr { 10.0.0.0-10.255.255.255 } jump rule_0',
    ]
    assert chain(MASQUERADE) == ["counter name untranslated drop"]


def test_the_owner_and_the_places() -> None:
    found = table(MASQUERADE)
    assert found.startswith("table inet conntrackd_py_guard {\nflags owner\ncounter untranslated {\n}\n")
    assert "type filter hook postrouting priority -140\nmeta mark & 0x1000 != 0 return\n" in found
    assert (
        "type filter hook prerouting priority -310\nmeta mark & 0x1000 != 0 meta mark set meta mark & 0xffffe7ff"
        in found
    )


def test_the_routers_refusals_of_replies_do_not_leave() -> None:
    own = [line for line in table(MASQUERADE).splitlines() if line.startswith("fib")]
    assert own == [
        *(f"fib saddr type local {refusal} counter name untranslated drop" for refusal in REFUSALS),
        "fib saddr type local return",
    ]


def test_errors_about_a_first_packet_leave_with_the_kernels_tracking() -> None:
    own = [line for line in table(MASQUERADE, keep=True).splitlines() if line.startswith("fib")]
    assert own[0] == "fib saddr type local ct state related ct status ! expected,confirmed return"
    assert len(own) == 5


def test_the_routers_own_packets_that_are_not_queued_leave() -> None:
    text = "[steering]\nlocal = false\n" + MASQUERADE
    assert [line for line in table(text).splitlines() if line.startswith("fib")] == ["fib saddr type local return"]


def test_what_is_not_steered_leaves() -> None:
    text = '[steering]\nexclude_interfaces = ["lo", "wg+"]\nfamilies = ["ipv4"]\n' + MASQUERADE
    lines = table(text).split("!= 0 return\n")[1].splitlines()
    assert lines[:3] == ['oifname "lo" return', 'oifname "wg*" return', "meta nfproto != ipv4 return"]
    assert lines[3].startswith("fib saddr type local")


def test_numbers_return_what_is_outside_so_that_an_unreadable_packet_is_dropped() -> None:
    text = MASQUERADE + 'proto = "udp"\nsport = "!53"\ndport = "1000:2000"\n'
    assert leaving(text) == leaving(MASQUERADE)
    assert chain(text) == [
        "meta l4proto != { 17 } return",
        "th sport { 53 } return",
        "th dport != { 1000-2000 } return",
        "counter name untranslated drop",
    ]


def test_a_packet_that_has_an_address_of_the_rule_is_translated() -> None:
    text = '[[nat]]\nout_interface = "wan0"\naction = "SNAT"\nto = "2001:db8::1-2001:db8::9"\n'
    assert chain(text) == ["ip6 saddr { 2001:db8::1-2001:db8::9 } return", "counter name untranslated drop"]
    assert leaving(text) == ['oifname "wan0" meta nfproto ipv6 jump rule_0']


def test_an_accept_rule_exempts_exactly() -> None:
    text = (
        '[[nat]]\nout_interface = "!wan+"\ndestination = "!10.1.0.0/16"\nproto = "tcp"\ndport = 80\naction = "ACCEPT"\n'
    )
    assert leaving(text + MASQUERADE) == [
        'oifname != "wan*" meta nfproto ipv4 ip daddr != { 10.1.0.0-10.1.255.255 } '
        "meta l4proto { 6 } th dport { 80 } return",
        'oifname "wan0" meta nfproto ipv4 ip saddr { 10.0.0.0-10.255.255.255 } jump rule_1',
    ]


@pytest.mark.parametrize("name", ['a"b', "a*b", "+", "ä"])
def test_a_name_that_nft_cannot_say(name: str) -> None:
    """A translating rule covers any interface then, an ACCEPT rule none."""
    rule = f"[[nat]]\nout_interface = '{name}'\naction = "
    assert leaving(rule + '"MASQUERADE"\n') == ["meta nfproto ipv4 jump rule_0"]
    assert leaving(rule + '"ACCEPT"\n' + MASQUERADE) == [line.replace("_0", "_1") for line in leaving(MASQUERADE)]
    with pytest.raises(NoTableError, match="nft cannot match"):
        table(f"[steering]\nexclude_interfaces = ['{name}']\n{MASQUERADE}")


def test_without_a_mark_there_is_no_table() -> None:
    with pytest.raises(NoTableError, match="mark_mask is 0"):
        table("[steering]\nmark_mask = 0\n" + MASQUERADE)


def test_where_the_done_bit_stands() -> None:
    assert "meta mark & 0x10000000 != 0 return" in table("[steering]\nmark_mask = 0xff000000\n" + MASQUERADE)


@pytest.mark.parametrize("condition", ["mark = 1", 'ct = "mark 1"'])
def test_a_mark_or_a_connection_exempts_nothing_and_limits_nothing(condition: str) -> None:
    exempt = f'[[nat]]\naction = "ACCEPT"\nout_interface = "wan0"\n{condition}\n'
    assert leaving(exempt + MASQUERADE + condition) == [
        'oifname "wan0" meta nfproto ipv4 ip saddr { 10.0.0.0-10.255.255.255 } jump rule_1',
    ]

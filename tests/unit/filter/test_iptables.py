"""Ct expressions in iptables' syntax, and the errors."""

import pytest

from conntrackd_py.filter import iptables, iptables_text
from conntrackd_py.match.words import ParseError


@pytest.mark.parametrize(
    "text",
    [
        "-m conntrack --ctstate ESTABLISHED,RELATED",
        "-m conntrack ! --ctstate INVALID",
        "-m conntrack --ctstate NEW,SNAT",
        "-m conntrack ! --ctstate SNAT,DNAT",
        "-m conntrack --ctstate SNAT",
        "-m conntrack --ctstatus NONE",
        "-m conntrack --ctstatus EXPECTED,SEEN_REPLY,ASSURED,CONFIRMED",
        "-m conntrack ! --ctstatus ASSURED",
        "-m conntrack --ctdir REPLY --ctproto tcp --ctorigsrc 10.0.0.0/8 ! --ctorigdst 10.0.0.1",
        "-m conntrack --ctreplsrc fd00::1 --ctrepldst fd00::/16",
        "-m conntrack --ctorigsrcport 1:1023 ! --ctorigdstport 80 --ctreplsrcport 1 --ctrepldstport 2",
        "-m conntrack --ctexpire 10:30",
        "-m conntrack --ctexpire 10",
        "-m conntrack --ctstate INVALID,NEW --ctstatus ASSURED",
        "-m conntrack --ctstate INVALID -m conntrack --ctstatus ASSURED",
        "-m conntrack --ctstate NEW -m connmark --mark 0x1",
        "-m connmark ! --mark 0x1/0xff -m conntrack --ctdir REPLY",
        "-m connmark ! --mark 0x0",
        "-m conntrack ! --ctproto 0",
    ],
)
def test_read_and_printed(text: str) -> None:
    assert iptables_text.text(iptables.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("-m state --state NEW", "-m conntrack --ctstate NEW"),
        ("--match conntrack --ctstate new", "-m conntrack --ctstate NEW"),
        ("-m conntrack --ctstate NEW -m conntrack --ctdir reply", "-m conntrack --ctstate NEW --ctdir REPLY"),
        ("-m conntrack --ctproto 6", "-m conntrack --ctproto tcp"),
        ("-m conntrack ! --ctdir REPLY", "-m conntrack --ctdir ORIGINAL"),
        ("-m conntrack --ctexpire :30", "-m conntrack --ctexpire 0:30"),
        ("-m conntrack --ctorigdst 10.1.2.3/255.0.0.0", "-m conntrack --ctorigdst 10.0.0.0/8"),
        ("-m conntrack --ctstatus NONE,ASSURED", "-m conntrack --ctstatus ASSURED"),
    ],
)
def test_equivalent_texts(text: str, same: str) -> None:
    assert iptables.parse(text).form() == iptables.parse(same).form()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("--ctstate NEW", "--ctstate needs -m conntrack before it"),
        ("-m connmark --ctstate NEW", "--ctstate needs -m conntrack before it"),
        ("-m conntrak --ctstate NEW", "no such match: -m conntrak"),
        ("-m conntrack --ctstat NEW", "no such option: --ctstat"),
        ("-m conntrack --ctstate NEW --ctstate NEW", "--ctstate can be used only once in one -m"),
        ("-m conntrack --ctstate", "--ctstate needs a value"),
        ("-m conntrack --ctstate ! NEW", "--ctstate needs a value"),
        ("-m conntrack", "-m conntrack has no condition"),
        ("-m conntrack NEW", "expected an option, found NEW"),
        ("-m conntrack --ctstate NWE", "no such state: NWE"),
        ("-m conntrack --ctstatus DYING", "no such status: DYING"),
        ("-m conntrack --ctdir back", "no such direction: back"),
        ("-m conntrack --ctexpire 30:10", "30:10 ends before it begins"),
        ("-m conntrack --ctorigsrcport http", "'http' is not a port"),
        ("-m conntrack --ctorigsrcport 65536", "'65536' is not a port"),
        ("-m conntrack --ctrepldstport 1:65536", "'65536' is not a port"),
        ("-m conntrack --ctorigsrc host", "'host' is not an address"),
        ("-m connmark --mark 1/x", "'x' is not a mask"),
        ("! -m conntrack --ctstate NEW", "no such option: -m"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ParseError) as caught:
        iptables.parse(text)
    assert str(caught.value).startswith(why)


def test_an_unknown_option_is_reported_with_the_known_ones() -> None:
    with pytest.raises(ParseError) as caught:
        iptables.parse("-m conntrack --ctstat NEW")
    assert (caught.value.word, caught.value.known) == ("--ctstat", iptables.OPTIONS)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("-m conntrack ! --ctorigsrcport 1024:65535", "-m conntrack --ctorigsrcport 0:1023"),
        ("-m conntrack ! --ctrepldstport 0:1023", "-m conntrack --ctrepldstport 1024:65535"),
    ],
)
def test_an_inverted_range_at_an_edge_becomes_the_plain_range_of_the_rest(text: str, same: str) -> None:
    assert iptables.parse(text).form() == iptables.parse(same).form()

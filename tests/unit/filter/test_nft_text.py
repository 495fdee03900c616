"""From iptables' syntax to nft's; what nft cannot express is refused."""

import pytest

from conntrackd_py.filter import iptables, nft_text
from conntrackd_py.match.words import Inexpressible


@pytest.mark.parametrize(
    ("text", "as_nft"),
    [
        ("-m conntrack --ctstate ESTABLISHED,RELATED", "ct state established,related"),
        ("-m conntrack ! --ctstate INVALID", "ct state != invalid"),
        ("-m conntrack --ctstate SNAT", "ct status snat"),
        ("-m conntrack --ctstate ESTABLISHED --ctdir REPLY", "ct state established ct direction reply"),
        ("-m conntrack ! --ctstatus ASSURED", "ct status ! assured"),
        ("-m conntrack --ctexpire 10:30", "ct expiration 10s-30s999ms"),
        ("-m conntrack --ctproto 132 --ctorigdstport 1:1023", "ct protocol sctp ct original proto-dst 1-1023"),
        ("-m connmark ! --mark 1/0xff", "ct mark & 0xff != 0x1"),
    ],
)
def test_from_iptables(text: str, as_nft: str) -> None:
    assert nft_text.text(iptables.parse(text)) == as_nft


@pytest.mark.parametrize(
    "text",
    [
        "-m conntrack --ctstate NEW,SNAT",
        "-m conntrack ! --ctstate SNAT",
        "-m conntrack --ctstatus NONE",
        "-m conntrack --ctstate INVALID --ctstatus ASSURED",
    ],
)
def test_nft_cannot_express_it(text: str) -> None:
    with pytest.raises(Inexpressible):
        nft_text.text(iptables.parse(text))

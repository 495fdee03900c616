"""From nft's syntax to iptables'; what iptables cannot express is refused."""

import pytest

from conntrackd_py.filter import iptables_text, nft
from conntrackd_py.match.words import Inexpressible


@pytest.mark.parametrize(
    ("text", "as_iptables"),
    [
        ("ct state established,related", "-m conntrack --ctstate ESTABLISHED,RELATED"),
        ("ct status assured", "-m conntrack --ctstatus ASSURED"),
        ("ct status snat,dnat", "-m conntrack --ctstate SNAT,DNAT"),
        ("ct mark and 0xff == 1", "-m connmark --mark 0x1/0xff"),
        ("ct expiration < 30s", "-m conntrack --ctexpire 0:29"),
        ("ct original proto-dst >= 1024", "-m conntrack --ctorigdstport 1024:65535"),
        # nft asks both of every packet; within one -m, iptables would ask the INVALID only for its state.
        (
            "ct state invalid,new ct direction original",
            "-m conntrack --ctstate INVALID,NEW -m conntrack --ctdir ORIGINAL",
        ),
        ("ct direction original ct state != new", "-m conntrack --ctdir ORIGINAL -m conntrack ! --ctstate NEW"),
    ],
)
def test_from_nft(text: str, as_iptables: str) -> None:
    assert iptables_text.text(nft.parse(text)) == as_iptables


@pytest.mark.parametrize(
    "text",
    [
        "ct status == assured",
        "ct status dying",
        "ct status assured,snat",
        "ct status ! snat",
        "ct mark 1-5",
        "ct mark {1, 5}",
        "ct expiration 500ms",
        "ct original bytes > 5",
        "ct zone 0",
        "ct l3proto ipv6",
        "ct original ip saddr 10.0.0.1-10.0.0.3",
        "ct original ip saddr { 10.0.0.1, 10.0.0.3 }",
        "ct protocol {tcp, udp}",
        "ct original proto-dst {1, 3}",
    ],
)
def test_iptables_cannot_express_it(text: str) -> None:
    with pytest.raises(Inexpressible):
        iptables_text.text(nft.parse(text))

"""Which [[nat]] rule covers a NAT rule of the kernel."""

import pytest

from conntrackd_py.kernel.doctor.iptables_save import rule
from conntrackd_py.kernel.doctor.overlap import doubled
from conntrackd_py.settings.load import parse

SOURCE: dict[str, object] = {"out_interface": "wan+", "source": "10.1.0.0/16", "action": "MASQUERADE"}
PORTS: dict[str, object] = {
    "in_interface": "wan0",
    "proto": "tcp",
    "dport": "80:90",
    "action": "DNAT",
    "to": "10.1.0.1",
}
SETTINGS = parse({"nat": [SOURCE, PORTS]}, "FILE")


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("-s 10.1.2.0/24 -o wan1", "nat[0]"),
        ("-s 10.0.0.0/8 -o wan1", "nat[0]"),
        ("-s 10.2.0.0/16 -o wan1", ""),
        ("-s 10.1.2.0/24 -o lan0", ""),
        ("-s 10.1.2.0/24 -o w+", "nat[0]"),
        ("! -s 10.1.2.0/24", "nat[0]"),
        ("-s odd", "nat[0]"),
    ],
)
def test_source_rules(line: str, label: str) -> None:
    assert doubled(SETTINGS, "ip", True, rule(f"-A POSTROUTING {line} -j MASQUERADE")) == label


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("-i wan0 -p tcp -m tcp --dport 85", "nat[1]"),
        ("-i wan0 -p tcp -m tcp --dport 1:1000", "nat[1]"),
        ("-i wan0 -p tcp -m tcp --dport 91", ""),
        ("-i wan0 -p udp -m udp --dport 85", ""),
        ("-i wan1 -p tcp -m tcp --dport 85", ""),
        ("-p odd", "nat[1]"),
    ],
)
def test_destination_rules(line: str, label: str) -> None:
    assert doubled(SETTINGS, "inet", False, rule(f"-A PREROUTING {line} -j DNAT")) == label


def test_the_family_counts() -> None:
    assert doubled(SETTINGS, "ip6", True, rule("-A POSTROUTING -j MASQUERADE")) == ""

"""profile: defaults of other keys, and keys that still decide."""

import tomllib

import pytest

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.nat.rules import FILTER_ADDRESS, FILTER_NONE
from conntrackd_py.settings import schema
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import parse
from conntrackd_py.settings.profile import RFC_TUNABLES
from conntrackd_py.settings.schema import Settings


def settings(text: str) -> Settings:
    return parse(tomllib.loads(text), "FILE")


def test_netfilter_is_the_default() -> None:
    assert settings('profile = "netfilter"') == settings("") == Settings()
    assert settings("").tunables == Tunables()


def test_rfc() -> None:
    made = settings('profile = "rfc"')
    assert (made.tcp_tracker, made.nat_exhausted) == (schema.RFC7857, schema.REJECT)
    assert made.tunables == RFC_TUNABLES


def test_a_key_decides() -> None:
    text = 'profile = "rfc"\ntcp_tracker = "netfilter"\nnat_exhausted = "drop"\n[tunables]\nnat_port_rest = 0'
    made = settings(text)
    assert (made.tcp_tracker, made.nat_exhausted) == (schema.NETFILTER, schema.DROP)
    assert (made.tunables.nat_port_rest, made.tunables.nf_conntrack_udp_timeout) == (0, 300)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ('action = "MASQUERADE"', (FILTER_ADDRESS, True)),
        ('action = "SNAT"\nto = "203.0.113.1"\nhairpin = false', (FILTER_ADDRESS, False)),
        ('action = "MASQUERADE"\nfiltering = "endpoint-independent"', (FILTER_NONE, True)),
        ('action = "MASQUERADE"\nmapping = "endpoint-dependent"', None),
        ('action = "DNAT"\nto = "192.168.1.2"', None),
        ('action = "ACCEPT"', None),
    ],
)
def test_rules(rule: str, wanted: tuple[int, bool] | None) -> None:
    (made,) = settings(f'profile = "rfc"\n[[nat]]\n{rule}').nat
    found = made.independent
    assert (found and (found.filtering, found.hairpin)) == wanted
    assert made.hairpin is None


def test_another_profile() -> None:
    with pytest.raises(ConfigError, match="must be one of netfilter, rfc"):
        settings('profile = "rfc4787"')

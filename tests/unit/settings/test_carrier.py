"""The keys of carrier-grade NAT: their numbers, and the rules that are refused."""

import tomllib

import pytest

from conntrackd_py.nat.rules import NatRule
from conntrackd_py.settings.carrier import own_ports
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import parse

SNAT = 'action = "SNAT"\nout_interface = "wan0"\n'
MASQUERADE = 'action = "MASQUERADE"\nout_interface = "wan0"\n'
TO = 'to = "203.0.113.0-203.0.113.7"\n'
SOURCE = 'source = "10.0.0.0/24"\n'
BLOCKS = "port_block = 512\n"
SLICES = "deterministic = true\n"


def rules(*texts: str) -> tuple[NatRule, ...]:
    return parse(tomllib.loads("".join(f"[[nat]]\n{text}" for text in texts)), "FILE").nat


def refusal(*texts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        rules(*texts)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (
            SNAT + TO + BLOCKS,
            "126 blocks of 512 ports on each outer address, 1,008 on all: "
            "for 1,008 hosts with 1 block each, 252 with 4",
        ),
        (
            'action = "SNAT"\nto = "203.0.113.1:2000-2999"\nport_block = 300\nblocks_per_host = 1',
            "3 blocks of 300 ports on each outer address: for 3 hosts with 1 block each",
        ),
        (
            'action = "MASQUERADE"\nout_interface = "a"\nto = "1024-2047"\n' + BLOCKS,
            "2 blocks of 512 ports on each outer address: for 2 hosts with 1 block each, 0 with 4",
        ),
        (SNAT + TO + SOURCE + SLICES, "2,016 ports for each inside address, 32 inside addresses on each outer one"),
        (SNAT + TO, ""),
    ],
)
def test_the_numbers(text: str, numbers: str) -> None:
    (rule,) = rules(text)
    assert own_ports(rule) == numbers


def test_the_usual_ports() -> None:
    (rule,) = rules(SNAT + TO + BLOCKS)
    assert (rule.port_block, rule.blocks_per_host) == (512, 4)
    assert (rule.to.port_low, rule.to.port_high) == (1024, 65535)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SNAT + TO + "port_block = 15", "must be between 16 and 32768"),
        (SNAT + TO + "blocks_per_host = 2", "needs port_block"),
        (SNAT + TO + BLOCKS + "blocks_per_host = 65", "must be between 1 and 64"),
        (SNAT + TO + BLOCKS + SOURCE + SLICES, "a rule with port_block has no slices"),
        ('action = "DNAT"\n' + TO + BLOCKS, "DNAT has none"),
        ('action = "MASQUERADE"\nout_interface = "a"\n' + SOURCE + SLICES, "MASQUERADE has none"),
        ('action = "SNAT"\nhooks = ["input"]\n' + TO + BLOCKS, "port_block is for postrouting"),
        ('action = "SNAT"\nto = ":2000-2999"\nproto = "udp"\n' + BLOCKS, "needs an outer address"),
        ('action = "SNAT"\nto = "203.0.113.1:2000-2100"\n' + BLOCKS, "more than the ports of `to`: 2000-2100"),
        ('action = "SNAT"\nto = "10.0.0.0-10.1.0.0"\n' + BLOCKS, "has more than 65536 addresses"),
        (SNAT + TO + SLICES, "needs one network here"),
        (SNAT + TO + SLICES + 'source = ["10.0.0.0/24", "10.2.0.0/24"]', "needs one network here"),
        (SNAT + TO + SLICES + 'source = "!10.0.0.0/24"', "needs one network here"),
        (SNAT + TO + SLICES + 'source = "10.0.0.0/16"', "share an outer one, with 7 ports each; at least 16"),
        (SNAT + TO + SLICES + 'source = "fd00::/112"', "is IPv4, but source is IPv6"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    assert why in refusal(text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (TO + BLOCKS, 'to = "203.0.113.7"\n' + BLOCKS),
        (TO + BLOCKS, TO + "port_block = 256"),
        (TO + BLOCKS, TO + SOURCE + SLICES),
        (TO + SOURCE + SLICES, TO + SLICES + 'source = "10.0.1.0/24"'),
    ],
)
def test_rules_that_divide_the_same_ports(first: str, second: str) -> None:
    why = "nat[0] divides the same outer ports in another way"
    assert why in refusal(SNAT + first, SNAT + f'proto = "udp"\n{second}')


def test_rules_that_share_their_blocks() -> None:
    other = 'action = "SNAT"\nto = "203.0.113.7:1-1023"\nproto = "tcp"\n'
    v6 = 'action = "SNAT"\nto = "2001:db8::1"\n'
    parsed = parse(tomllib.loads("[[nat]]\n" + "\n[[nat]]\n".join((SNAT + TO + BLOCKS, other, v6 + BLOCKS))), "FILE")
    assert len(parsed.nat) == 3
    assert [warning.path for warning in parsed.warnings if "outer ports" in warning.why] == []
    assert len(rules(SNAT + TO + BLOCKS + SOURCE, SNAT + TO + BLOCKS)) == 2


@pytest.mark.parametrize(
    ("first", "second", "warned"),
    [
        (SNAT + TO + BLOCKS, 'action = "SNAT"\nto = "203.0.113.7"\n', True),
        (SNAT + 'to = "203.0.113.7"\n', SNAT + TO + SOURCE + SLICES, True),
        (SNAT + TO + BLOCKS, 'action = "SNAT"\nto = "203.0.113.8"\n', False),
        (MASQUERADE + SOURCE + BLOCKS, MASQUERADE, True),
        (MASQUERADE + SOURCE + BLOCKS, MASQUERADE.replace("wan0", "wan1"), False),
        (MASQUERADE + SOURCE + BLOCKS, MASQUERADE.replace("wan0", "!wan0"), False),
        (MASQUERADE + SOURCE + BLOCKS, 'action = "SNAT"\nto = "203.0.113.8"\n', False),
    ],
)
def test_a_rule_past_the_blocks_of_another(first: str, second: str, warned: bool) -> None:
    parsed = parse(tomllib.loads(f"[[nat]]\n{first}[[nat]]\n{second}"), "FILE")
    found = [warning for warning in parsed.warnings if "past the hosts that own them" in warning.why]
    assert bool(found) == warned


def test_small_slices_are_a_warning() -> None:
    text = SNAT + TO + SLICES + 'source = "10.0.0.0/19"'
    parsed = parse(tomllib.loads(f"[[nat]]\n{text}"), "FILE")
    (warning,) = parsed.warnings
    assert warning.why == "deterministic: 1024 inside addresses share an outer one, with 63 ports each"

"""Warnings: each with its file, line and key; nothing that is not certain."""

from dataclasses import fields
from pathlib import Path

import pytest

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.settings.findings import TRACKED_BY
from conntrackd_py.settings.load import load
from conntrackd_py.settings.raw_mangle import TIMEOUTS

WEB = '[[nat]]\naction = "DNAT"\nin_interface = "wan0"\nproto = "tcp"\ndport = 80\nto = "192.168.1.10"\n'
ACCEPT = '[[filter.rule]]\nhook = "forward"\nct = "state established,related"\naction = "accept"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "conntrackd.toml"


def warnings(config: Path, text: str) -> list[str]:
    """Without the path of the file."""
    config.write_text(text)
    return [warning.text().removeprefix(f"{config}:") for warning in load(config).warnings]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            WEB + "# again\n" + WEB,
            "8: nat[1]: duplicate: nat[0] (line 1) already translates the destination of the same connections",
        ),
        (
            '[[nat]]\naction = "ACCEPT"\n' + WEB,
            "3: nat[1]: no connection gets here: nat[0] (line 1) matches all of them first",
        ),
        (
            '[[nat]]\naction = "ACCEPT"\nin_interface = "wan+"\nfamily = "any"\n' + WEB,
            "5: nat[1]: no connection gets here: nat[0] (line 1) matches all of them first",
        ),
        (
            '[[nat]]\naction = "MASQUERADE"\nout_interface = "a"\n[[nat]]\naction = "ACCEPT"\nout_interface = "a"',
            "4: nat[1]: no connection gets here: nat[0] (line 1) matches all of them first",
        ),
        (
            '[[nat]]\naction = "SNAT"\nto = "192.0.2.1"\n[[nat]]\naction = "DNAT"\nto = "192.0.2.1"\n'
            '[[nat]]\naction = "ACCEPT"',
            "7: nat[2]: no connection gets here: nat[0] (line 1) and nat[1] (line 4) match all of them first",
        ),
        (
            '[[nat]]\naction = "MASQUERADE"',
            "1: nat[0].out_interface: MASQUERADE without it also translates packets to the inner networks",
        ),
        (
            '[[nat]]\naction = "MASQUERADE"\nout_interface = "lo"',
            '3: nat[0].out_interface = "lo": no packet of another host leaves by lo',
        ),
        (
            '[[raw]]\nproto = "tcp"\ntimeouts = { nf_conntrack_udp_timeout = 5 }',
            "3: raw[0].timeouts: nf_conntrack_udp_timeout is for udp, which the proto of this rule excludes",
        ),
        (
            '[[raw]]\nproto = "sctp"\ntimeouts = { nf_conntrack_generic_timeout = 5 }',
            "3: raw[0].timeouts: nf_conntrack_generic_timeout is for other protocols, "
            "which the proto of this rule excludes",
        ),
        (
            '[[raw]]\nproto = "udp"\nzone = 1\n[[raw]]\nproto = "udp"\ndport = 53\nnotrack = true',
            "4: raw[1]: no packet gets here: raw[0] (line 1) matches all of them first",
        ),
        (
            ACCEPT + ACCEPT.replace("established,related", "related").replace("accept", "drop"),
            "5: filter.rule[1]: no packet gets here: filter.rule[0] (line 1) matches all of them first",
        ),
        (
            ACCEPT + ACCEPT.replace("forward", "in") + ACCEPT.replace('hook = "forward"', 'hooks = ["in", "forward"]'),
            "9: filter.rule[2]: no packet gets here: "
            "filter.rule[0] (line 1) and filter.rule[1] (line 5) match all of them first",
        ),
        (
            '[filter]\n\nnft = """\ntable ip t {\nchain c { type filter hook input priority 0;\n'
            'tcp dport 80 counter\ntcp dport 80 accept\nip saddr 10.0.0.1 tcp dport 80 drop\n} }"""',
            "3: filter.nft: t c line 5: no packet gets here: t c line 4 matches all of them first",
        ),
    ],
)
def test_a_warning(text: str, warning: str, config: Path) -> None:
    assert warnings(config, text) == [warning]


@pytest.mark.parametrize(
    "text",
    [
        WEB + WEB.replace("80\n", "81\n"),
        WEB + WEB.replace("192.168.1.10", "2001:db8::1"),
        '[[nat]]\naction = "ACCEPT"\nout_interface = "wan0"\n' + WEB,
        '[[nat]]\naction = "MASQUERADE"\nout_interface = "a"\n[[nat]]\naction = "ACCEPT"',
        '[[nat]]\naction = "REDIRECT"\n[[nat]]\naction = "DNAT"\nto = "192.168.1.10"',
        '[[nat]]\naction = "MASQUERADE"\nout_interface = "!lo"',
        '[[raw]]\nproto = "udplite"\ntimeouts = { nf_conntrack_udp_timeout = 5 }',
        '[[raw]]\nproto = "!tcp"\ntimeouts = { nf_conntrack_udp_timeout = 5, nf_conntrack_generic_timeout = 5 }',
        "[[raw]]\ntimeouts = { nf_conntrack_udp_timeout = 5, nf_conntrack_tcp_timeout_close = 5 }",
        '[[raw]]\nproto = "dccp"\ntimeouts = { nf_conntrack_generic_timeout = 5 }',
        ACCEPT + ACCEPT.replace("forward", "in"),
        ACCEPT + ACCEPT.replace('hook = "forward"', 'hooks = ["in", "forward"]'),
        '[[connmark]]\nset = 1\n[[connmark]]\nproto = "tcp"\nset = "2/2"',
    ],
)
def test_no_warning(text: str, config: Path) -> None:
    assert warnings(config, text) == []


def test_every_timeout_has_its_protocols() -> None:
    assert sorted({number for numbers in TRACKED_BY.values() for number in numbers}) == list(range(256))
    names = {name.removeprefix("nf_conntrack_").removeprefix("rfc7857_").partition("_")[0] for name in TIMEOUTS}
    assert names == TRACKED_BY.keys()
    assert set(TIMEOUTS) < {field.name for field in fields(Tunables)}


def test_a_rule_in_another_file_is_named_with_it(config: Path) -> None:
    """The numbers count the rules of all files, as those of the metrics do."""
    drop_in = config.parent / "conf.d" / "web.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("\n" + WEB)
    config.write_text(WEB)
    (warning,) = load(config).warnings
    assert warning.text().startswith(f"{drop_in}:2: nat[1]: duplicate: nat[0] ({config}:1) already translates ")


def test_without_a_line_the_rule_is_named_alone(config: Path) -> None:
    rule = '{ action = "DNAT", to = "192.0.2.1" }'
    assert warnings(config, f"nat = [{rule}, {rule}]") == [
        " nat[1]: duplicate: nat[0] already translates the destination of the same connections"
    ]


def test_a_rule_with_hairpin_matches_more_than_one_without(config: Path) -> None:
    rule = '[[nat]]\naction = "DNAT"\nin_interface = "wan0"\nto = "10.0.0.1"\n'
    assert warnings(config, f"{rule}{rule}hairpin = true") == []
    assert len(warnings(config, f"{rule}hairpin = true\n{rule}")) == 1
    assert len(warnings(config, f"{rule}hairpin = true\n{rule}hairpin = true")) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('mode = "observe"\n', "mode observe"),
        ("[[connmark]]\nset = 1\n", "[[connmark]] rules"),
        ('[filter]\ndefault_forward = "drop"\n', "filter rules for forwarded packets"),
        ("[[raw]]\nzone_orig = 1\n", "[[raw]] rules with a zone"),
    ],
)
def test_rules_that_must_see_every_packet_prevent_offload(config: Path, text: str, reason: str) -> None:
    (line,) = warnings(config, f'{text}[offload]\nmode = "established"\n')
    assert f"no connection is offloaded: {reason}" in line
    assert warnings(config, '[filter]\ndefault_in = "drop"\n[offload]\nmode = "established"\n') == []


def test_a_rule_for_own_packets_to_own_addresses_needs_lo(config: Path) -> None:
    rule = '[[nat]]\naction = "DNAT"\nhooks = ["output"]\ndestination_type = "local"\nto = "10.0.0.1"\n'
    (line,) = warnings(config, rule)
    assert "use lo, which steering.exclude_interfaces excludes" in line
    assert warnings(config, f"{rule}[steering]\nexclude_interfaces = []\n") == []


def test_rules_of_two_hooks_do_not_cover_each_other(config: Path) -> None:
    rule = '[[nat]]\naction = "DNAT"\nhooks = ["{}"]\nto = "10.0.0.1"\n'
    assert warnings(config, rule.format("output") + rule.format("prerouting")) == []
    assert len(warnings(config, rule.format("output") + rule.format("output"))) == 1
    local = rule.format("prerouting") + 'destination_type = "local"\n'
    assert warnings(config, local + rule.format("prerouting")) == []
    raw = '[[raw]]\nhooks = ["{}"]\nnotrack = true\n'
    assert warnings(config, raw.format("output") + raw.format("prerouting")) == []

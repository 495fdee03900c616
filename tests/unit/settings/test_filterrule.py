"""[filter] and [[filter.rule]] tables, and the errors."""

import tomllib
from pathlib import Path

import pytest

from conntrackd_py.const import FORWARD, LOCAL_OUT
from conntrackd_py.filter import iptables, nft, reject
from conntrackd_py.filter.policy import ACCEPT, DROP, REJECT, FilterRule
from conntrackd_py.match.expr import Expr
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load, parse
from conntrackd_py.settings.schema import Filter
from tests.support.packets import address

CHAIN = "table ip t { chain c { type filter hook forward priority 0; policy drop; } }"


def settings(text: str) -> Filter:
    return parse(tomllib.loads(text), "FILE").filter


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    return str(caught.value).splitlines()


def rule(text: str) -> FilterRule:
    (one,) = settings(f"[[filter.rule]]\n{text}").rule
    return one


def test_every_key() -> None:
    one = rule(
        """
        hook = "forward"
        in_interface = "eth0"
        out_interface = "! ppp+"
        source = "10.0.0.0/8"
        destination = "!10.0.0.1"
        proto = "tcp"
        sport = "1024:"
        dport = "! 80"
        family = "ipv4"
        ct = "state established"
        action = "reject"
        reject_with = "tcp-reset"
        comment = "why"
        """
    )
    assert (one.action, one.reject, one.hooks, one.match.family, one.label) == (
        REJECT,
        1,
        (FORWARD,),
        4,
        "filter.rule[0]",
    )
    assert one.match.in_interface is not None
    assert one.match.out_interface is not None
    assert one.match.source is not None
    assert one.match.destination is not None
    assert one.match.proto is not None
    assert one.match.sport is not None
    assert one.match.dport is not None
    assert one.match.ct is not None
    assert (one.match.in_interface.names, one.match.in_interface.invert) == (["eth0"], False)
    assert (one.match.out_interface.names, one.match.out_interface.invert) == (["ppp+"], True)
    assert one.match.source.bounds == [address("10.0.0.0"), address("10.255.255.255")]
    assert (one.match.destination.bounds, one.match.destination.invert) == ([address("10.0.0.1")] * 2, True)
    assert (one.match.proto.bounds, one.match.sport.bounds) == ([6, 6], [1024, 65535])
    assert (one.match.dport.bounds, one.match.dport.invert) == ([80, 80], True)


def test_numbers_may_be_numbers() -> None:
    one = rule('hooks = ["out"]\naction = "drop"\nproto = 17\ndport = 53')
    assert one.match.dport is not None
    assert one.match.dport.bounds == [53, 53]
    assert (one.hooks, one.action) == ((LOCAL_OUT,), DROP)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("state established,related", nft.parse("ct state established,related")),
        ("ct status assured ct direction reply", nft.parse("ct status assured ct direction reply")),
        ("-m conntrack --ctstate NEW", iptables.parse("-m conntrack --ctstate NEW")),
    ],
)
def test_ct_in_either_syntax(text: str, same: Expr) -> None:
    one = rule(f'hook = "forward"\naction = "accept"\nct = "{text}"')
    assert one.match.ct is not None
    assert one.match.ct.form() == same.form()
    assert one.action == ACCEPT


def test_reject_defaults_to_port_unreachable() -> None:
    assert rule('hook = "forward"\naction = "reject"').reject == reject.PORT_UNREACHABLE


PATH = "FILE: filter.rule[0]."
NO_HOOK = PATH + "hook: is required: one of in, forward, out, or several of them as hooks"
RULE = '[[filter.rule]]\nhook = "forward"\naction = "accept"\n'
PATH = "FILE: filter.rule[0]."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filter = 3", "FILE: filter = 3: must be a [filter] table"),
        (
            "[filter]\ndefault_in = 'dorp'",
            'FILE: filter.default_in = "dorp": must be one of accept, drop, did you mean drop?',
        ),
        (
            "[filter]\ndefault_input = 'drop'",
            'FILE: filter.default_input = "drop": unknown key, did you mean default_in?',
        ),
        ("[filter]\nrule = 1", "FILE: filter.rule = 1: must be [[filter.rule]] tables"),
        ('[[filter.rule]]\nhook = "forward"', PATH + "action: is required: one of accept, drop, reject"),
        ('[[filter.rule]]\naction = "drop"', NO_HOOK),
        ('[[filter.rule]]\naction = "drop"\nhooks = []', NO_HOOK),
        (
            '[[filter.rule]]\naction = "drop"\nhook = "foward"',
            PATH + 'hook = "foward": must be one of in, forward, out, did you mean forward?',
        ),
        (
            '[[filter.rule]]\naction = "drop"\nhooks = ["inn"]',
            PATH + 'hooks = ["inn"]: must be of in, forward, out, did you mean in?',
        ),
        (RULE + 'hooks = ["in"]', PATH + 'hooks = ["in"]: cannot be given together with hook'),
        (
            RULE + 'ct = "state establised"',
            PATH + 'ct = "state establised": no such ct state: establised, did you mean established?',
        ),
        (
            RULE + 'ct = "-m conntrack --ctstat NEW"',
            PATH + 'ct = "-m conntrack --ctstat NEW": no such option: --ctstat, did you mean --ctstate?',
        ),
        (RULE + 'ct = ""', PATH + 'ct = "": must not be empty'),
        (RULE + "ct = 5", PATH + "ct = 5: no such ct key: 5"),
        (RULE + 'proto = "tpc"', PATH + 'proto = "tpc": no such protocol: tpc, did you mean tcp?'),
        (RULE + "dport = 80", PATH + "dport = 80: needs proto tcp, udp, udplite, dccp or sctp"),
        (
            RULE + 'proto = "tcp"\ndport = "http"',
            PATH + "dport = \"http\": 'http' is not a port (0 to 65535)",
        ),
        (RULE + 'source = "10.0.0"', PATH + 'source = "10.0.0": must be an address, address/prefix or address/netmask'),
        (RULE + 'source = "10.0.0.1"\ndestination = "::1"', PATH + 'destination = "::1": is IPv6, but source is IPv4'),
        (RULE + 'family = "ipv6"\nproto = "icmp"', PATH + 'proto = "icmp": is IPv4, but family is IPv6'),
        (RULE + 'in_interface = "a/b"', PATH + 'in_interface = "a/b": is not an interface name'),
        (RULE + 'reject_with = "tcp-reset"', PATH + 'reject_with = "tcp-reset": needs action = "reject"'),
        (RULE + 'acton = "drop"', PATH + 'acton = "drop": unknown key, did you mean action?'),
        (
            '[[filter.rule]]\nhook = "in"\naction = "drop"\nout_interface = "eth0"',
            PATH + 'out_interface = "eth0": is not known at hook in',
        ),
        (
            '[[filter.rule]]\nhook = "out"\naction = "drop"\nin_interface = "eth0"',
            PATH + 'in_interface = "eth0": is not known at hook out',
        ),
        (
            '[[filter.rule]]\nhook = "out"\naction = "reject"\nreject_with = "tcp-reset"',
            PATH + 'reject_with = "tcp-reset": tcp-reset needs proto = "tcp"',
        ),
        ("[filter]\nnft = 'table ip t {'", "FILE: filter.nft: line 1: expected }, found the end of the text"),
        (
            f"[filter]\nnft = '''\n\n{CHAIN.replace('policy', 'plicy')}'''",
            "FILE: filter.nft: line 2: plicy is not supported",
        ),
        (
            f"[filter]\nnft = '{CHAIN}'\nfile = 'a'",
            'FILE: filter.file = "a": cannot be given together with nft',
        ),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    assert mistakes(text) == [message]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[filter]\ndefault_out = 'drop'", 'filter.default_out = "drop"'),
        ('[[filter.rule]]\nhook = "in"\naction = "drop"', 'filter.rule[0].hook = "in"'),
        (f"[filter]\nnft = '{CHAIN.replace('forward', 'input')}'", "filter.nft"),
    ],
)
def test_a_rule_for_unqueued_packets_is_refused(text: str, path: str) -> None:
    (said,) = mistakes(f"[steering]\nlocal = false\n{text}")
    assert f"{path}: " in said
    assert said.endswith("is for the router's own packets and needs steering.local = true")


def test_forwarded_packets_are_always_steered() -> None:
    assert settings("[steering]\nlocal = false\n[filter]\ndefault_forward = 'drop'").policy() is not None


def test_a_ruleset_in_a_file_beside_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "conntrackd.toml"
    config.write_text('[filter]\nfile = "router.nft"\n')
    with pytest.raises(ConfigError, match=r"filter.file = .*No such file"):
        load(config)
    (tmp_path / "router.nft").write_text(CHAIN)
    (chain,) = load(config).filter.chains()
    assert chain.label == "t c"
    (tmp_path / "router.nft").write_text("\n" + CHAIN.replace("drop", "deny"))
    with pytest.raises(ConfigError, match=r"filter.file: line 2: no such policy: deny"):
        load(config)


def test_rules_of_drop_ins_are_appended(tmp_path: Path) -> None:
    config = tmp_path / "conntrackd.toml"
    config.write_text("[filter]\ndefault_in = 'drop'\n" + RULE)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "more.toml").write_text("[filter]\ndefault_in = 'accept'\n" + RULE)
    found = load(config).filter
    assert found.default_in == "accept"
    assert [one.label for one in found.rule] == ["filter.rule[0]", "filter.rule[1]"]
    (tmp_path / "conf.d" / "more.toml").write_text(RULE.replace("accept", "axept"))
    with pytest.raises(ConfigError, match=r"more.toml:\d+: filter.rule\[1\].action"):
        load(config)

"""The configuration file: defaults, types, drop-ins, errors."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load, parse
from conntrackd_py.settings.schema import Settings
from tests.support.certificates import Authority
from tests.support.tools import needs

SAMPLE = Path(__file__).parents[3] / "config" / "conntrackd.toml"


def mistakes(text: str) -> list[str]:
    """The errors of this file, one per line."""
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(text), "FILE")
    return str(caught.value).splitlines()


def test_an_empty_file_is_a_configuration() -> None:
    assert parse({}, "FILE") == Settings()


def test_the_sample_changes_nothing_as_it_is_shipped() -> None:
    assert load(SAMPLE) == Settings()


def test_the_sample_shows_every_key_with_its_default() -> None:
    text = re.sub(r"^#(?=[a-z\[])", "", SAMPLE.read_text(), flags=re.MULTILINE)
    shown = tomllib.loads(text)
    rules, filter_rules = shown.pop("nat"), shown["filter"].pop("rule")
    raw, connmark = shown.pop("raw"), shown.pop("connmark")
    assert parse(shown, "FILE") == Settings()
    assert len(parse({"nat": rules}, "FILE").nat) == len(rules)
    assert len(parse({"filter": {"rule": filter_rules}}, "FILE").filter.rule) == len(filter_rules)
    assert len(parse({"raw": raw}, "FILE").raw) == len(raw)
    assert len(parse({"connmark": connmark}, "FILE").connmark) == len(connmark)
    tables = {name: set(table) for name, table in shown.items() if isinstance(table, dict)}
    assert {"queue", "tunables"} <= tables.keys()
    for name, keys in tables.items():
        assert keys == {field.name for field in fields(getattr(Settings(), name))} - {"rule"}, name


def test_values_are_taken_over() -> None:
    settings = parse(
        tomllib.loads(
            """
            mode = "track"
            [queue]
            first = 7
            fail_open = true
            [steering]
            mark_mask = 0x0000ff00
            exclude_interfaces = ["lo", "wg+"]
            families = ["ipv6"]
            [tunables]
            nf_conntrack_udp_timeout = 60
            nf_conntrack_tcp_be_liberal = true
            [metrics]
            listen = "[::1]:9000"
            [control]
            mode = "0600"
            """
        ),
        "FILE",
    )
    assert (settings.mode, settings.queue.first, settings.queue.fail_open) == ("track", 7, True)
    assert settings.steering.mark_mask == 0xFF00
    assert settings.steering.exclude_interfaces == ("lo", "wg+")
    assert settings.steering.families == ("ipv6",)
    assert settings.tunables.nf_conntrack_udp_timeout == 60
    assert settings.tunables.nf_conntrack_tcp_be_liberal is True
    assert settings.metrics.address() == ("::1", 9000)
    assert settings.control.mode == 0o600


@needs("openssl")
def test_tls_is_checked_with_the_rest(tmp_path: Path) -> None:
    """File names are relative to the configuration's directory; unusable files are refused."""
    authority = Authority(tmp_path)
    authority.signed("one")
    authority.signed("two")
    (tmp_path / "text").write_text("no certificate")
    good = {"tls_certificate": "one.pem", "tls_key": "one.key", "client_ca": "ca.pem"}
    source = str(tmp_path / "conntrackd.toml")
    settings = parse({"metrics": good}, source)
    assert settings.metrics.tls_certificate == str(tmp_path / "one.pem")
    assert settings.metrics.tls() is not None
    assert parse({}, source).metrics.tls() is None
    for change, why in (
        ({"tls_key": "two.key"}, 'tls_certificate = "one.pem": cannot be used'),
        ({"tls_certificate": "text"}, 'tls_certificate = "text": cannot be used'),
        ({"client_ca": "text"}, 'tls_certificate = "one.pem": cannot be used'),
        ({"client_ca": "none"}, 'client_ca = "none": No such file'),
        ({"tls_key": ""}, 'tls_certificate = "one.pem": needs tls_key'),
        ({"tls_key": "", "tls_certificate": ""}, 'client_ca = "ca.pem": needs tls_certificate and tls_key'),
    ):
        with pytest.raises(ConfigError) as caught:
            parse({"metrics": good | change}, source)
        assert f"metrics.{why}" in str(caught.value)


def test_no_metrics() -> None:
    assert parse({"metrics": {"listen": ""}}, "FILE").metrics.address() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('mode = "nt"', 'FILE: mode = "nt": must be one of nat, track, observe, did you mean nat?'),
        ('clamp_mss = "on"', 'FILE: clamp_mss = "on": must be "off", "pmtu", or a number from 88 to 65495'),
        ("clamp_mss = 87", "FILE: clamp_mss = 87: must be"),
        ("clamp_mss = true", "FILE: clamp_mss = true: must be"),
        ("leak_guard = 1", "FILE: leak_guard = 1: must be true or false"),
        ("leak_gard = true", "FILE: leak_gard = true: unknown key, did you mean leak_guard?"),
        ("queue = 3", "FILE: queue = 3: must be a [queue] table"),
        ("[qeue]", "FILE: qeue: unknown key, did you mean queue?"),
        ("[queue]\nfirst = 70000", "FILE: queue.first = 70000: must be between 0 and 65532"),
        ('[queue]\nfirst = "0"', 'FILE: queue.first = "0": must be a whole number'),
        ("[queue]\nfirst = true", "FILE: queue.first = true: must be a whole number"),
        ('[queue]\non_error = "pass"', 'FILE: queue.on_error = "pass": must be one of drop, accept'),
        (
            "[queue]\nsocket_buffer = 4096",
            "FILE: queue.socket_buffer = 4096: must be between 65536 and 1073741824: "
            "a smaller buffer holds no packet of 64 kB, and the kernel drops what does not fit",
        ),
        ('[observe]\nvia = "ulog"', 'FILE: observe.via = "ulog": must be one of nflog, nfqueue, did you mean nflog?'),
        ("[observe]\ngroup = 0", "FILE: observe.group = 0: must be between 1 and 65535"),
        ("[observe]\nsocket_buffer = 1", "FILE: observe.socket_buffer = 1: must be between 65536 and 1073741824"),
        ("[queue]\nmax_length = 0", "FILE: queue.max_length = 0: must be between 1 and 2147483647"),
        ("[tunables]\nnf_conntrack_max = 0", "FILE: tunables.nf_conntrack_max = 0: must be between 1 and 2147483647"),
        ("[tunables]\nnf_conntrack_acct = 1", "FILE: tunables.nf_conntrack_acct = 1: must be true or false"),
        (
            "[tunables]\nnf_conntrack_udp_timeout_streem = 1",
            "FILE: tunables.nf_conntrack_udp_timeout_streem = 1: "
            "unknown key, did you mean nf_conntrack_udp_timeout_stream?",
        ),
        ('[steering]\nfamilies = ["inet"]', 'FILE: steering.families = ["inet"]: must name one or both of ipv4, ipv6'),
        ("[steering]\nfamilies = []", "FILE: steering.families = []: must name one or both of ipv4, ipv6"),
        ('[steering]\nfamilies = "ipv4"', 'FILE: steering.families = "ipv4": must be a list of strings'),
        (
            '[steering]\nexclude_interfaces = ["lo", "lo"]',
            'FILE: steering.exclude_interfaces = ["lo", "lo"]: has a duplicate',
        ),
        (
            '[steering]\nexclude_interfaces = ["a b"]',
            "FILE: steering.exclude_interfaces = [\"a b\"]: 'a b' is not an interface name",
        ),
        (
            '[metrics]\nlisten = "9466"',
            'FILE: metrics.listen = "9466": must be address:port, [address]:port for IPv6, or empty',
        ),
        ('[control]\nmode = "rw"', 'FILE: control.mode = "rw": must be octal permissions such as "0660"'),
        ('[log]\nlevel = "INFO"', 'FILE: log.level = "INFO": must be one of debug, info, warning, error, did you mean'),
        ("nat = 1", "FILE: nat = 1: must be [[nat]] tables"),
        ("[nat]\nto = 1", "FILE: nat: must be [[nat]] tables"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_reason(text: str, message: str) -> None:
    (line,) = mistakes(text)
    assert line.startswith(message)


@pytest.mark.parametrize("mask", ["0xff00ff00", "0x7f", "0x1ffffffff", "-1"])
def test_the_mark_needs_eight_adjacent_bits(mask: str) -> None:
    (line,) = mistakes(f"[steering]\nmark_mask = {mask}")
    assert line.startswith("FILE: steering.mark_mask = ")


@pytest.mark.parametrize("mask", [0, 0xFF, 0xFF000000, 0x0FFFFFF0, 0xFFFFFFFF])
def test_marks_that_can_be_used(mask: int) -> None:
    assert parse({"steering": {"mark_mask": mask}}, "FILE").steering.mark_mask == mask


def test_the_bytes_of_offload_are_limited() -> None:
    (line,) = mistakes("[offload]\nbytes = 2000001")
    assert line.startswith("FILE: offload.bytes = 2000001")
    assert parse({"offload": {"bytes": 2_000_000}}, "FILE").offload.bytes == 2_000_000


def test_offload_needs_marks_and_recognition() -> None:
    (line,) = mistakes('[offload]\nmode = "established"\n[steering]\nmark_mask = 0')
    assert line.startswith('FILE: offload.mode = "established": needs the packet mark')
    (line,) = mistakes('[offload]\nmode = "established"\n[queue]\nknown_first = false')
    assert line.startswith('FILE: offload.mode = "established": needs queue.known_first')


def test_nat_never_fails_open() -> None:
    (line,) = mistakes("[queue]\nfail_open = true")
    assert line.startswith("FILE: queue.fail_open = true: would let packets leave untranslated")


def test_redirect_needs_the_routers_own_traffic() -> None:
    (line,) = mistakes('[steering]\nlocal = false\n[[nat]]\naction = "REDIRECT"')
    assert line.startswith('FILE: nat[0].action = "REDIRECT": ')


def test_all_mistakes_are_reported_at_once() -> None:
    assert [
        line.partition(" = ")[0] for line in mistakes('mode = "x"\n[queue]\nfirst = -1\n[log]\nlevle = "info"')
    ] == [
        "FILE: mode",
        "FILE: queue.first",
        "FILE: log.levle",
    ]


def test_drop_ins_replace_keys_and_append_rules(tmp_path: Path) -> None:
    main = tmp_path / "conntrackd.toml"
    rule = '[[nat]]\naction = "SNAT"\nout_interface = "{0}"\nto = "192.0.2.1"\n'
    main.write_text('mode = "nat"\n[queue]\nfirst = 1\nmax_length = 100\n' + rule.format("main"))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "20.toml").write_text("[queue]\nfirst = 20\n" + rule.format("twenty"))
    (tmp_path / "conf.d" / "10.toml").write_text("[queue]\nfirst = 10\n" + rule.format("ten"))
    (tmp_path / "conf.d" / "README").write_text("not TOML, not read")

    settings = load(main)
    assert (settings.queue.first, settings.queue.max_length) == (20, 100)
    interfaces = [rule.match.out_interface.names for rule in settings.nat if rule.match.out_interface]
    assert interfaces == [["main"], ["ten"], ["twenty"]]
    assert [rule.label for rule in settings.nat] == ["nat[0]", "nat[1]", "nat[2]"]


def test_a_mistake_is_reported_with_its_file(tmp_path: Path) -> None:
    main = tmp_path / "conntrackd.toml"
    main.write_text('[[nat]]\naction = "MASQUERADE"\n')
    (tmp_path / "conf.d").mkdir()
    drop_in = tmp_path / "conf.d" / "web.toml"
    drop_in.write_text('[queue]\nfirst = -1\n[[nat]]\naction = "DNAT"\n')
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert str(caught.value).splitlines() == [
        f"{drop_in}:2: queue.first = -1: must be between 0 and 65532",
        f"{drop_in}:3: nat[1].to: DNAT needs it",
    ]


def test_broken_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    main = tmp_path / "conntrackd.toml"
    main.write_text("mode = 'nat'\n[queue]\nfirst = \n")
    with pytest.raises(ConfigError, match=r"conntrackd\.toml:3: Invalid value \(column 9\)$"):
        load(main)
    main.write_text("mode = 'nat")
    with pytest.raises(ConfigError, match=r"conntrackd\.toml: .*end of document"):
        load(main)
    main.write_bytes(b"mode = 'nat'\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"conntrackd\.toml:2: is not UTF-8$"):
        load(main)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# one\n\n[queue]\nmax_length = 1\nfirst = -1\n", "5: queue.first = -1"),
        ("queue = { first = -1 }", "1: queue.first = -1"),
        ("[log]\n[metrics]\n\ntls_key = 'x'", "4: metrics.tls_key"),
        ("[[nat]]\naction = 'ACCEPT'\n[[nat]]\n\n", "3: nat[1].action: is required"),
        ("[[raw]]\nproto = 'tcp'\n[[raw]]", "1: raw[0]: does nothing"),
        ('[filter]\nnft = """\ntable"""', "2: filter.nft: line 1"),
        ("nat = [\n  { action = 'ACCEPT' },\n  { action = 'SNAT' }]", " nat[1].to: SNAT needs it"),
        ("leak_gard = true", "1: leak_gard = true"),
    ],
)
def test_a_mistake_is_reported_with_its_line(text: str, line: str, tmp_path: Path) -> None:
    """That of the key; that of its table if the key is absent; none if the key stands within a longer value."""
    main = tmp_path / "conntrackd.toml"
    main.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert str(caught.value).splitlines()[0].startswith(f"{main}:{line}")


def test_findings_are_in_the_order_of_the_files_and_lines(tmp_path: Path) -> None:
    main = tmp_path / "conntrackd.toml"
    drop_in = tmp_path / "conf.d" / "a.toml"
    drop_in.parent.mkdir()
    nat = "[[nat]]\naction = 'MASQUERADE'\n"
    main.write_text("[log]\nlevel = 1\n[queue]\nfirst = -1\n")
    drop_in.write_text("mode = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert [finding.place for finding in caught.value.findings] == [f"{main}:2", f"{main}:4", f"{drop_in}:1"]
    main.write_text(f"{nat}[[raw]]\nproto = 'tcp'\ntimeouts = {{ nf_conntrack_gre_timeout = 1 }}\n{nat}")
    drop_in.write_text(nat)
    assert [warning.place for warning in load(main).warnings] == [
        *(f"{main}:1", f"{main}:5", f"{main}:6", f"{main}:6"),
        *(f"{drop_in}:1", f"{drop_in}:1"),
    ]


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    main = tmp_path / "conntrackd.toml"
    (tmp_path / "conf.d").mkdir()
    main.write_text("mode = 'track'\nfilter.file = 'rules.nft'", encoding="utf-8-sig")
    (tmp_path / "conf.d" / "a.toml").write_text("[queue]\r\nfirst = 2\r\n", encoding="utf-8-sig")
    (tmp_path / "rules.nft").write_text("table ip t { }", encoding="utf-8-sig")
    settings = load(main)
    assert (settings.mode, settings.queue.first) == ("track", 2)


def test_the_group_of_the_control_socket_must_exist() -> None:
    assert parse({"control": {"group": "root"}}, "FILE").control.group == "root"
    (line,) = mistakes("[control]\ngroup = 'no-such-group'")
    assert line == 'FILE: control.group = "no-such-group": there is no such group on this machine'
    (line,) = mistakes('[control]\ngroup = "a\\u0000"')
    assert line.endswith("there is no such group on this machine")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file or directory"):
        load(tmp_path / "missing.toml")


def test_on_stop() -> None:
    assert parse({}, "FILE").steering.on_stop == "remove"
    assert parse({"steering": {"on_stop": "keep"}}, "FILE").steering.on_stop == "keep"
    (line,) = mistakes("[steering]\non_stop = 'leave'")
    assert 'steering.on_stop = "leave": must be one of remove, keep' in line

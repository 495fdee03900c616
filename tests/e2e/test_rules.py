"""`conntrackd-py rules` with the real nft and iptables, each test in a network namespace of its own."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING

Run = Callable[..., subprocess.CompletedProcess[str]]
FAMILIES = ("iptables", "ip6tables")
# iptables makes the base chains of a table that it needs, and never deletes them.
EMPTY_CHAIN = r"\n?\tchain \w+ \{\n\t\ttype [^\n]* policy accept;\n\t\}\n"
INSTALLED = "ipv4: installed\nipv6: installed\n"

ADMINISTRATORS = """\
*raw
-A PREROUTING -s 192.0.2.1/32 -j DROP
COMMIT
*filter
:LOCAL_RULES - [0:0]
-A INPUT -j LOCAL_RULES
-A LOCAL_RULES -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
"""
ADMINISTRATORS_IPV6 = ADMINISTRATORS.replace("192.0.2.1/32", "2001:db8::1/128")


@pytest.fixture(params=["nft", "iptables"])
def steering(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"program": request.param}


def state(done: subprocess.CompletedProcess[str]) -> str:
    """What `rules status` says about the families, without the program and the reasons."""
    return "".join(line for line in done.stdout.splitlines(keepends=True) if line.startswith("ipv"))


def ours(run: Run, family: str) -> list[str]:
    """The rules of the daemon, of one program or the other."""
    nft = run("nft", "list", "ruleset", "ip" if family == "iptables" else "ip6").stdout
    tables = [text for text in nft.split("\ntable ") if "conntrackd_py {" in text]
    saved = [line for line in run(f"{family}-save").stdout.splitlines() if line.startswith("-A CONNTRACKD_PY")]
    rules = [line.strip() for text in tables for line in text.splitlines() if line.startswith("\t\t")]
    return [line for line in (*saved, *rules) if "comment" not in line and not line.startswith("type ")]


@pytest.fixture
def peer(run: Run) -> Iterator[str]:
    """A second namespace; a link joins them, 10.99.0.1 and fd99::1 on our side."""
    name = f"cpy-peer-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", name)
        for command, interface, host in ((["ip"], "up0", 1), (["ip", "-n", name], "down0", 2)):
            run(*command, "address", "add", f"10.99.0.{host}/24", "dev", interface)
            run(*command, "address", "add", f"fd99::{host}/64", "dev", interface, "nodad")
            run(*command, "link", "set", interface, "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def saved(run: Run) -> dict[str, str]:
    """What iptables-save says for both families, and nft, without the counters and the time of day."""
    nft = re.sub(r"packets \d+ bytes \d+", "", run("nft", "list", "ruleset").stdout)
    texts = {"nft": re.sub(EMPTY_CHAIN, "", nft)}
    for family in FAMILIES:
        lines = run(f"{family}-save").stdout.splitlines()
        texts[family] = "\n".join(re.sub(r"\[\d+:\d+\]", "", line) for line in lines if not line.startswith("#"))
    return texts


def test_install_and_remove_on_a_machine_without_rules(run: Run, rules: Run) -> None:
    before = saved(run)
    rules("install")
    assert all(any("queue" in rule.lower() for rule in ours(run, family)) for family in FAMILIES)
    rules("remove")
    assert saved(run) == before


def test_the_administrators_rules_stay_as_they_were(run: Run, rules: Run) -> None:
    run("iptables-restore", text=ADMINISTRATORS)
    run("ip6tables-restore", text=ADMINISTRATORS_IPV6)
    before = saved(run)
    rules("install")
    rules("install", 'mode = "observe"')
    rules("install")
    rules("remove")
    assert saved(run) == before


def test_an_empty_table_that_was_there_before_stays(run: Run, rules: Run) -> None:
    run("iptables-restore", text="*mangle\nCOMMIT\n")
    run("iptables", "-t", "security", "-A", "INPUT", "-j", "ACCEPT")
    run("iptables", "-t", "security", "-F")
    before = saved(run)
    assert "*security" in before["iptables"]
    rules("install")
    rules("remove")
    assert saved(run) == before


def test_a_table_we_made_stays_once_another_program_uses_it(run: Run, rules: Run) -> None:
    rules("install")
    run("iptables", "-t", "raw", "-I", "PREROUTING", "-s", "192.0.2.1/32", "-j", "DROP")
    rules("remove")
    left = saved(run)
    assert {family: left[family] for family in FAMILIES} == {
        "iptables": "*raw\n:PREROUTING ACCEPT \n:OUTPUT ACCEPT \n-A PREROUTING -s 192.0.2.1/32 -j DROP\nCOMMIT",
        "ip6tables": "",
    }


def test_installing_twice_is_installing_once(run: Run, rules: Run) -> None:
    """No rule is replaced by its like: the handles stay."""
    rules("install")
    once, handles = saved(run), run("nft", "-a", "-s", "list", "ruleset").stdout
    rules("install")
    assert (saved(run), run("nft", "-a", "-s", "list", "ruleset").stdout) == (once, handles)


@pytest.mark.parametrize("steering", [{"program": "iptables"}])
def test_installing_moves_the_jumps_behind_rules_added_since(run: Run, rules: Run) -> None:
    rules("install")
    run("iptables", "-t", "mangle", "-A", "POSTROUTING", "-j", "MARK", "--set-mark", "0x1/0xff")
    assert "does not see queued packets: mangle: -A POSTROUTING -j MARK" in rules("status").stdout
    rules("install")
    assert state(rules("status")) == INSTALLED


@pytest.mark.parametrize("steering", [{"program": "iptables"}])
def test_a_comment_in_another_rule_cannot_command_the_terminal(run: Run, rules: Run) -> None:
    rules("install")
    comment = "\x1b[31m\udcff"  # the last is a byte that is not UTF-8
    run("iptables", "-t", "mangle", "-A", "POSTROUTING", "-m", "comment", "--comment", comment, "-j", "ACCEPT")
    assert r'--comment "\x1b[31m\udcff"' in rules("status").stdout
    rules("remove")


def test_a_changed_configuration_replaces_the_rules(run: Run, rules: Run) -> None:
    rules("install", "[queue]\nfirst = 5")
    rules("install", 'mode = "observe"\n[observe]\ngroup = 6\n[steering]\nfamilies = ["ipv4"]')
    assert ours(run, "ip6tables") == []
    text = "\n".join(ours(run, "iptables"))
    assert "notrack" not in text
    assert "queue" not in text.replace("queue-threshold", "").lower()
    assert re.findall(r"(?:log group|--nflog-group) (\d+)", text) == ["6", "6"]


def test_removing_nothing_is_no_mistake(run: Run, rules: Run) -> None:
    before = saved(run)
    rules("remove")
    rules("remove")
    assert saved(run) == before


def test_status(run: Run, rules: Run, steering: dict[str, str]) -> None:
    assert state(rules("status", status=3)) == "ipv4: not installed\nipv6: not installed\n"
    rules("install")
    assert state(rules("status")) == INSTALLED
    if_iptables = ("ip6tables", "-t", "raw", "-D", "PREROUTING", "-j", "CONNTRACKD_PY_PRE")
    if_nft = ("nft", "insert", "rule", "ip6", "conntrackd_py", "prerouting", "accept")
    run(*{"iptables": if_iptables, "nft": if_nft}[steering["program"]])
    differing = {"iptables": "raw", "nft": "prerouting"}[steering["program"]]
    assert state(rules("status", status=3)) == (
        f"ipv4: installed\nipv6: partly installed: {differing} not as the configuration says\n"
    )
    rules("install")
    assert state(rules("status")) == INSTALLED


@pytest.mark.parametrize(
    "config",
    [
        "",
        'mode = "observe"',
        'mode = "track"\n[queue]\nfirst = 65532\nfail_open = true',
        '[steering]\nlocal = false\nexclude_interfaces = ["lo", "wg+", "br-lan"]',
        "[steering]\nexclude_interfaces = []",
    ],
)
def test_the_program_gives_back_what_was_written(config: str, rules: Run) -> None:
    """Otherwise status would never be content."""
    rules("install", config)
    assert state(rules("status", config)) == INSTALLED


@pytest.mark.parametrize("steering", [{"program": "iptables"}])
def test_what_is_printed_can_be_fed_to_iptables(run: Run, rules: Run) -> None:
    ipv4, ipv6 = rules("print").stdout.split("# ip6tables-restore --noflush\n")
    run("iptables-restore", "--noflush", text=ipv4)
    run("ip6tables-restore", "--noflush", text=ipv6)
    assert state(rules("status")) == INSTALLED


def test_what_is_printed_can_be_fed_to_nft(run: Run, rules: Run) -> None:
    """The kernel may lack nft's own queue; then only that line is refused."""
    text = rules("print", "", "--format", "nft").stdout
    assert text.count("queue num ") == 8
    run("nft", "-f", "-", text=re.sub(r"queue num (\d)", "drop", text))
    assert "goto queue_1" in run("nft", "list", "chain", "ip6", "conntrackd_py", "postrouting").stdout


@pytest.mark.parametrize("steering", [{"program": "iptables"}])
def test_a_refusal_leaves_everything_as_it_was(run: Run, rules: Run, tmp_path: Path) -> None:
    """IPv6 is refused when IPv4 is already installed, which is then taken back."""
    run("iptables-restore", text=ADMINISTRATORS)
    before = saved(run)
    refusing = tmp_path / "ip6tables-restore"
    refusing.write_text("#!/bin/sh\necho refused >&2; exit 1\n")
    refusing.chmod(0o755)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert rules("install", status=1).stderr == "conntrackd-py rules: refused\n"
    assert saved(run) == before


def test_without_the_capability_the_reason_is_one_line(run: Run) -> None:
    command = str(Path(sys.executable).with_name("conntrackd-py"))
    done = run("setpriv", "--bounding-set=-all", "--inh-caps=-all", command, "rules", "remove", status=1)
    assert len(done.stderr.splitlines()) == 1
    assert "ermission denied" in done.stderr or "not permitted" in done.stderr


LISTENER = """
import select
from netfilterqueue import NetfilterQueue
def visit(packet):
    print(packet.hook, packet.get_payload_len(), flush=True)
    packet.accept()
queues = [NetfilterQueue(), NetfilterQueue()]
for number, queue in enumerate(queues):
    queue.bind(number, visit)
print("bound", flush=True)
while True:
    select.select([queue.get_fd() for queue in queues], [], [])
    for queue in queues:
        queue.run(block=False)
"""


@pytest.mark.parametrize("destination", ["10.99.0.1", "fd99::1"])
def test_packets_come_whole_and_once_to_every_visit(run: Run, rules: Run, peer: str, destination: str) -> None:
    """A ping of 3000 bytes to the router: PREROUTING and INPUT inward, OUTPUT and POSTROUTING outward."""
    rules("install")
    namespace = run("ip", "netns", "identify").stdout.strip()
    listener = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-P", "-c", LISTENER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "bound\n"
        ping = ["ping", "-n", "-c", "1", "-W", "5", "-s", "3000", destination]
        subprocess.run(["ip", "netns", "exec", peer, *ping], check=True, stdout=subprocess.PIPE)
        tracked = run("conntrack", "-L").stdout
    finally:
        listener.terminate()
        output, _ = listener.communicate()
    length = 3000 + 8 + (20 if "." in destination else 40)
    large = [line for line in output.splitlines() if int(line.split()[1]) > 1000]
    assert large == [f"{hook} {length}" for hook in (PRE_ROUTING, LOCAL_IN, LOCAL_OUT, POST_ROUTING)]
    assert tracked == "", "the kernel's own tracking keeps off"


@pytest.mark.parametrize(
    ("result", "config", "why"),
    [
        ("watchdog", "", "the service failed with result watchdog"),
        ("success", '[steering]\non_stop = "keep"', "steering.on_stop is keep"),
        ("success", 'mode = "net"', "the configuration is wrong"),
    ],
)
def test_in_doubt_they_stay_when_the_service_has_stopped(result: str, config: str, why: str, rules: Run) -> None:
    rules("install")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SERVICE_RESULT", result)
        said = rules("remove", config, "--on-stop", "conntrackd-py.service").stderr
    assert said.endswith(f"conntrackd-py rules: rules kept: {why}\n")
    assert state(rules("status")) == INSTALLED


@pytest.mark.parametrize("steering", [{}])
def test_before_a_start_with_a_wrong_configuration_forwarding_ends(run: Run, rules: Run) -> None:
    rules("install", 'mode = "net"', "--on-start", status=1)
    for family in FAMILIES:
        assert ours(run, family) == ["queue num 1", "drop", "fib saddr type local return", "goto queue_1"]


@pytest.mark.parametrize(
    ("config", "closes"),
    [
        ('mode = "observe"\nmoode = 1', False),
        ('  mode="observe"  # no bracket follows\n[control\nmode = "0666"', False),
        ('mode = "nat"\n#mode = "observe"\nmoode = 1', True),
    ],
)
def test_a_wrong_configuration_of_mode_observe_stops_nothing(config: str, closes: bool, run: Run, rules: Run) -> None:
    done = rules("install", config, "--on-start", status=1)
    assert ("mode observe never stops packets" in done.stderr) != closes
    assert bool(ours(run, "iptables")) == closes


def test_before_a_start_with_a_wrong_configuration_installed_rules_stay(rules: Run) -> None:
    rules("install")
    assert "the installed rules are kept" in rules("install", 'mode = "net"', "--on-start", status=1).stderr
    assert state(rules("status")) == INSTALLED


@pytest.mark.parametrize("steering", [{"program": "nft"}])
def test_another_firewall_cannot_touch_the_table(run: Run, rules: Run) -> None:
    rules("install")
    before = run("nft", "list", "tables").stdout
    for family in FAMILIES:
        run(f"{family}-restore", text=ADMINISTRATORS if family == "iptables" else ADMINISTRATORS_IPV6)
        for table in ("raw", "mangle", "security", "filter"):
            run(family, "-t", table, "-F")
            run(family, "-t", table, "-X")
    assert state(rules("status")) == INSTALLED
    assert set(before.splitlines()) <= set(run("nft", "list", "tables").stdout.splitlines())


@pytest.mark.parametrize("steering", [{}])
@pytest.mark.parametrize(("first", "second"), [("nft", "iptables"), ("iptables", "nft")])
def test_another_program_replaces_the_rules_of_the_first(run: Run, rules: Run, first: str, second: str) -> None:
    run("iptables-restore", text=ADMINISTRATORS)
    before = saved(run)
    rules("install", f'[steering]\nprogram = "{first}"')
    config = f'[steering]\nprogram = "{second}"'
    assert f"ipv4: partly installed: old rules of {first}\n" in state(rules("status", config, status=3))
    rules("install", config)
    assert state(rules("status", config)) == INSTALLED
    assert f"partly installed: old rules of {second}" in state(
        rules("status", f'[steering]\nprogram = "{first}"', status=3)
    )
    rules("remove")
    assert saved(run) == before


HOLDER = """
import os, select, sys
from netfilterqueue import NetfilterQueue
held = []
def visit(packet):
    packet.retain()
    held.append(packet)
queue = NetfilterQueue()
queue.bind(0, visit)
print("bound", flush=True)
while not held:
    assert select.select([queue.get_fd()], [], [], 20)[0]
    queue.run(block=False)
print("held", flush=True)
sys.stdin.readline()
for packet in held:
    packet.accept()
sys.stdin.readline()
"""


def test_a_reinstallation_loses_no_packet_that_waits(run: Run, rules: Run, peer: str) -> None:
    """The kernel drops all waiting packets when a base chain is deleted."""
    config = 'mode = "observe"\nobserve.via = "nfqueue"\n[steering]\nlocal = false\nfamilies = ["ipv4"]\n'
    config += "exclude_interfaces = {}"
    rules("install", config.format('["lo"]'))
    namespace = run("ip", "netns", "identify").stdout.strip()
    holder = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-P", "-c", HOLDER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    ping = ["ip", "netns", "exec", peer, "ping", "-n", "-c", "1", "-W", "20", "10.99.0.1"]
    try:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "bound\n"
        waiting = subprocess.Popen(ping, stdout=subprocess.PIPE)
        assert holder.stdout.readline() == "held\n"
        rules("install", config.format('["lo", "wg+"]'))
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert waiting.wait(30) == 0
        waiting.communicate()
    finally:
        holder.terminate()
        holder.communicate()


WITHOUT = {
    "iptables": ("xtables-nft-multi", "xtables-legacy-multi"),
    "nft": ("nft",),
    "both": ("nft", "xtables-nft-multi", "xtables-legacy-multi"),
}


def without(run: Run, tmp_path: Path, missing: str, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """`conntrackd-py rules` with the default configuration on a machine where programs are missing."""
    absent, config = tmp_path / "absent", tmp_path / "empty" / "conntrackd.toml"
    absent.touch()
    config.parent.mkdir(exist_ok=True)
    config.touch()
    hidden = "".join(f"mount --bind {absent} $(readlink -f $(command -v {name})) && " for name in WITHOUT[missing])
    command = f"{Path(sys.executable).with_name('conntrackd-py')} rules {' '.join(words)} -c {config}"
    return run("unshare", "-m", "sh", "-c", f"{hidden}exec {command}", status=status)


@pytest.mark.parametrize(
    ("missing", "program"),
    [
        ("iptables", "program: nft (steering.program is auto)"),
        ("nft", "program: iptables (nft: not found; install nftables)"),
    ],
)
def test_one_program_is_enough(run: Run, tmp_path: Path, missing: str, program: str) -> None:
    assert program in without(run, tmp_path, missing, "install").stdout
    said = without(run, tmp_path, missing, "status")
    assert program in said.stdout
    assert state(said) == INSTALLED
    assert all(ours(run, family) for family in FAMILIES)
    without(run, tmp_path, missing, "remove")
    assert "conntrackd_py" not in saved(run)["nft"].lower(), "without nft, empty tables of iptables stay"


def test_without_any_program_the_reason_is_one_line(run: Run, tmp_path: Path) -> None:
    said = without(run, tmp_path, "both", "install", status=1).stderr
    assert len(said.splitlines()) == 1
    assert "install nftables" in said


def test_a_program_that_is_asked_for_must_be_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "conntrackd.toml").write_text('[steering]\nprogram = "nft"')
    assert without(run, tmp_path, "nft", "install", status=1).stderr == (
        "conntrackd-py rules: nft: not found; install nftables\n"
    )

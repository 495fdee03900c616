"""`conntrackd-py rules` with the real iptables, each test in a network namespace of its own."""

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
    """What iptables-save says for both families, without the counters and the time of day."""
    texts = {}
    for family in FAMILIES:
        lines = run(f"{family}-save").stdout.splitlines()
        texts[family] = "\n".join(re.sub(r"\[\d+:\d+\]", "", line) for line in lines if not line.startswith("#"))
    return texts


def test_install_and_remove_on_a_machine_without_rules(run: Run, rules: Run) -> None:
    before = saved(run), run("nft", "list", "ruleset").stdout
    rules("install")
    assert all("NFQUEUE" in text for text in saved(run).values())
    rules("remove")
    assert (saved(run), run("nft", "list", "ruleset").stdout) == before


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
    assert saved(run) == {
        "iptables": "*raw\n:PREROUTING ACCEPT \n:OUTPUT ACCEPT \n-A PREROUTING -s 192.0.2.1/32 -j DROP\nCOMMIT",
        "ip6tables": "",
    }


def test_installing_twice_is_installing_once(run: Run, rules: Run) -> None:
    rules("install")
    once = saved(run)
    rules("install")
    assert saved(run) == once


def test_installing_moves_the_jumps_behind_rules_added_since(run: Run, rules: Run) -> None:
    rules("install")
    run("iptables", "-t", "mangle", "-A", "POSTROUTING", "-j", "MARK", "--set-mark", "0x1/0xff")
    assert "does not see queued packets: mangle: -A POSTROUTING -j MARK" in rules("status").stdout
    rules("install")
    assert rules("status").stdout == "ipv4: installed\nipv6: installed\n"


def test_a_comment_in_another_rule_cannot_command_the_terminal(run: Run, rules: Run) -> None:
    rules("install")
    comment = "\x1b[31m\udcff"  # the last is a byte that is not UTF-8
    run("iptables", "-t", "mangle", "-A", "POSTROUTING", "-m", "comment", "--comment", comment, "-j", "ACCEPT")
    assert r'--comment "\x1b[31m\udcff"' in rules("status").stdout
    rules("remove")


def test_a_changed_configuration_replaces_the_rules(run: Run, rules: Run) -> None:
    rules("install", "[queue]\nfirst = 5")
    rules("install", 'mode = "observe"\n[observe]\ngroup = 6\n[steering]\nfamilies = ["ipv4"]')
    texts = saved(run)
    assert "CONNTRACKD_PY" not in texts["ip6tables"]
    assert "notrack" not in texts["iptables"]
    assert "NFQUEUE" not in texts["iptables"]
    assert re.findall(r"--nflog-group (\d+)", texts["iptables"]) == ["6", "6"]


def test_removing_nothing_is_no_mistake(run: Run, rules: Run) -> None:
    before = saved(run)
    rules("remove")
    rules("remove")
    assert saved(run) == before


def test_status(run: Run, rules: Run) -> None:
    assert rules("status", status=3).stdout == "ipv4: not installed\nipv6: not installed\n"
    rules("install")
    assert rules("status").stdout == "ipv4: installed\nipv6: installed\n"
    run("ip6tables", "-t", "raw", "-D", "PREROUTING", "-j", "CONNTRACKD_PY_PRE")
    assert rules("status", status=3).stdout == (
        "ipv4: installed\nipv6: partly installed: raw not as the configuration says\n"
    )


@pytest.mark.parametrize(
    "config",
    [
        "",
        'mode = "observe"',
        'mode = "track"\n[queue]\nfirst = 65534\nfail_open = true',
        '[steering]\nlocal = false\nexclude_interfaces = ["lo", "wg+", "br-lan"]',
        "[steering]\nexclude_interfaces = []",
    ],
)
def test_iptables_gives_back_what_was_written(config: str, rules: Run) -> None:
    """Otherwise status would never be content."""
    rules("install", config)
    assert rules("status", config).stdout == "ipv4: installed\nipv6: installed\n"


def test_what_is_printed_can_be_fed_to_iptables(run: Run, rules: Run) -> None:
    ipv4, ipv6 = rules("print").stdout.split("# ip6tables-restore --noflush\n")
    run("iptables-restore", "--noflush", text=ipv4)
    run("ip6tables-restore", "--noflush", text=ipv6)
    assert rules("status").stdout == "ipv4: installed\nipv6: installed\n"


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
    assert "Permission denied" in done.stderr


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
    assert rules("status").stdout == "ipv4: installed\nipv6: installed\n"


def test_before_a_start_with_a_wrong_configuration_forwarding_ends(run: Run, rules: Run) -> None:
    rules("install", 'mode = "net"', "--on-start", status=1)
    for family in FAMILIES:
        ours = re.findall(r"-A CONNTRACKD_PY_(?!.*comment).*", run(f"{family}-save").stdout)
        assert ours == [
            "-A CONNTRACKD_PY_POST -m addrtype --src-type LOCAL -j RETURN",
            "-A CONNTRACKD_PY_POST -j NFQUEUE --queue-num 1",
        ]


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
    assert ("NFQUEUE" in saved(run)["iptables"]) == closes


def test_before_a_start_with_a_wrong_configuration_installed_rules_stay(rules: Run) -> None:
    rules("install")
    assert "the installed rules are kept" in rules("install", 'mode = "net"', "--on-start", status=1).stderr
    assert rules("status").stdout == "ipv4: installed\nipv6: installed\n"

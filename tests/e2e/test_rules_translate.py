"""`conntrackd-py rules translate`: the translated firewall lets the same through as the original with the kernel's
tracking, and the real programs load it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import Topology
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import start_servers
from tests.support import firewalls, rulesets
from tests.support.firewalls import WANTED, outcomes

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = str(Path(sys.executable).with_name("conntrackd-py"))
IPTABLES, IP6TABLES, NFT = ("iptables-restore", "--noflush"), ("ip6tables-restore", "--noflush"), ("nft", "-f", "-")
FIREWALLS = {
    "iptables": ((IPTABLES, firewalls.IPTABLES), (IP6TABLES, firewalls.IP6TABLES)),
    "legacy": (
        (("iptables-legacy-restore", "--noflush"), firewalls.IPTABLES),
        (("ip6tables-legacy-restore", "--noflush"), firewalls.IP6TABLES),
    ),
    "ufw": ((IPTABLES, firewalls.UFW_ROUTER), (IP6TABLES, firewalls.UFW_ROUTER6)),
    "nft": ((NFT, firewalls.NFT),),
}


def load(net: Topology, loader: tuple[str, ...], text: str) -> None:
    subprocess.run(net.router.command(*loader), input=text, text=True, check=True, capture_output=True)


def translated(text: str, config: Path) -> str:
    command = [COMMAND, "rules", "translate", "-c", str(config), "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False).stdout


@pytest.mark.parametrize("name", FIREWALLS)
def test_the_original_with_the_kernels_tracking(name: str) -> None:
    with Topology() as net:
        for loader, text in FIREWALLS[name]:
            load(net, loader, text)
        start_servers(net)
        firewalls.serve(net)
        assert outcomes(net) == WANTED


@pytest.mark.parametrize("name", FIREWALLS)
def test_the_translation_with_the_daemon(name: str) -> None:
    with Topology() as net:
        router = Router(net)
        router.install_rules()
        router.start()
        for loader, text in FIREWALLS[name]:
            load(net, loader, translated(text, router.config))
        start_servers(net)
        firewalls.serve(net)
        assert outcomes(net) == WANTED


def test_the_original_with_the_daemon_does_not_work() -> None:
    """The kernel's tracking is off. Then its ct state rules match nothing, so the translation above is what works."""
    with Topology() as net:
        router = Router(net, f'{CONFIG}[steering]\nkernel_conntrack = "off"\n')
        router.install_rules()
        router.start()
        load(net, IPTABLES, firewalls.IPTABLES)
        start_servers(net)
        assert net.client.complete("ping", "-c", "1", "-W", "1", "203.0.113.80").returncode == 1


@pytest.mark.parametrize(
    ("text", "loaders"),
    [
        (text, (("iptables-restore", "--test"), ("iptables-legacy-restore", "--test")))
        for text in (rulesets.IPTABLES, rulesets.UFW, rulesets.DOCKER)
    ]
    + [(text, (("nft", "-c", "-f", "-"),)) for text in (rulesets.NFT, rulesets.FIREWALLD)],
)
@pytest.mark.parametrize("config", ["", '[steering]\nexclude_interfaces = ["mgmt0"]', "[steering]\nmark_mask = 0xff"])
def test_a_translation_loads(
    rules: Run, run: Run, tmp_path: Path, text: str, loaders: tuple[tuple[str, ...], ...], config: str
) -> None:
    file = tmp_path / "rules"
    file.write_text(text)
    done = rules("translate", config, str(file), status=3 if text != rulesets.DOCKER else 0)
    assert done.stdout != text
    for loader in loaders:
        assert run(*loader, text=done.stdout).returncode == 0


@pytest.mark.parametrize(
    ("loader", "text"), [(("iptables-restore", "--noflush"), rulesets.IPTABLES), (("nft", "-f", "-"), rulesets.NFT)]
)
def test_afterwards_rules_check_finds_only_what_was_listed(
    run: Run, rules: Run, tmp_path: Path, loader: tuple[str, ...], text: str
) -> None:
    file = tmp_path / "rules"
    file.write_text(text)
    rules("install", rulesets.ROUTER)
    done = rules("translate", rulesets.ROUTER, str(file), status=3)
    run(*loader, text=done.stdout)
    lines = rules("check", rulesets.ROUTER, "--json", status=3).stdout.splitlines()
    found = [finding for finding in map(json.loads, lines) if finding["code"] == "ct-match"]
    assert len(found) == 1
    assert found[0]["rule"].partition(" #")[0] in done.stderr


def test_the_rules_in_force_of_every_program(run: Run, rules: Run) -> None:
    state = ("-m", "conntrack", "--ctstate", "NEW", "-j", "DROP")
    run("iptables", "-A", "FORWARD", *state)
    run("ip6tables", "-A", "FORWARD", *state)
    run("iptables-legacy", "-A", "FORWARD", *state)
    run("nft", "-f", "-", text=rulesets.NFT)
    rules("install", rulesets.ROUTER)
    before = run("nft", "list", "ruleset").stdout
    text = rules("translate", rulesets.ROUTER, status=3).stdout
    parts = [line for line in text.splitlines() if line.startswith("# ip") or line == "# nft -f"]
    assert parts == [
        "# iptables-nft-restore",
        "# iptables-legacy-restore",
        "# ip6tables-nft-restore",
        "# nft -f",
    ]
    assert text.count("-A FORWARD -m mark --mark 0xa00/0xf00 -j DROP") == 3
    assert "conntrackd_py" not in text.lower(), "the daemon's own rules are not translated"
    assert run("nft", "list", "ruleset").stdout == before
    only = rules("translate", rulesets.ROUTER, "--format", "nft", status=3).stdout
    assert only.startswith("table inet router {")
    assert run("nft", "-c", "-f", "-", text=only).returncode == 0

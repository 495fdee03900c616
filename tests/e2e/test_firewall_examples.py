"""The firewalls in config/firewall, loaded by the real programs and seen by real traffic."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, Topology
from conntrackd_py.lab.router import Router
from conntrackd_py.lab.steps import start_servers
from tests.support import firewalls
from tests.support.firewalls import WANTED, outcomes
from tests.support.rulesets import ROUTER

Run = Callable[..., subprocess.CompletedProcess[str]]
FOLDER = Path(__file__).parents[2] / "config" / "firewall"
MARK = {
    "nft": ((("nft", "-f", "-"), "mark.nft"),),
    "iptables": ((("iptables-restore",), "mark.rules.v4"), (("ip6tables-restore",), "mark.rules.v6")),
}


def adapted(name: str) -> str:
    """The example, with the addresses of the lab, and with the router's web server open to the inside."""
    text = (FOLDER / name).read_text()
    for before, after in (("192.168.1.10", CLIENT), ("22, 53", "22, 53, 8000"), ("22,53", "22,53,8000")):
        text = text.replace(before, after)
    return text


def load(net: Topology, loader: tuple[str, ...], text: str) -> None:
    subprocess.run(net.router.command(*loader), input=text, text=True, check=True, capture_output=True)


@pytest.mark.parametrize("program", MARK)
def test_beside_the_daemon(program: str) -> None:
    with Topology() as net:
        router = Router(net)
        router.install_rules()
        router.start()
        for _ in range(2):  # loaded again, it replaces itself and keeps the steering rules
            for loader, name in MARK[program]:
                load(net, loader, adapted(name))
        start_servers(net)
        firewalls.serve(net)
        assert outcomes(net) == WANTED


def test_with_the_kernels_tracking() -> None:
    with Topology() as net:
        load(net, ("iptables-restore", "--noflush"), firewalls.NAT)
        load(net, ("nft", "-f", "-"), adapted("ctstate.nft"))
        start_servers(net)
        firewalls.serve(net)
        assert outcomes(net) == WANTED


def test_one_is_the_translation_of_the_other(rules: Run) -> None:
    done = rules("translate", "", str(FOLDER / "ctstate.nft"))
    assert _rules(done.stdout) == _rules((FOLDER / "mark.nft").read_text())


def _rules(text: str) -> str:
    return text.partition("define")[2]


@pytest.mark.parametrize("program", MARK)
def test_rules_check_finds_nothing(run: Run, rules: Run, program: str) -> None:
    run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    rules("install", ROUTER)
    for loader, name in MARK[program]:
        run(*loader, text=(FOLDER / name).read_text())
    assert rules("check", ROUTER).stdout == "0 errors, 0 warnings, 0 infos\n"

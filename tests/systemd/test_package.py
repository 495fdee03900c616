"""The Debian package in a bare Debian 12: installed, upgraded, removed and purged, in the order of this file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import Topology
from conntrackd_py.lab.router import CONFIG
from conntrackd_py.lab.steps import start_servers
from tests.support import debian
from tests.support.machine import UNIT
from tests.systemd.conftest import TOML, Router, files

NEWER = "/root/newer.deb"


def ours(router: Router) -> set[str]:
    """Neither what its dependencies bring, nor dpkg's notes."""
    found = {name for name in files(router.root) if "conntrackd-py" in name or "conntrack-py" in name}
    return {name for name in found if not name.startswith("/var/lib/dpkg/")}


@pytest.fixture(scope="module")
def bare() -> Iterator[Router]:
    deb = debian.package()
    with Topology() as net, debian.copy("base", bare=True) as root:
        shutil.copy(deb, root / "root/package.deb")
        debian.as_version(deb, "99.0", root / NEWER[1:])
        debian.apt_install(root, "/root/package.deb")
        with Router(net, root) as machine:
            start_servers(net)
            yield machine


def test_installed_it_neither_runs_nor_is_enabled(bare: Router) -> None:
    assert "(compiled, " in bare.run("conntrackd-py", "--version")
    assert bare.show("ActiveState") == "inactive"
    assert bare.complete("systemctl", "is-enabled", UNIT).stdout.strip() == "disabled"
    assert not bare.has_rules()
    assert "conntrackd-py:" in bare.run("getent", "passwd", "conntrackd-py")
    assert bare.complete("dpkg", "--verify", "conntrackd-py").stdout == ""


def test_enabled_it_translates_as_its_own_user(bare: Router) -> None:
    bare.configure()
    bare.run("systemctl", "enable", "--now", UNIT)
    bare.fetch()
    assert bare.run("stat", "-c", "%U", f"/proc/{bare.pid()}").strip() == "conntrackd-py"


def test_with_iptables_legacy_it_starts_and_leaves_nothing_as_well(bare: Router) -> None:
    bare.run("systemctl", "stop", UNIT)
    bare.configure(f'{CONFIG}[steering]\nprogram = "iptables"\n')
    for kind in ("legacy", "nft"):
        for name in ("iptables", "ip6tables"):
            bare.run("update-alternatives", "--set", name, f"/usr/sbin/{name}-{kind}")
        bare.run("systemctl", "start", UNIT)
        bare.fetch()
        assert "CONNTRACKD_PY" in bare.run(f"iptables-{kind}-save")
        bare.run("systemctl", "stop", UNIT)
        assert "CONNTRACKD_PY" not in bare.run(f"iptables-{kind}-save")
    bare.configure()
    bare.run("systemctl", "start", UNIT)


def test_an_upgrade_hands_over_and_keeps_connections_configuration_and_rules(bare: Router) -> None:
    before, edited, invocation = bare.pid(), (bare.root / TOML[1:]).read_text(), bare.show("InvocationID")
    known = bare.remember(1)
    assert bare.leaks(lambda: bare.upgrade(NEWER)) == "", bare.journal()
    assert "99.0" in bare.run("dpkg-query", "-W", "conntrackd-py")
    assert bare.pid() not in (0, before)
    assert bare.show("InvocationID") == invocation, "systemd has not restarted it"
    assert known in bare.run("conntrack-py", "-L", "-p", "udp")
    assert (bare.root / TOML[1:]).read_text() == edited
    bare.fetch()


def test_systemd_notices_a_crash_after_the_upgrade(bare: Router) -> None:
    before, invocation = bare.pid(), bare.show("InvocationID")
    bare.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT)
    bare.wait("running", lambda: bare.pid() not in (0, before) and bare.show("SubState") == "running")
    assert bare.show("InvocationID") != invocation
    bare.fetch()


@pytest.mark.parametrize(("reason", "port"), [("unit", 2), ("queues", 3)])
def test_what_cannot_be_handed_over_is_restarted(bare: Router, reason: str, port: int) -> None:
    """The unit has changed, or the queues in the configuration."""
    before, invocation = bare.pid(), bare.show("InvocationID")
    known = bare.remember(port)
    if reason == "unit":
        unit = bare.root / f"lib/systemd/system/{UNIT}"
        unit.write_text(unit.read_text() + "# of an older version\n")
    else:
        bare.configure(f"{CONFIG}[queue]\nfirst = 8\n")
    assert bare.leaks(lambda: bare.upgrade(NEWER)) == "", bare.journal()
    bare.wait("running", lambda: bare.pid() not in (0, before) and bare.show("SubState") == "running")
    assert bare.show("InvocationID") != invocation
    assert known in bare.run("conntrack-py", "-L", "-p", "udp")
    bare.fetch()


def test_removed_it_has_taken_its_rules_away_and_left_the_configuration(bare: Router) -> None:
    bare.run("dpkg", "-r", "conntrackd-py")
    assert not bare.has_rules()
    assert bare.forwards()
    assert (bare.root / TOML[1:]).exists()
    assert not (bare.root / "usr/lib/conntrackd-py").exists()
    assert bare.show("LoadState") in ("not-found", "masked")


def test_purged_nothing_is_left(bare: Router) -> None:
    bare.run("dpkg", "-P", "conntrackd-py")
    assert ours(bare) == set()

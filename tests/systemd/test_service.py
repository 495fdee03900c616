"""The service on a real systemd, as one story in the order of this file: from scripts/install to scripts/uninstall."""

from __future__ import annotations

import json
import re
import time
from functools import partial

from conntrackd_py.lab.namespaces import CLIENT, ROUTER_INSIDE, SERVER
from conntrackd_py.lab.router import CONFIG, METRICS
from conntrackd_py.lab.steps import TRAFFIC, UDP_PORT
from tests.support import debian
from tests.systemd.conftest import TOML, UNIT, Router, files

NAT_LOG = "/var/log/conntrackd-py/nat.log"
LOGGING = f'{CONFIG}\n[nat_log]\nfile = "{NAT_LOG}"\n'
REJECTING = f"""{CONFIG}
[[filter.rule]]
hook = "forward"
proto = "tcp"
dport = 23
action = "reject"
reject_with = "tcp-reset"
"""
KEEPING = CONFIG.replace("[metrics]", '[steering]\non_stop = "keep"\n\n[metrics]')
DROP_IN = f"/etc/systemd/system/{UNIT}.d/test.conf"
NET_ADMIN_AND_RAW = "0000000000003000"


def status_lines(router: Router) -> dict[str, str]:
    """/proc/PID/status of the daemon."""
    text = router.run("cat", f"/proc/{router.pid()}/status")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def runs_as_its_own_user(router: Router) -> None:
    status = status_lines(router)
    user = router.run("id", "-u", "conntrackd-py").strip()
    assert status["Uid"].split() == [user] * 4
    assert user != "0"
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert status[kind] == NET_ADMIN_AND_RAW
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def restart(router: Router) -> None:
    router.run("systemctl", "restart", UNIT)


def test_installed_it_has_commands_pages_and_a_sample_and_does_not_run(router: Router) -> None:
    assert "(compiled, " in router.run("conntrackd-py", "--version")
    router.run("conntrackd-py", "check-config")
    assert router.show("LoadState") == "loaded"
    assert router.complete("systemctl", "is-enabled", UNIT).stdout.strip() == "disabled"
    assert not router.has_rules()
    put = {name for name in files(router.root / "usr/local") if "/python3" not in name}
    for name in (
        *("/sbin/conntrackd-py", "/sbin/conntrack-py", "/share/man/man8/conntrack-py.8"),
        *("/share/bash-completion/completions/conntrack-py", "/share/zsh/site-functions/_conntrackd-py"),
        *("/share/fish/vendor_completions.d/conntrack-py.fish", "/share/doc/conntrackd-py/grafana/conntrackd-py.json"),
        "/share/doc/conntrackd-py/firewall/mark.nft",
    ):
        assert name in put
    pages = [name for name in put if name.startswith("/share/man/man") and "." in name]
    assert all("/conntrack" in name for name in pages), "a manual page of another package"


def test_the_unit_is_sound_and_shut_in(router: Router) -> None:
    unit = f"/usr/local/lib/systemd/system/{UNIT}"
    assert router.run("systemd-analyze", "verify", "--man=no", unit) == ""
    router.run("systemd-analyze", "security", "--offline=true", "--threshold=20", unit)


def test_installed_again_an_edited_configuration_stays(router: Router) -> None:
    router.configure(REJECTING)
    edited = (router.root / TOML[1:]).read_text()
    router.run("env", debian.QUICK_BUILD, f"{debian.CLONE}/scripts/install", timeout=debian.AT_MOST)
    assert (router.root / TOML[1:]).read_text() == edited
    assert (router.root / f"{TOML[1:]}.new").exists()


def test_provisioned_as_the_router_of_the_vagrantfile_it_translates(router: Router) -> None:
    router.run("rm", TOML)  # the sample comes back, and the rules are those of the drop-in
    router.run(f"{debian.CLONE}/scripts/provision", "router", "wan0")
    router.net.client.run(str(debian.SOURCE / "scripts/provision"), "client", ROUTER_INSIDE)
    router.fetch()
    assert router.run("systemctl", "is-enabled", UNIT) == "enabled\n"
    router.run("systemctl", "stop", UNIT)
    router.run("rm", "/etc/conntrackd-py/conf.d/router.toml", "/etc/sysctl.d/60-router.conf")


def test_started_it_translates_as_its_own_user(router: Router) -> None:
    router.configure(REJECTING)
    router.run("systemctl", "start", UNIT)
    router.fetch()
    runs_as_its_own_user(router)
    lines = router.run("conntrackd-py", "rules", "status").splitlines()
    assert lines[0] == "program: nft (steering.program is auto)"
    assert lines[-2:] == ["ipv4: installed", "ipv6: installed"]
    assert f"dst={SERVER}" in router.run("conntrack-py", "-L")
    router.wait("a status", lambda: "connections" in router.show("StatusText"))


def test_installed_again_the_daemon_hands_over(router: Router) -> None:
    before, invocation = router.pid(), router.show("InvocationID")
    router.run("env", debian.QUICK_BUILD, f"{debian.CLONE}/scripts/install", timeout=debian.AT_MOST)
    assert router.pid() not in (0, before)
    assert router.show("InvocationID") == invocation
    assert "not our child" not in router.journal(), "systemd does not wait for the end of such a process"
    router.fetch()


def test_metrics_have_the_counters_of_the_queues(router: Router) -> None:
    metrics = router.run("curl", "-sS", "--fail", f"http://{METRICS}/metrics")
    for queue, name in enumerate(("new", "last", "known", "established")):
        assert f'conntrackd_py_queue_dropped_total{{name="{name}",queue="{queue}"}} 0.0' in metrics


def test_what_the_filter_rejects_is_answered(router: Router) -> None:
    refused = router.net.client.complete("curl", "-sS", "--max-time", "3", f"http://{SERVER}:23/")
    assert "Could" in refused.stderr or "refused" in refused.stderr
    assert refused.returncode == 7, "timed out: no reset came"


def test_a_changed_address_is_seen(router: Router) -> None:
    router.run("ip", "address", "add", "203.0.113.77/24", "dev", "wan0")
    router.wait("the address", lambda: "203.0.113.77" in router.journal())
    router.run("ip", "address", "delete", "203.0.113.77/24", "dev", "wan0")


def test_a_restart_lets_nothing_out_untranslated(router: Router) -> None:
    before = router.pid()
    known = router.remember(1)
    assert router.leaks(partial(restart, router)) == ""
    assert router.pid() != before
    assert "rules kept: the service is being restarted" in router.journal(), router.journal()
    assert known in router.run("conntrack-py", "-L", "-p", "udp")
    router.fetch()


def test_killed_it_is_back_and_nothing_got_out_meanwhile(router: Router) -> None:
    before = router.pid()
    known = router.remember(2)

    def crash() -> None:
        router.run("kill", "-9", str(before))
        router.wait("started again", lambda: router.pid() not in (0, before) and router.show("SubState") == "running")

    assert router.leaks(crash) == ""
    assert "rules kept: the service failed with result signal" in router.journal()
    assert router.show("NRestarts") == "1"
    assert known in router.run("conntrack-py", "-L", "-p", "udp")
    router.fetch()
    runs_as_its_own_user(router)


def test_a_loop_that_stands_still_is_caught_by_the_watchdog(router: Router) -> None:
    assert router.show("WatchdogUSec") == "10s"
    router.write(DROP_IN, "[Service]\nWatchdogSec=3\n")
    router.run("systemctl", "daemon-reload")
    router.run("systemctl", "restart", UNIT)
    before = router.pid()
    time.sleep(4)
    assert router.pid() == before, "an idle daemon feeds the watchdog"
    router.run("kill", "-STOP", str(before))
    router.wait("started again", lambda: router.pid() not in (0, before) and router.show("SubState") == "running")
    assert "Watchdog timeout" in router.journal()
    router.fetch()
    router.run("rm", "-r", f"/etc/systemd/system/{UNIT}.d")
    router.run("systemctl", "daemon-reload")


def test_a_flushed_ruleset_is_restored_and_nothing_got_out_meanwhile(router: Router) -> None:
    """The unit's user may do it: the capabilities, the lock of iptables, libnftables behind the system call filter."""

    def flush() -> None:
        router.run("nft", "flush", "ruleset")
        router.wait("restored", router.has_rules)

    before = router.pid()
    assert router.leaks(flush) == "", router.journal()
    assert "inet conntrackd_py_guard" in router.run("nft", "list", "tables")
    router.wait("a line of it", lambda: '"event": "steering_restored"' in router.journal())
    router.fetch()
    assert router.pid() == before


def test_a_good_configuration_is_taken_over_by_reload(router: Router) -> None:
    before = router.pid()
    router.configure(CONFIG.replace("[tunables]", "[tunables]\nnf_conntrack_udp_timeout = 7"))
    router.run("systemctl", "reload", UNIT)
    assert router.pid() == before
    assert router.show("ActiveState") == "active"
    router.net.client.run(*TRAFFIC, "udp-send", SERVER, str(UDP_PORT), "100")
    listed = router.run("conntrack-py", "-L", "-p", "udp", "--dport", str(UDP_PORT))
    assert re.search(r"^udp +17 [1-7] ", listed, re.MULTILINE), listed
    router.fetch()


def test_the_nat_log_is_written_by_its_user_and_read_by_who_had(router: Router) -> None:
    router.configure(LOGGING)
    router.run("systemctl", "reload", UNIT)
    router.fetch()
    router.wait("a line", lambda: '"NEW"' in router.run("cat", NAT_LOG))
    assert router.run("stat", "-c", "%U %G %a", "/var/log/conntrackd-py") == "conntrackd-py conntrackd-py 750\n"
    assert router.run("stat", "-c", "%U %G %a", NAT_LOG) == "conntrackd-py conntrackd-py 600\n"
    line = json.loads(next(line for line in router.run("cat", NAT_LOG).splitlines() if '"NEW"' in line))
    assert router.run("ls", "/etc/logrotate.d/conntrackd-py")
    said = router.run("conntrackd-py", "who-had", line["reply"]["dst"], str(line["reply"]["dport"]), line["time"])
    assert said.startswith(f"{CLIENT}:{line['orig']['sport']} had ")
    router.configure()
    router.run("systemctl", "reload", UNIT)


def test_a_wrong_configuration_is_refused_by_reload_and_the_old_one_stays(router: Router) -> None:
    before = router.pid()
    router.configure('mode = "net"\n')
    refused = router.complete("systemctl", "reload", UNIT)
    assert refused.returncode != 0 or "mode" in router.show("StatusText")
    assert router.pid() == before
    router.fetch()
    router.configure()


def test_stopped_the_machine_is_as_it_was_found(router: Router) -> None:
    router.run("systemctl", "stop", UNIT)
    assert not router.has_rules()
    assert router.run("ls", "/run/conntrackd-py") == "", "the kernel forwards now, so the journal is out of date"
    assert router.forwards()
    assert not router.translates()


def test_stopped_with_on_stop_keep_nothing_passes(router: Router) -> None:
    router.configure(KEEPING)
    router.run("systemctl", "start", UNIT)
    router.fetch()
    router.run("systemctl", "stop", UNIT)
    assert router.has_rules()
    assert not router.forwards()
    assert router.run("ls", "/run/conntrackd-py") == "control.journal\n"
    router.configure()
    router.run("systemctl", "start", UNIT)
    router.fetch()


def test_started_with_a_wrong_configuration_it_forwards_nothing_and_can_be_reached(router: Router) -> None:
    router.run("systemctl", "stop", UNIT)
    router.configure('mode = "net"\n')
    assert router.complete("systemctl", "start", UNIT).returncode != 0
    router.wait("given up", lambda: router.show("ActiveState") == "failed")
    assert not router.forwards()
    assert router.net.client.complete("ping", "-c", "1", "-W", "1", ROUTER_INSIDE).returncode == 0
    assert "nothing is forwarded until the configuration is corrected" in router.journal()
    router.configure()
    router.run("systemctl", "reset-failed", UNIT)
    router.run("systemctl", "start", UNIT)
    router.fetch()


def test_booted_it_is_there_before_the_network(router: Router) -> None:
    router.reboot()
    router.wait("running", lambda: router.show("SubState") == "running")
    router.fetch()
    ready, network = (int(router.show("ActiveEnterTimestampMonotonic", unit)) for unit in (UNIT, "network-pre.target"))
    assert 0 < ready <= network
    assert "ordering cycle" not in router.run("journalctl", "-b", "--no-pager", "-o", "cat")


def test_uninstalled_nothing_is_left_but_the_edited_configuration(router: Router) -> None:
    router.run(f"{debian.CLONE}/scripts/uninstall")
    assert not router.has_rules()
    assert router.complete("id", "conntrackd-py").returncode != 0
    assert router.complete("systemctl", "cat", UNIT).returncode != 0
    left = files(router.root) - router.before
    assert {name for name in left if not name.startswith("/etc/") or "conntrack" in name} == {
        "/etc/conntrackd-py",
        TOML,
    }

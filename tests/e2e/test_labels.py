"""Labels that rules set on live traffic: the kernel and conntrack(8) on the client, the daemon on the router."""

import signal
import subprocess
import time

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Namespace, Topology
from conntrackd_py.lab.router import CONNTRACK, Router
from conntrackd_py.lab.steps import TRAFFIC, UDP_PORT, start_servers
from tests.support import listeners
from tests.support.sidebyside import printed

CONFIG = f"""\
mode = "track"
[control]
socket = "%s"
[metrics]
listen = ""
[[connmark]]
dport = "{UDP_PORT}"
proto = "udp"
label = 0
[[connmark]]
sport = "{UDP_PORT}"
proto = "udp"
label = 3
"""
KERNEL = f"""
table ip labels {{
    chain out {{ type filter hook output priority mangle; udp dport {UDP_PORT} ct label set 0; }}
    chain in {{ type filter hook prerouting priority mangle; udp sport {UDP_PORT} ct label set 3; }}
}}
"""
NAMES = "0 foo\n3 baz\n"


def listen(where: Namespace, net: Topology, *words: str) -> subprocess.Popen[str]:
    """A program in a namespace, that knows the names of labels."""
    script = f'mount -t overlay overlay -o lowerdir={net.folder}/etc:/etc /etc && exec "$@"'
    return where.start("unshare", "-m", "sh", "-c", script, "sh", *words, stdout=subprocess.PIPE)


def with_labels(process: subprocess.Popen[str]) -> list[str]:
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    return [printed(line) for line in out.splitlines() if "labels=" in line]


def test_a_label_that_a_rule_sets_is_an_event() -> None:
    with Topology() as net:
        (net.folder / "etc" / "xtables").mkdir(parents=True)
        (net.folder / "etc" / "xtables" / "connlabel.conf").write_text(NAMES)
        (net.folder / "labels.nft").write_text(KERNEL)
        net.server.run("ip", "route", "add", INSIDE, "via", ROUTER)
        net.client.run("nft", "-f", str(net.folder / "labels.nft"))
        router = Router(net, CONFIG)
        router.install_rules()
        router.start()
        start_servers(net)
        forms = ("-E", "-o", "labels", "-p", "udp")
        real = listen(net.client, net, "stdbuf", "-oL", "conntrack", *forms)
        ours = listen(net.router, net, *CONNTRACK, "--socket", str(router.socket), *forms)
        listeners.wait_for_kernel(net.client.run)
        listeners.wait_for_daemon(router.socket)
        net.client.run(*TRAFFIC, "udp-send", SERVER, str(UDP_PORT), "10", "20")
        time.sleep(0.5)
        seen = with_labels(ours)
        assert with_labels(real) == seen
    assert [line.split("labels=")[1] for line in seen] == ["foo", "foo,baz"]
    assert all(f"src={CLIENT}" in line for line in seen)

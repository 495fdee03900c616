"""Offloaded connections while no daemon runs: the kernel goes on forwarding, and the next daemon takes them over."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from conntrackd_py.kernel.steering.nftables import Nftables
from conntrackd_py.lab.namespaces import ROUTER, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON
from tests.support.manager import Manager
from tests.support.offloading import MAPS, MEGABYTE, OFFLOAD, Net
from tests.support.waiting import wait_until

MASQUERADE = CONFIG.replace(f'action = "SNAT"\nto = "{ROUTER}"', 'action = "MASQUERADE"')
NOISE = 10  # packets of the router itself, such as neighbour discovery; each datagram would count twice


@pytest.fixture
def net() -> Iterator[Net]:
    with Topology() as topology:
        manager = Manager(topology.folder)
        topology.cleanup.callback(manager.close)
        made = Net(topology, config=MASQUERADE, manager=manager)
        yield made
        made.close()
        assert made.leaked() == []


def events(said: str, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def tables(net: Net) -> str:
    return net.inside_router.run("nft", "list", "tables")


def stored(net: Net) -> list[str]:
    assert net.manager is not None
    return [name for name, _ in net.manager.stored]


@pytest.mark.parametrize("end", [Net.kill, Net.stop])
@pytest.mark.parametrize(("host", "source"), [(SERVER, 6000), (SERVER6, 6600)])
def test_datagrams_pass_while_no_daemon_runs(net: Net, end: Callable[[Net], None], host: str, source: int) -> None:
    talk = net.talk(host, source)
    assert talk.send(20) == 20
    end(net)
    assert net.queued(lambda: talk.send(100)) < NOISE, net.router.said()
    assert talk.send(50) == 50
    said = net.start()
    assert events(said, "maps_taken_over")[0]["offloaded"] == 1
    assert events(said, "descriptor_closed") == []
    assert net.queued(lambda: talk.send(100)) < NOISE
    assert "[OFFLOAD]" in net.listed(source)
    sent = 12 + 20 + 100 + 50 + 100
    few = range(sent - 3, sent + 1)  # those that waited in a queue when it was offloaded may be missing
    wait_until(lambda: all(count in few for count in net.counted(source)[::2]), lambda: net.listed(source))


# In the place of nft: takes its time once, when the file `slow` is there.
SLOW_NFT = """#!/bin/sh
if [ -e {folder}/slow ]; then mv {folder}/slow {folder}/begun; sleep 4; fi
exec /usr/sbin/nft "$@"
"""


def test_a_stop_while_a_thread_reads_the_rules(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends when the thread has; nothing is done for the tables meanwhile."""
    folder = net.topology.folder
    program = folder / "nft"
    program.write_text(SLOW_NFT.format(folder=folder))
    program.chmod(0o755)
    net.stop()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    net.start()
    talk = net.talk()
    (folder / "slow").touch()
    net.inside_router.run("/usr/sbin/nft", "add", "table", "inet", "other")
    wait_until((folder / "begun").exists, net.router.said)
    net.stop()
    assert "maps" in stored(net)
    assert net.queued(lambda: talk.send(50)) < NOISE


def test_a_stream_of_tcp_through_crash_stop_and_upgrade(net: Net) -> None:
    process = net.exchanging(1500)
    for end in (Net.kill, Net.stop):
        end(net)
        assert net.flows() >= 2
        net.start()
    done = net.inside_router.complete(*DAEMON, "upgrade", "--socket", str(net.router.socket))
    assert done.returncode == 0, (done.stderr, net.router.said()[-3000:])
    assert [line["offloaded"] for line in events(net.router.said(), "maps_taken_over")] == [1, 1, 1]
    assert process.communicate(timeout=100)[0] == f"{1500 * MEGABYTE} bytes each way, SHA-256 equal\n"
    assert '"event": "maps_failed"' not in net.router.said()


def test_the_tables_end_with_the_store(net: Net) -> None:
    talk = net.talk()
    net.stop()
    assert talk.send(5) == 5
    assert net.manager is not None
    net.manager.forget()
    assert MAPS not in tables(net)
    assert talk.send(1) == 0
    said = net.start()
    assert not events(said, "maps_taken_over")
    assert talk.send(20) == 20


def test_a_lost_journal_ends_what_the_kernel_forwards(net: Net) -> None:
    """The datagrams are those of a new connection then, with a translation of its own."""
    talk = net.talk()
    net.kill()
    net.router.socket.with_suffix(".journal").unlink()
    said = net.start()
    assert events(said, "maps_taken_over")[0] == {**events(said, "maps_taken_over")[0], "offloaded": 0, "mapped": 0}
    assert net.flows() == 0
    assert net.queued(lambda: talk.send(1)) > 0


@pytest.mark.parametrize(
    "setting",
    [
        "[journal]\nenabled = false\n",
        'exclude_interfaces = ["lo", "other0"]\n',
        '[offload]\nmode = "off"\n[queue]\nknown_first = false\n',
    ],
)
def test_other_settings(net: Net, setting: str) -> None:
    """Without a journal, or with other tables or none: nothing is taken over, and the kernel forwards nothing."""
    talk = net.talk()
    net.kill()
    text = net.router.config.read_text()
    net.router.config.write_text((text.replace(OFFLOAD, "") if "offload" in setting else text) + setting)
    net.router.install_rules()
    said = net.start()
    assert not events(said, "maps_taken_over")
    assert ("maps" in stored(net)) == ("exclude" in setting)
    assert net.queued(lambda: talk.send(1)) > 0
    net.kill()
    wait_until(lambda: (MAPS in tables(net)) == ("exclude" in setting), lambda: tables(net))  # a child may have it too


def test_a_connection_that_a_rule_must_see_returns(net: Net) -> None:
    talk = net.talk()
    net.kill()
    rule = '[[connmark]]\nin_interface = "lan0"\nset = "0x1/0xff"\n'
    net.router.config.write_text(net.router.config.read_text() + rule)
    said = net.start()
    assert events(said, "maps_taken_over")[0]["offloaded"] == 0
    assert net.flows() == 0
    assert talk.send(20) == 20


def test_another_socket_in_the_store_is_not_believed(net: Net) -> None:
    net.talk()
    net.kill()
    assert net.manager is not None
    for name, descriptor in net.manager.stored:
        if name == "maps":
            os.close(descriptor)
    net.manager.stored = [one for one in net.manager.stored if one[0] != "maps"]
    net.manager.store("maps", socket.socket().detach())
    said = net.start()
    assert not events(said, "maps_taken_over"), said
    assert MAPS in tables(net), said
    assert net.talk(source=6001).send(50) == 50
    assert stored(net).count("maps") == 1
    net.kill()
    assert MAPS in tables(net)


def test_the_kernel_forwards_for_a_minute_at_most(net: Net) -> None:
    """The set `alive` has a timeout. Here it is emptied over the socket that the manager has."""
    talk = net.talk()
    listed = net.inside_router.run("nft", "list", "set", "ip", MAPS, "alive")
    assert "timeout 1m" in listed
    assert "ip expires" in listed
    net.kill()
    assert net.inside_router.complete("nft", "flush", "set", "ip", MAPS, "alive").returncode == 1, "it is owned"
    assert talk.send(5) == 5
    assert net.manager is not None
    nftables = Nftables(socket.socket(fileno=os.dup(dict(net.manager.stored)["maps"])))
    nftables.run(f"flush set ip {MAPS} alive\n")
    nftables.close()
    assert net.queued(lambda: talk.send(1)) > 0
    assert events(net.start(), "maps_taken_over")[0]["offloaded"] == 1
    assert net.queued(lambda: talk.send(50)) < NOISE


def test_counters_that_were_zeroed_do_not_come_back(net: Net) -> None:
    talk = net.talk()
    assert talk.send(100) == 100
    listed = net.router.conntrack("-L", "-z")
    assert "packets=112" in listed
    assert talk.send(20) == 20
    wait_until(lambda: net.flows() == 2, "not offloaded again")
    net.kill()
    net.start()
    assert talk.send(20) == 20
    wait_until(lambda: 37 <= net.counted()[0] <= 40, net.listed)


# A process that takes over its own tables, by another socket object.
ALONE = """
import socket, sys
from conntrackd_py.engine.mark_maps import FLOWS, LEAVES, SOURCES, Element, leaving
from conntrackd_py.kernel.maps.tables import MapTables, Parts, remove
from conntrackd_py.kernel.steering.nftables import NftablesError
parts = Parts(0xffffff00, ("lo",), True, True, True)
t4, t6 = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 5, 0, 6, 17]), bytes(range(32)) + bytes([0, 5, 0, 6, 17])
added = {
    Element(4, FLOWS, 0x2800, t4, 5, 600), Element(6, FLOWS, 0x2800, t6, 7, 800),
    Element(4, LEAVES, 0x2800, leaving(3, t4)), Element(6, LEAVES, 0x2800, leaving(3, t6)),
    Element(4, SOURCES, 0x2800, t4[:4]), Element(4, "saddr", 0x2800, t4[:4]), Element(6, "daddr", 0x2800, t6[:16]),
    Element(4, "sport", 0x2800, t4[:2]), Element(6, "dport", 0x2900, t4[2:4]),
}
many = {Element(4, FLOWS, 0x2800, bytes([10, 1, at >> 8, at & 255]) + t4[4:]) for at in range(5000)}
first = MapTables(parts)
assert first.add(sorted(added)) and first.add(sorted(many))
assert set(first.held()) == added | many
second = MapTables(parts, first.nftables.owner())
assert second.adopted and set(second.held()) == added | many
second.renew(1_000_000)
assert second.counters([one for one in sorted(added) if one.map == FLOWS]) == [5, 600, 7, 800]
assert second.replace() and second.held() == []
assert second.add(sorted(added))
assert not MapTables(parts, second.nftables.owner(), adopt=False).held()
third = MapTables(parts._replace(excluded=("eth7",)), second.nftables.owner())
assert not third.adopted and third.held() == []
try:
    MapTables(parts)
    sys.exit("two owners")
except NftablesError:
    remove(third.nftables.owner())
print("ready")
"""


def test_tables_are_taken_over_replaced_and_removed() -> None:
    with Topology() as topology:
        assert topology.router.run(sys.executable, "-P", "-c", ALONE) == "ready\n"
        assert MAPS not in topology.router.run("nft", "list", "tables")

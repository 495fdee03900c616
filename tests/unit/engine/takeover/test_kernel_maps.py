"""What a former process left in the kernel: kept for restored connections, deleted for all others."""

import pytest

from conntrackd_py.const import IPS_OFFLOAD
from conntrackd_py.engine.mark_maps import FLOWS, SOURCES, Element
from conntrackd_py.engine.takeover.kernel_maps import take_over
from tests.support.journals import attach, finish, restored
from tests.unit.engine.test_offload import STREAM, Path


def restarted(path: Path, *, away: int = 1000, lost: bool = False) -> Path:
    """A new engine with the connections of the journal, and the maps of the former one."""
    journal = path.engine.core.journal
    assert journal is not None
    finish(path.engine)
    after = Path()
    after.now, after.maps = path.now + away, path.maps
    after.engine.mark_maps.maps = path.maps
    if not lost:
        restored(journal, after.engine, after.now, clean=True, away=away, tunables=after.tunables)
    return after


def taken(path: Path) -> bool:
    return take_over(path.engine.offload, path.maps, path.maps.held(), path.now)


@pytest.fixture
def path() -> Path:
    made = Path()
    attach(made.engine)
    return made


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_what_was_offloaded_stays_and_its_packets_are_credited(path: Path, protocol: str) -> None:
    sent = STREAM + 5 if protocol == "udp" else 1 + STREAM + 5
    path.stream() if protocol == "udp" else path.opened()
    after = restarted(path)
    for _ in range(5):  # no daemon runs
        path.udp() if protocol == "udp" else path.tcp("A")
    assert taken(after)
    (ct,) = [one for one in after.engine.core.table.slots if one is not None]
    assert ct.status & IPS_OFFLOAD
    assert ct.packets_original == sent
    assert ct.timeout == after.now + ct.l4proto.lifetime(ct)
    assert len(after.engine.mark_maps.mapped) == len(after.engine.offload.slots) == 1
    queued = after.queued
    after.udp() if protocol == "udp" else after.tcp("A")
    assert after.queued == queued


def test_a_counter_never_goes_back(path: Path) -> None:
    """The record of the connection may know of more packets than the kernel forwarded."""
    former = path.stream()
    former.account(0, 1000, 10)
    counted = former.packets_original
    after = restarted(path)
    assert taken(after)
    assert after.only(4000).packets_original == counted


def nothing_is_left(path: Path) -> bool:
    return taken(path) and not path.maps.held() and not path.engine.mark_maps.mapped and not path.engine.offload.slots


def test_without_its_journal_nothing_stays(path: Path) -> None:
    path.stream()
    assert nothing_is_left(restarted(path, lost=True))


def test_a_timeout_that_is_over_is_not_believed(path: Path) -> None:
    path.stream()
    after = restarted(path, away=400_000)
    assert taken(after)
    assert not after.maps.flows
    after.pass_time(1000)
    assert not [one for one in after.engine.core.table.slots if one is not None and not one.dying]


def test_a_standby_forwards_nothing(path: Path) -> None:
    path.stream()
    after = restarted(path)
    after.engine.core.standby = True
    assert nothing_is_left(after)


def test_while_a_rule_must_see_every_packet_the_flow_returns(path: Path) -> None:
    path.stream()
    after = restarted(path)
    after.engine.offload.allowed = False
    assert taken(after)
    assert not after.maps.flows
    assert len(after.engine.mark_maps.mapped) == 1


@pytest.mark.parametrize("kind", [FLOWS, SOURCES])
def test_an_element_too_many_is_deleted(path: Path, kind: str) -> None:
    """One that this engine would not make; with another translation, none of the connection's stays."""
    ct = path.stream()
    mark = path.engine.mark_codec.field(ct.slot, 0)
    value = bytes(13) if kind == FLOWS else bytes(4)
    path.maps.add([Element(4, kind, mark, value)])
    after = restarted(path)
    assert taken(after)
    assert not after.maps.flows
    assert (after.maps.held() == []) == (kind == SOURCES)


def test_an_element_that_is_missing(path: Path) -> None:
    path.stream()
    del path.maps.flows[next(iter(path.maps.flows))]
    after = restarted(path)
    assert taken(after)
    assert not after.maps.flows
    assert len(after.engine.mark_maps.mapped) == 1


def test_the_chains_are_as_this_engine_wants_them(path: Path) -> None:
    """The former one may have ended between two steps."""
    path.stream()
    path.maps.recognising = False
    after = restarted(path)
    after.engine.mark_maps.sparing = False
    assert taken(after)
    assert after.maps.recognising
    assert not after.maps.sparing


def test_what_the_kernel_refuses(path: Path) -> None:
    path.stream()
    after = restarted(path)
    after.maps.working = False
    assert not taken(after)

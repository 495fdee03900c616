"""The tally against a naive count, however the table changes while it is walked."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.explain.hosts import CONNECTIONS, MOVED, PACKETS, RECEIVED, SENT, HostStatistics, figures_of
from conntrackd_py.reasons import END_DELETED
from tests.support.router import Router

HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]

Flow = tuple[str, str, int]
Action = tuple[str, Flow | int]
flows = st.tuples(st.sampled_from(HOSTS[:3]), st.just(HOSTS[3]), st.integers(1, 6))
actions = st.lists(
    st.one_of(
        st.tuples(st.just("send"), flows),
        st.tuples(st.just("answer"), flows),
        st.tuples(st.just("end"), flows),
        st.tuples(st.just("step"), st.integers(1, 4)),
    ),
    max_size=60,
)


def packed(host: str) -> bytes:
    return bytes(int(part) for part in host.split("."))


class Watched:
    """A router whose tally is at work between the packets, and a count of everything that passed."""

    def __init__(self) -> None:
        self.router = Router(tunables=Tunables(nf_conntrack_acct=True))
        self.host_statistics = HostStatistics(self.router.engine.core)
        self.router.engine.core.extensions.append(self.host_statistics)
        self.sent: Counter[bytes] = Counter()
        self.moved: Counter[tuple[bytes, int]] = Counter()
        self.walks = 0

    def act(self, what: str, how: Flow | int) -> None:
        if isinstance(how, int):
            self.step(how)
            return
        src, dst, port = how
        if what == "send":
            self.opener(self.router.udp(port, 53, src=src, dst=dst).original)
        elif what == "answer":
            self.opener(self.router.udp(53, port, src=dst, dst=src).original)
        else:
            ct = self.router.udp(port, 53, src=src, dst=dst)
            self.opener(ct.original)
            self.router.engine.core.kill(ct, END_DELETED, self.router.now)

    def opener(self, original: bytes) -> None:
        self.sent[original[:4]] += 1

    def step(self, budget: int) -> None:
        if self.host_statistics.phase == 0:
            self.host_statistics.begin()
        if not self.host_statistics.step(budget):
            self.walked()

    def finish(self) -> None:
        while self.host_statistics.phase:
            if not self.host_statistics.step(5):
                self.walked()
        self.host_statistics.begin()
        while self.host_statistics.step(5):
            pass
        self.walked()

    def walked(self) -> None:
        """Add up what each walk says was moved; the first one says what there was."""
        self.walks += 1
        first = not self.host_statistics.compared
        for host in HOSTS:
            figures = figures_of(self.host_statistics.finished, packed(host))
            if figures and any(figures):
                part = figures[:MOVED] if first else figures[MOVED:]
                for field in (CONNECTIONS, PACKETS, SENT, RECEIVED):
                    self.moved[packed(host), field] += part[field]


@given(actions, actions)
def test_nothing_is_missed_and_nothing_counted_twice(before: list[Action], then: list[Action]) -> None:
    watched = Watched()
    watched.finish()
    for what, how in [*before, *then]:
        watched.act(what, how)
    watched.finish()
    for host in HOSTS:
        assert watched.moved[packed(host), PACKETS] == watched.sent[packed(host)]
        carried = watched.moved[packed(host), SENT] + watched.moved[packed(host), RECEIVED]
        assert carried == 30 * watched.sent[packed(host)]


@given(actions)
def test_after_a_walk_it_is_the_naive_count(some: list[Action]) -> None:
    watched = Watched()
    for what, how in some:
        watched.act(what, how)
    watched.finish()
    naive: Counter[bytes] = Counter()
    table = watched.router.engine.core.table
    for ct in {id(ct): ct for _, ct in table.hash.items()}.values():
        naive[ct.original[:4]] += 1
    for host in HOSTS:
        figures = figures_of(watched.host_statistics.finished, packed(host))
        assert (figures[CONNECTIONS] if figures else 0) == naive[packed(host)]
    assert watched.host_statistics.finished.others == 0

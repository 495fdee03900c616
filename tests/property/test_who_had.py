"""Random logs and questions: what `who-had` says against a list of all connections, with and without lost lines."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.cli.conntrackd.who_had.search import NEAR, Holder, Question, Search
from conntrackd_py.cli.conntrackd.who_had.times import Span
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.explain.nat_log import Texts
from tests.support.nat_logs import BEGIN, OUTER, head, line, note, translated

HOSTS = ("192.168.1.2", "192.168.1.3")
REMOTES = ("198.51.100.80", "198.51.100.81")
Key = tuple[int, int, int]  # host, outer port, remote
Had = tuple[str, str, int]  # host, remote, since
keys = st.tuples(st.integers(0, 1), st.integers(1024, 1025), st.integers(0, 1))
orderly = [
    st.tuples(st.just("open"), keys),
    st.tuples(st.just("open"), keys),
    st.tuples(st.just("close"), keys),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("list"), st.just(0)),
    st.tuples(st.just("walk"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 5_000)),
]
disorderly = [
    st.tuples(st.just("lose"), st.just(0)),
    st.tuples(st.just("report"), st.just(0)),
    st.tuples(st.just("crash"), st.integers(0, 4)),
    st.tuples(st.just("damage"), st.integers(1, 3)),
    st.tuples(st.just("off"), st.integers(1, 2_000)),
]
moments, lengths, outer_ports = st.integers(0, 60), st.integers(0, 500), st.integers(1024, 1026)


@dataclass
class Router:
    """What happens, and the log of it. alive: connections; ended: connection -> (begin, end)."""

    now: int = 0
    lines: list[bytes] = field(default_factory=list)
    alive: dict[Key, NfConn] = field(default_factory=dict)
    past: list[tuple[Key, int, int]] = field(default_factory=list)
    losing: bool = False
    lost: int = 0
    lost_since: int = 0
    walking: bool = False
    runs: int = 0
    times: list[int] = field(default_factory=lambda: [1])  # of all that happened

    def put(self, text: bytes) -> None:
        if self.losing:
            self.lost += 1
        else:
            self.lines.append(text)

    def act(self, what: str, how: object) -> None:
        self.now += NEAR + 1
        getattr(self, what)(how)
        self.times.append(self.now)

    def span(self, which: int, length: int) -> Span:
        first = BEGIN + self.times[which % len(self.times)]
        return Span(first, first + length)

    def open(self, key: Key) -> None:
        taken = any(known[1:] == key[1:] for known in self.alive)
        if not taken:
            self.alive[key] = translated(HOSTS[key[0]], 5000, OUTER, key[1], REMOTES[key[2]], born=self.now)
            self.put(line("NEW", self.alive[key], self.now))

    def close(self, key: Key) -> None:
        if key in self.alive:
            self.put(line("DESTROY", self.ended(key), self.now))

    def ended(self, key: Key) -> NfConn:
        ct = self.alive.pop(key)
        self.past.append((key, ct.born, self.now))
        return ct

    def start(self, restored: bool) -> None:
        self.losing, self.lost, self.walking = False, 0, False
        if not restored:
            for key in list(self.alive):
                self.ended(key)
        self.runs += 1
        self.put(head("START", self.now, run=f"run {self.runs}"))

    def restart(self, restored: bool) -> None:
        self.report(0)
        self.put(note("STOP", self.now, run=f"run {self.runs}"))
        self.start(restored)
        self.list(0)
        self.walk(0)

    def list(self, _: object) -> None:
        self.walking = True
        self.put(note("LIST", self.now))

    def walk(self, _: object) -> None:
        if self.walking:
            for ct in self.alive.values():
                self.put(line("OPEN", ct, self.now))
            self.put(note("LISTED", self.now))
            self.walking = False

    def wait(self, ms: int) -> None:
        self.now += ms
        self.put(note("MARK", self.now))

    def lose(self, _: object) -> None:
        if not self.losing:
            self.losing, self.lost_since = True, self.now

    def report(self, _: object) -> None:
        if self.losing:
            self.losing = False
            since = Texts().stamp(BEGIN + self.lost_since)
            self.put(note("LOST", self.now, lines=self.lost, since=since))
            self.lost = 0

    def crash(self, unwritten: int) -> None:
        while unwritten and self.lines and b'"START"' not in self.lines[-1]:
            self.lines.pop()
            unwritten -= 1
        self.start(True)

    def damage(self, which: int) -> None:
        if not self.losing and len(self.lines) > which:
            self.lines[-which] = self.lines[-which][:-20]

    def off(self, ms: int) -> None:
        self.report(0)
        self.put(head("RELOAD", self.now, run=f"run {self.runs}", connections=False))
        self.now += ms
        for key in list(self.alive):
            self.ended(key)
        self.put(head("RELOAD", self.now, run=f"run {self.runs}"))

    def truth(self, question: Question) -> set[Had]:
        every = self.past + [(key, ct.born, 2**60) for key, ct in self.alive.items()]
        return {
            (HOSTS[key[0]], REMOTES[key[2]], born)
            for key, born, end in every
            if key[1] == question.port and BEGIN + born <= question.span.last and BEGIN + end >= question.span.first
        }


def acted(actions: list[tuple[str, object]]) -> Router:
    router = Router()
    router.start(True)
    router.list(0)
    router.walk(0)
    router.now = 1
    for what, how in actions:
        router.act(what, how)
    return router


def asked(router: Router, question: Question) -> tuple[Search, list[Holder]]:
    search = Search(question)
    for text in router.lines:
        search.line(text)
    return search, search.finish()


def had(holder: Holder) -> Had:
    return holder.inside, holder.remote[0], holder.since - BEGIN


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(*orderly), max_size=40), moments, lengths, outer_ports)
def test_a_log_without_losses_is_answered_exactly(
    actions: list[tuple[str, object]], at: int, length: int, port: int
) -> None:
    router = acted(actions)
    question = Question(OUTER, port, router.span(at, length))
    router.act("wait", length)
    search, holders = asked(router, question)
    certain = {had(holder) for holder in holders if holder.certain(question.span)}
    truth = router.truth(question)
    assert certain == truth
    assert search.unknown() == ""


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.one_of(*orderly, *disorderly), max_size=60), moments, lengths, outer_ports)
def test_what_is_certain_is_true_and_nobody_means_nobody(
    actions: list[tuple[str, object]], at: int, length: int, port: int
) -> None:
    router = acted(actions)
    question = Question(OUTER, port, router.span(at, length))
    search, holders = asked(router, question)
    truth = router.truth(question)
    assert {had(holder) for holder in holders if holder.certain(question.span)} <= truth
    missed = truth - {had(holder) for holder in holders}
    assert not missed or search.unknown()

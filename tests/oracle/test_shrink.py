"""The oracle finds what is wrong and says it briefly: our side is given a wrong tunable, the kernel is not."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from itertools import combinations

import pytest

from conntrackd_py.conntrack.tunables import Tunables
from tests.oracle import shrink
from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE, Kernel, kernel
from tests.oracle.shrink import Shrinker, converse, replay, without
from tests.oracle.tcp_talk import Talk
from tests.oracle.twin import Step, Twin
from tests.support import packets

CLIENT, SERVER = "192.168.7.7", "198.51.100.2"
HANDFUL = 6


@pytest.fixture
def oracle() -> Iterator[Kernel]:
    with kernel(nf_conntrack_acct=1) as one:
        yield one


def first_difference(twin: Twin) -> list[Step]:
    """What random conversations say until the two differ."""
    for number in range(300):
        twin.start()
        said = []
        for step in Talk(random.Random(f"shrink/{number}"), number, 4).steps():
            said.append(step)
            if not twin.step(step):
                return said
    pytest.fail("300 conversations without a difference")


@pytest.mark.parametrize(
    "wrong",
    [
        Tunables(nf_conntrack_acct=True, nf_conntrack_tcp_be_liberal=True),
        Tunables(nf_conntrack_acct=True, nf_conntrack_tcp_timeout_last_ack=300),
        Tunables(nf_conntrack_acct=True, nf_conntrack_tcp_max_retrans=1),
    ],
    ids=["be_liberal", "last_ack", "max_retrans"],
)
def test_what_is_left_of_a_conversation_is_short_and_needed(oracle: Kernel, wrong: Tunables) -> None:
    twin = Twin(oracle, wrong)
    said = first_difference(twin)
    shrinker = Shrinker(twin)
    shrinker.run(said)
    left = shrinker.steps
    print(f"{len(left)} of {len(said)} packets, {shrinker.tried} attempts\n{shrinker.transcript}")
    assert not shrinker.spent
    assert 0 < len(left) <= HANDFUL
    assert replay(twin, left) == len(left)
    for one in range(len(left)):
        assert not replay(twin, without(left, [one]))
    for pair in combinations(range(len(left)), 2):
        assert not replay(twin, without(left, pair))
    assert not replay(Twin(oracle), left), "with the kernel's own values there is no difference"


def datagram(side: str, pause: float = 0.0) -> Step:
    ends = (CLIENT, SERVER, 4000, 53) if side == CLIENT_SIDE else (SERVER, CLIENT, 53, 4000)
    return Step("client" if side == CLIENT_SIDE else "server", side, packets.udp(*ends), pause)


def test_a_pause_that_is_needed_stays(oracle: Kernel) -> None:
    """A UDP connection becomes a stream two seconds after it began; without the pause nothing differs."""
    twin = Twin(oracle, Tunables(nf_conntrack_acct=True, nf_conntrack_udp_timeout_stream=60))
    c, s = CLIENT_SIDE, SERVER_SIDE
    shrinker = Shrinker(twin)
    shrinker.run([datagram(c), datagram(c), datagram(s), datagram(c, pause=2.2)])
    assert [step.side for step in shrinker.steps] == [c, s, c]
    assert sum(step.pause for step in shrinker.steps) == 2.2


def test_a_failure_names_everything_one_needs(oracle: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "COMPARED", {})  # what differs on purpose is no comparison
    twin = Twin(oracle, Tunables(nf_conntrack_acct=True, nf_conntrack_udp_timeout_stream=60))
    c, s = CLIENT_SIDE, SERVER_SIDE
    before = converse(twin, [datagram(c), datagram(s)], "UDP v4", "5/17")
    time.sleep(2.2)
    with pytest.raises(pytest.fail.Exception) as failure:
        converse(twin, [datagram(c)], "UDP v4", "5/17", before, 2.2)
    text = str(failure.value)
    print(text)
    for expected in (
        r"^UDP v4, conversation 5/17, sysctls {'nf_conntrack_acct': 1}, ours {'nf_conntrack_udp_timeout_stream': 60}$",
        r"^again: CONNTRACKD_PY_ORACLE=18 CONNTRACKD_PY_ORACLE_SEED=5 pytest 'tests/oracle/test_shrink.py",
        r"^3 of 3 packets after \d+ attempts:$",
        r"^   client$",
        r"^!! after 2.2 s: client\n       kernel ESTABLISHED .* (119|120) .*\n       ours   ESTABLISHED .* (59|60) ",
    ):
        assert re.search(expected, text, re.MULTILINE), expected


def test_a_difference_that_is_gone_is_printed_in_full(oracle: Kernel) -> None:
    shrinker = Shrinker(Twin(oracle))
    shrinker.run([datagram(CLIENT_SIDE), datagram(SERVER_SIDE)])
    assert shrinker.steps == []
    assert shrinker.tried == 1

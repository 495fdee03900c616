"""UDP, UDP-Lite, ICMP, ICMPv6, SCTP, GRE and unknown protocols, packet by packet, against nf_conntrack."""

import random
import time

import pytest

from tests.oracle import sctp_talk
from tests.oracle.kernel import kernel
from tests.oracle.other_talk import Talk
from tests.oracle.shrink import converse
from tests.oracle.twin import CONVERSATIONS, SEED, Step, Twin

STREAM = 2.2  # s, after which a replied UDP connection is a stream

SYSCTLS = {
    "defaults": {"nf_conntrack_acct": 1},
    "short": {
        "nf_conntrack_udp_timeout": 17,
        "nf_conntrack_udp_timeout_stream": 99,
        "nf_conntrack_icmp_timeout": 11,
        "nf_conntrack_icmpv6_timeout": 12,
        "nf_conntrack_generic_timeout": 55,
        "nf_conntrack_checksum": 0,
    },
}


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("sysctls", SYSCTLS.values(), ids=SYSCTLS)
def test_random_conversations(sysctls: dict[str, int], family: int) -> None:
    """Each talks, waits until UDP is a stream, and talks again."""
    with kernel(**sysctls) as oracle:
        twin = Twin(oracle)
        lite = not sysctls.get("nf_conntrack_checksum", 1)
        talks = [Talk(random.Random(f"{SEED}/{number}"), number, family, lite) for number in range(CONVERSATIONS)]
        said: list[list[Step]] = [[] for _ in talks]
        for _ in range(2):
            for number, talk in enumerate(talks):
                what = f"UDP, ICMP and others v{family}"
                said[number] = converse(twin, talk.steps(12), what, f"{SEED}/{number}", said[number], STREAM)
            time.sleep(STREAM)


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("talk", [sctp_talk.Talk, sctp_talk.Tunnel], ids=["sctp", "gre"])
def test_associations_and_tunnels(talk: type[sctp_talk.Talk] | type[sctp_talk.Tunnel], family: int) -> None:
    what = f"{'SCTP' if talk is sctp_talk.Talk else 'GRE'} v{family}"
    with kernel(nf_conntrack_acct=1) as oracle:
        twin = Twin(oracle)
        for number in range(CONVERSATIONS):
            seed = f"{SEED}/{number}"
            converse(twin, talk(random.Random(seed), number, family).steps(), what, seed)

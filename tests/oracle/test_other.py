"""UDP, UDP-Lite, ICMP, ICMPv6, SCTP, GRE and unknown protocols, packet by packet, against nf_conntrack."""

import os
import random
import time

import pytest

from tests.oracle import sctp_talk
from tests.oracle.kernel import kernel
from tests.oracle.other_talk import Talk
from tests.oracle.twin import Twin

CONVERSATIONS = int(os.environ.get("CONNTRACKD_PY_ORACLE", "300"))
SEED = int(os.environ.get("CONNTRACKD_PY_ORACLE_SEED", "1"))
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
        for _ in range(2):
            for number, talk in enumerate(talks):
                twin.start()
                for step in talk.steps(12):
                    if not twin.step(step):
                        pytest.fail(f"conversation {SEED}/{number}:\n{twin.transcript()}")
            time.sleep(STREAM)
    print(f"{twin.packets} packets compared")


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("talk", [sctp_talk.Talk, sctp_talk.Tunnel], ids=["sctp", "gre"])
def test_associations_and_tunnels(talk: type[sctp_talk.Talk] | type[sctp_talk.Tunnel], family: int) -> None:
    with kernel(nf_conntrack_acct=1) as oracle:
        twin = Twin(oracle)
        for number in range(CONVERSATIONS):
            twin.start()
            for step in talk(random.Random(f"{SEED}/{number}"), number, family).steps():
                if not twin.step(step):
                    pytest.fail(f"conversation {SEED}/{number}:\n{twin.transcript()}")
    print(f"{twin.packets} packets compared")

"""TCP, packet by packet, against nf_conntrack. A failure prints the shortest conversation that shows it."""

import random

import pytest

from tests.oracle.kernel import kernel
from tests.oracle.shrink import converse
from tests.oracle.tcp_talk import Talk
from tests.oracle.twin import CONVERSATIONS, SEED, Twin

SYSCTLS = {
    "defaults": {"nf_conntrack_acct": 1},
    "strict": {"nf_conntrack_tcp_loose": 0},
    "liberal": {"nf_conntrack_tcp_be_liberal": 1},
    "ignore_invalid_rst": {"nf_conntrack_tcp_ignore_invalid_rst": 1},
    "short": {
        "nf_conntrack_tcp_max_retrans": 1,
        "nf_conntrack_tcp_timeout_max_retrans": 77,
        "nf_conntrack_tcp_timeout_unacknowledged": 88,
        "nf_conntrack_tcp_timeout_established": 1000,
        "nf_conntrack_tcp_timeout_syn_sent": 33,
        "nf_conntrack_tcp_timeout_close_wait": 44,
    },
}


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("sysctls", SYSCTLS.values(), ids=SYSCTLS)
def test_random_conversations(sysctls: dict[str, int], family: int) -> None:
    with kernel(**sysctls) as oracle:
        twin = Twin(oracle)
        for number in range(CONVERSATIONS):
            seed = f"{SEED}/{number}"
            converse(twin, Talk(random.Random(seed), number, family).steps(), f"TCP v{family}", seed)

"""Clean-ups are timed: those of the engine, and Python's."""

import gc

from conntrackd_py.service.pauses import Pauses
from tests.support.router import Router


def test_every_clean_up_is_counted() -> None:
    router, pauses = Router(), Pauses()
    router.udp()
    assert pauses.expire(router.engine, router.now + 40_000, 512) == 1
    assert (sum(pauses.expiry.counts), sum(pauses.python.counts)) == (1, 0)
    pauses.watch()
    try:
        before = sum(pauses.python.counts)
        gc.collect()
        assert sum(pauses.python.counts) > before
        assert pauses.python.sum > 0
    finally:
        pauses.unwatch()
    before = sum(pauses.python.counts)
    gc.collect()
    assert sum(pauses.python.counts) == before

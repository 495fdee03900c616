"""--sort: by one key or several, either way; with a limit only as many are kept."""

from __future__ import annotations

from typing import Any

import pytest

from conntrackd_py.cli.conntrack.options import SORT_KEYS
from conntrackd_py.cli.conntrack.sort import VALUES, key_of, ordered
from conntrackd_py.cli.conntrack.values import UsageError
from conntrackd_py.control import view
from tests.support.router import Router


def table() -> list[Any]:
    router = Router()
    router.engine.core.accounting = True
    for port, packets in ((1000, 3), (1001, 1), (1002, 2)):
        for _ in range(packets):
            router.udp(port, src="10.0.0.9" if port == 1000 else "10.0.0.10")
    router.syn(2000)
    return [view.connection(ct, router.now, True) for ct in router.engine.core.table.slots if ct is not None]


@pytest.mark.parametrize(
    ("keys", "ports"),
    [
        ("sport", [1000, 1001, 1002, 2000]),
        ("-sport", [2000, 1002, 1001, 1000]),
        ("-packets", [1000, 1002, 1001, 2000]),
        ("-proto,-packets", [1000, 1002, 1001, 2000]),
        ("src,-sport", [2000, 1000, 1002, 1001]),  # as numbers: 10.0.0.9 before 10.0.0.10
        ("-id", [2000, 1002, 1001, 1000]),
        ("timeout,sport", [1000, 1001, 1002, 2000]),
    ],
)
@pytest.mark.parametrize("limit", [None, 0, 2, 9])
def test_order(keys: str, ports: list[int], limit: int | None) -> None:
    found = ordered(table(), key_of(keys), limit)
    assert [ct["orig"]["sport"] for ct in found] == ports[:limit]


def test_every_key_has_a_value_and_no_other() -> None:
    assert tuple(VALUES) == SORT_KEYS
    for key in SORT_KEYS:
        assert len(list(ordered(table(), key_of(key), None))) == 4
    for mistake in ("bogus", "", "sport,", "--sport"):
        with pytest.raises(UsageError):
            key_of(mistake)

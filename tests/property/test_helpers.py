"""No payload makes a helper fail, expect a foreign connection, or damage the stream (tests/support/helper_fuzz.py)."""

import pytest

from conntrackd_py.helpers.builtin import BUILTIN
from conntrackd_py.helpers.helper import Helper
from tests.support.helper_fuzz import SEEDS, run


@pytest.mark.parametrize("helper", BUILTIN.values(), ids=BUILTIN)
def test_hostile_payloads(helper: type[Helper]) -> None:
    seen: list[bytes] = []
    run(helper, 1500, 1, lambda _, payload: seen.append(payload))
    assert len(seen) == 1500


def test_every_helper_has_seeds() -> None:
    assert SEEDS.keys() == BUILTIN.keys()

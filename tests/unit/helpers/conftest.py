"""Both families."""

import pytest


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value

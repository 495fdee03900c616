"""`play`: a router that translates nothing, in both families. `snat` and `dnat`: with rules."""

import pytest

from tests.support.play import Play
from tests.support.rules import masquerade, web_server_inside


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.fixture
def play(family: int) -> Play:
    return Play(family)


@pytest.fixture
def snat(family: int) -> Play:
    """Everything that leaves by wan gets the router's address."""
    return Play(family, [masquerade()])


@pytest.fixture
def dnat(family: int) -> Play:
    """Port 8080 of the router is the client's port 80; and what leaves by wan is masqueraded."""
    return Play(family, [masquerade(), web_server_inside(family)])

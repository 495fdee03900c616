"""An expectation as JSON, and read back."""

import msgspec
import pytest

from conntrackd_py.conntrack.expect import KEEPS_SOURCE, PERMANENT
from conntrackd_py.const import REPLY
from conntrackd_py.control.protocol.requests import RequestError
from conntrackd_py.control.transfer.parts import Expected, expectation, expected
from tests.support.router import Router


def test_all_of_it_comes_back() -> None:
    router = Router()
    known = router.expect(router.established(), 3000, flags=PERMANENT | KEEPS_SOURCE)
    known.kind, known.follows, known.direction, known.port, known.child_helper = 2, True, REPLY, 4000, "sip"
    line = msgspec.json.decode(msgspec.json.encode(expected(known, router.now)), type=Expected)
    other = expectation(line, known.master, router.now)
    for name in ("tuple", "mask", "until", "flags", "kind", "helper", "child_helper", "follows", "direction", "port"):
        assert getattr(other, name) == getattr(known, name), name
    assert other.equals(known)


def test_it_looks_like_this() -> None:
    router = Router()
    line = msgspec.json.decode(msgspec.json.encode(expected(router.expect(router.established(), 3000), router.now)))
    assert line == {
        "protonum": 6,
        "orig": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 0, "dport": 3000},
        "timeout": 300.0,
        "source": "255.255.255.255",
        "sport": 0,
        "helper": "ftp",
    }


def test_a_mask_of_the_other_family() -> None:
    router = Router()
    known = router.expect(router.established(), 3000)
    line = msgspec.structs.replace(expected(known, router.now), source="::")
    with pytest.raises(RequestError, match="different families"):
        expectation(line, known.master, router.now)

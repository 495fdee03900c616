"""A signal makes a file descriptor readable, and is what it was afterwards."""

import os
import select
import signal

import pytest

from conntrackd_py.cli.stop import stop_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_readable(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_signal() as stop:
        assert select.select([stop], [], [], 0)[0] == []
        os.kill(os.getpid(), number)
        assert select.select([stop], [], [], 10)[0] == [stop]
    assert signal.getsignal(number) is before

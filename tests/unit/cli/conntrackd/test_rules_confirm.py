"""Waiting for a confirmation: real sockets, a pipe as the keyboard. The command: tests/e2e/test_rules_confirm.py."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from socket import socket
from typing import TextIO

import pytest

from conntrackd_py.cli.conntrackd import rules_confirm
from conntrackd_py.cli.conntrackd.rules_confirm import confirm, confirmed, pending


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket]:
    monkeypatch.setattr(rules_confirm, "ADDRESS", f"\0conntrackd-py test {os.getpid()}")
    with pending() as found:
        yield found


@pytest.fixture
def keyboard() -> Iterator[tuple[TextIO, TextIO]]:
    reading, writing = os.pipe()
    with os.fdopen(reading) as keys, os.fdopen(writing, "w") as fingers:
        yield keys, fingers


def test_enter_confirms(listening: socket, keyboard: tuple[TextIO, TextIO]) -> None:
    keys, fingers = keyboard
    fingers.write("\n")
    fingers.flush()
    assert confirmed(listening, keys, 60)


def test_the_end_of_the_input_does_not(listening: socket, keyboard: tuple[TextIO, TextIO]) -> None:
    keys, fingers = keyboard
    fingers.close()
    assert not confirmed(listening, keys, 0.05)


def test_another_process_confirms(listening: socket, keyboard: tuple[TextIO, TextIO]) -> None:
    found: list[bool] = []
    other = threading.Thread(target=lambda: found.append(confirm()))
    other.start()
    assert confirmed(listening, keyboard[0], 60)
    other.join()
    assert found == [True]


def test_another_user_does_not(
    listening: socket, keyboard: tuple[TextIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client has another user than this process, and is not root."""
    monkeypatch.setattr(rules_confirm, "_may_confirm", lambda user: False)
    other = threading.Thread(target=confirm)
    other.start()
    assert not confirmed(listening, keyboard[0], 0.3)
    other.join()


def test_only_one_waits(listening: socket) -> None:
    with pytest.raises(OSError, match="in use"):
        pending()


def test_without_a_waiting_installation_nothing_is_confirmed(listening: socket) -> None:
    listening.close()
    assert not confirm()

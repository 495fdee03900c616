"""The thread that talks to the server: claims, passwords, errors. The rest: test_keeper.py."""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.service.sync.frames import CHANGES, Claim, Head, pack
from conntrackd_py.service.sync.link import Link
from conntrackd_py.settings.schema import Sync
from tests.support.certificates import Authority
from tests.support.store import store_in
from tests.support.tools import needs

pytestmark = needs("redis-server")

NODE = b"own own "


class Told:
    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def __call__(self, what: str, value: Any) -> None:
        self.queue.put((what, value))

    def next(self, wanted: str) -> Any:
        """The value of the next `wanted`."""
        while True:
            what, value = self.queue.get(timeout=20)
            if what == wanted:
                return value
            assert what != "down", value


def claimed(folder: Path, claim: Claim, wanted: str, prepare: Callable[[Any], object] = lambda client: None) -> int:
    with store_in(folder) as store:
        prepare(store.client())
        told = Told()
        link = Link(Sync(url=store.url), NODE, told)
        link.lead(claim)
        link.start()
        epoch: int = told.next(wanted)
        link.end()
        link.join(10)
        assert link.active == (wanted == "claimed")
        return epoch


def published(node: bytes) -> Callable[[Any], object]:
    frame = pack(Head("nat", CHANGES, node, 1, 0, 0))
    return lambda client: client.xadd("conntrackd-py:stream", {"f": frame})


def test_epochs_grow(tmp_path: Path) -> None:
    assert claimed(tmp_path, Claim(False, 0), "claimed") == 1
    assert claimed(tmp_path, Claim(False, 0), "claimed", lambda client: client.set("conntrackd-py:epoch", 41)) == 42


def test_a_server_without_its_data_gives_no_lower_epoch(tmp_path: Path) -> None:
    assert claimed(tmp_path, Claim(True, 41), "claimed") == 42


def test_a_polite_claim_gives_way(tmp_path: Path) -> None:
    assert claimed(tmp_path, Claim(True, 0), "taken", published(b"another ")) == 0
    assert claimed(tmp_path, Claim(True, 5), "taken", lambda client: client.set("conntrackd-py:epoch", 6)) == 6


@pytest.mark.parametrize("claim", [Claim(False, 0), Claim(True, 0)])
def test_own_frames_and_orders_do_not_give_way(tmp_path: Path, claim: Claim) -> None:
    assert claimed(tmp_path, claim, "claimed", published(NODE)) == 1


def test_a_password(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("right\n")
    (tmp_path / "other").write_text("wrong\n")
    with store_in(tmp_path) as store:
        store.client().config_set("requirepass", "right")
        for name, wanted in (("secret", "up"), ("other", "down"), ("none", "down")):
            told = Told()
            link = Link(Sync(url=store.url, password_file=str(tmp_path / name)), NODE, told)
            link.start()
            told.next(wanted)
            link.end()
            link.join(10)


def test_what_the_loop_does_not_take_stays_in_the_server(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        told = Told()
        link = Link(Sync(url=store.url), NODE, told)
        link.start()
        told.next("idle")
        publish = published(b"another ")
        for _ in range(1000):
            publish(store.client())
        found = [told.next("frames") for _ in range(4)]
        with pytest.raises(queue.Empty):
            told.queue.get(timeout=0.5)
        while sum(map(len, found)) < 1000:
            link.applied()
            found.append(told.next("frames"))
        link.end()
        link.join(10)


LISTED = ("+ping", "+get", "+set", "+incrby", "+xadd", "+xread", "+xrevrange", "+time")


@pytest.mark.parametrize("active", [True, False])
def test_a_user_of_the_access_list_needs_only_the_documented_commands(tmp_path: Path, active: bool) -> None:
    (tmp_path / "secret").write_text("word\n")
    with store_in(tmp_path) as store:
        commands = " ".join(LISTED)
        assert commands in (Path(__file__).parents[4] / "docs/standby.md").read_text()
        store.client().execute_command(f"ACL SETUSER router on >word ~conntrackd-py:* {commands}")  # type: ignore[no-untyped-call]
        told = Told()
        link = Link(Sync(url=store.url, username="router", password_file=str(tmp_path / "secret")), NODE, told)
        if active:
            published(NODE)(store.client())
            link.lead(Claim(True, 3))
            link.send(4, b"frame")
        link.wanted = True
        link.start()
        told.next("told" if active else "idle")
        link.end()
        link.join(10)
        found = []
        while not told.queue.empty():
            found.append(told.queue.get()[0])
        assert "down" not in found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@needs("openssl")
def test_tls_with_both_certificates(tmp_path: Path) -> None:
    ours, foreign = Authority(tmp_path), Authority(tmp_path, "foreign")
    server, client = ours.signed("server"), ours.signed("client")
    port = free_port()
    words = ("--tls-port", str(port), "--tls-cert-file", str(server[0]), "--tls-key-file", str(server[1]))
    with store_in(tmp_path, *words, "--tls-ca-cert-file", str(ours.certificate)):
        for ca, own, wanted in (
            (ours.certificate, client, "up"),
            (ours.certificate, ("", ""), "down"),
            (foreign.certificate, client, "down"),
        ):
            told = Told()
            url = f"rediss://127.0.0.1:{port}"
            settings = Sync(url=url, ca=str(ca), certificate=str(own[0]), key=str(own[1]))
            link = Link(settings, NODE, told)
            link.start()
            told.next(wanted)
            link.end()
            link.join(10)

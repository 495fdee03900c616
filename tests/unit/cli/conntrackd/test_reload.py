"""The output of `conntrackd-py reload`, and how it finds the socket."""

from pathlib import Path

from conntrackd_py.cli.conntrackd.reload import configured_socket, report


def answer(**more: object) -> dict[str, object]:
    return {"restart": [], "stale": {"nat": 0, "filter": 0}, "flushed": 0, **more}


def test_nothing_waits_and_nothing_is_stale() -> None:
    assert report(answer()) == ["reloaded"]


def test_what_waits_and_what_is_stale() -> None:
    lines = report(answer(restart=["mode", "queue.gso"], stale={"nat": 2, "filter": 1}))
    assert lines == [
        "reloaded",
        "needs a restart: mode, queue.gso",
        "stale connections that the NAT rules would translate differently: 2",
        "stale connections that the filter would refuse: 1",
        "conntrack-py -L --stale lists them, conntrack-py -D --stale ends them",
    ]


def test_what_was_ended() -> None:
    lines = report(answer(stale={"nat": 2, "filter": 0}, flushed=2))
    assert lines == [
        "reloaded",
        "stale connections that the NAT rules would translate differently: 2",
        "stale connections ended: 2",
    ]


def test_the_socket_of_a_configuration_that_may_be_wrong(tmp_path: Path) -> None:
    """A file in conf.d wins; files with errors are ignored."""
    config = tmp_path / "conntrackd.toml"
    assert configured_socket(config) == ""
    config.write_text('nonsense = 1\n[control]\nsocket = "/a"\n')
    assert configured_socket(config) == "/a"
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1.toml").write_text('[control]\nsocket = "/b"\n')
    (tmp_path / "conf.d" / "2.toml").write_text("[[[")
    (tmp_path / "conf.d" / "3.toml").write_text("control = 1\n[control2]\nsocket = 3\n")
    assert configured_socket(config) == "/b"

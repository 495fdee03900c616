"""What `conntrackd-py reload` says."""

from conntrackd_py.cli.reload import told


def answer(**more: object) -> dict[str, object]:
    return {"restart": [], "stale": {"nat": 0, "filter": 0}, "flushed": 0, **more}


def test_nothing_more_to_say() -> None:
    assert told(answer()) == ["reloaded"]


def test_what_waits_and_what_is_stale() -> None:
    lines = told(answer(restart=["mode", "queue.gso"], stale={"nat": 2, "filter": 1}))
    assert lines == [
        "reloaded",
        "waits for a restart: mode, queue.gso",
        "stale connections, translated otherwise now: 2",
        "stale connections, not allowed any more: 1",
        "list them with conntrack-py -L --stale, end them with conntrack-py -D --stale",
    ]


def test_what_was_ended() -> None:
    lines = told(answer(stale={"nat": 2, "filter": 0}, flushed=2))
    assert lines == ["reloaded", "stale connections, translated otherwise now: 2", "stale connections ended: 2"]

"""What /proc says of the kernel's queues."""

from pathlib import Path

from conntrackd_py.kernel.proc_queues import queue_lines, queue_rows

TEXT = """\
    0   4242    17 2 65531     3     4      900  1
    1   4242     0 2 65531     0     0      900  1
   77    999     5 2   128     8     9       10  1
"""


def test_only_the_queues_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "nfnetlink_queue"
    file.write_text(TEXT + "half a line\n")
    assert len(queue_lines(file)) == 3
    assert queue_rows(file, (0, 1, 2)) == [
        {"queue": 0, "waiting": 17, "dropped": 3, "user_dropped": 4},
        {"queue": 1, "waiting": 0, "dropped": 0, "user_dropped": 0},
    ]


def test_a_kernel_without_queues_has_none(tmp_path: Path) -> None:
    assert queue_rows(tmp_path / "missing", (0,)) == []

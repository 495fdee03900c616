"""What /proc says of the kernel's queues."""

from pathlib import Path

from conntrackd_py.kernel.queues.proc_queues import QueueRow, queue_rows

TEXT = """\
    0   4242    17 2 65531     3     4      900  1
   77    999     5 2   128     8     9       10  1
"""


def test_every_whole_line_is_a_queue(tmp_path: Path) -> None:
    file = tmp_path / "nfnetlink_queue"
    file.write_text(TEXT + "half a line\n")
    assert queue_rows(file) == [
        QueueRow(number=0, portid=4242, waiting=17, dropped=3, user_dropped=4),
        QueueRow(number=77, portid=999, waiting=5, dropped=8, user_dropped=9),
    ]


def test_a_kernel_without_queues_has_none(tmp_path: Path) -> None:
    assert queue_rows(tmp_path / "missing") == []

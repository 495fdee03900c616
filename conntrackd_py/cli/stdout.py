"""What to do when the reader of standard output is gone, as after `| head`."""

import os
import sys


def discard_stdout() -> None:
    """Discard what is still buffered: Python would try to write it again at exit and fail with another status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Nothing is left out because a program is missing."""

import shutil

import pytest

from tests.support.tools import OPTIONAL


@pytest.mark.parametrize("tool", OPTIONAL)
def test_a_tool_that_tests_may_do_without_is_installed(tool: str) -> None:
    assert shutil.which(tool)

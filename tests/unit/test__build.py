"""Which build is loaded, and the switch that insists on the compiled one."""

from pathlib import Path

import pytest

import conntrackd_py
from conntrackd_py import _build, const
from conntrackd_py.conntrack import tunables


def test_all_of_the_group_is_compiled_or_none() -> None:
    kinds = {Path(str(module.__file__)).suffix for module in (const, tunables)}
    assert kinds == ({".so"} if conntrackd_py.compiled else {".py"})


def test_plain_python_is_refused_when_compiled_code_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNTRACKD_PY_REQUIRE_COMPILED", "1")
    _build.check_required(compiled=True)
    with pytest.raises(ImportError, match="is plain Python"):
        _build.check_required(compiled=False)


def test_plain_python_is_welcome_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONNTRACKD_PY_REQUIRE_COMPILED", raising=False)
    _build.check_required(compiled=False)

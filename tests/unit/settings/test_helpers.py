"""`helper` of a raw rule: those of the daemon, and of packages with an entry point."""

import sys
import tomllib
from pathlib import Path

import pytest

from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.helpers import find, names
from conntrackd_py.settings.load import parse
from conntrackd_py.settings.schema import Settings

MODULE = """
from conntrackd_py.helpers.helper import PASS, ControlPacket, Helper

class Echo(Helper):
    name = "echo"
    protonum = 17

    def help(self, packet: ControlPacket) -> int:
        return PASS

class Nameless(Echo):
    name = ""
"""
POINTS = """
[conntrackd_py.helpers]
echo = echo_helper:Echo
nameless = echo_helper:Nameless
missing = no_such_module:Missing
"""


def settings(text: str, mode: str = "nat") -> Settings:
    return parse(tomllib.loads(f'mode = "{mode}"\n[[raw]]\n{text}'), "FILE")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with helpers."""
    (tmp_path / "echo_helper.py").write_text(MODULE)
    info = tmp_path / "echo_helper-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-helper\nVersion: 1\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "echo_helper", raising=False)


def test_a_helper_of_the_daemon() -> None:
    assert settings('proto = "tcp"\ndport = 21\nhelper = "ftp"').raw[0].helper == "ftp"
    assert find("ftp") is Ftp


@pytest.mark.usefixtures("package")
def test_a_helper_of_a_package() -> None:
    assert settings('proto = "udp"\ndport = 7\nhelper = "echo"').raw[0].helper == "echo"
    assert {"ftp", "echo"} <= set(names())


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('helper = "ftp"', 'FILE: raw[0].helper = "ftp": needs proto = "tcp"'),
        ('proto = "udp"\nhelper = "ftp"', 'needs proto = "tcp"'),
        ('proto = "!tcp"\nhelper = "ftp"', 'needs proto = "tcp"'),
        ('proto = "tcp"\nhelper = "fpt"', "did you mean ftp?"),
        ('proto = "tcp"\nhelper = "missing"', "cannot be used: no_such_module:Missing: ModuleNotFoundError"),
        ('proto = "tcp"\nhelper = "nameless"', "is no Helper with this name"),
        ('proto = "tcp"\nhelper = "ftp"\nnotrack = true', "has no effect together with notrack"),
    ],
)
def test_mistakes(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    assert why in str(caught.value)


def test_mode_observe_warns() -> None:
    warnings = settings('proto = "tcp"\nhelper = "ftp"', "observe").warnings
    assert ["mode observe" in warning.why for warning in warnings] == [True]

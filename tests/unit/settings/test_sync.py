"""The [sync] table: what is wrong, and the password."""

from pathlib import Path

import pytest

from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load
from conntrackd_py.settings.schema import Settings
from conntrackd_py.settings.sync import password


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "conntrackd.toml"
    file.write_text(text)
    return load(file)


def test_it_is_off(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").sync.url == ""


@pytest.mark.parametrize(
    "url", ["redis://192.0.2.9", "redis://[2001:db8::9]:6379/2", "rediss://store", "unix:///run/s"]
)
def test_urls(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, f'[sync]\nurl = "{url}"').sync.url == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('url = "http://store"', "must be redis://"),
        ('url = "redis://"', "must be redis://"),
        ('url = "redis://store:x"', "must be redis://"),
        ('url = "redis://store:0"', "must be redis://"),
        ('url = "unix://"', "must be redis://"),
        ('url = "redis://:secret@store"', "must not have a password"),
        ('url = "redis://store?db=1"', "must not have options"),
        ('url = "redis://store"\nca = "conntrackd.toml"', "need TLS"),
        ('certificate = "conntrackd.toml"', "needs key"),
        ('key = "conntrackd.toml"', "needs certificate"),
        ('password_file = "none"', "No such file"),
        ('role = "both"', "role"),
        ('name = "a b"', "must be 1 to 64"),
        ("stale_after = 0", "stale_after"),
        ("nonsense = 1", "unknown"),
        ('url = "redis://store"\n[journal]\nenabled = false', "needs journal.enabled"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        loaded(tmp_path, f"[sync]\n{text}")


def test_mode_observe_has_no_standby(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not for mode observe"):
        loaded(tmp_path, 'mode = "observe"\n[sync]\nurl = "redis://store"')


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word\nmore\n")
    assert password(loaded(tmp_path, '[sync]\npassword_file = "secret"').sync) == "pass word"
    assert password(loaded(tmp_path, "").sync) is None
    (tmp_path / "secret").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        password(loaded(tmp_path, '[sync]\npassword_file = "secret"').sync)

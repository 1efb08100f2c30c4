from __future__ import annotations

import os
from pathlib import Path

import pytest

from wanasync.config import Config
from wanasync.edges.settings import load_config, read_settings
from wanasync.errors import ConfigError
from wanasync.models import Limits


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search ends here: what lies above the tests' folder is not theirs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == ({}, "wanasync.toml")


def test_reads_the_file_of_the_folder_or_of_one_above(tmp_path: Path) -> None:
    file = write(tmp_path / "wanasync.toml", "max_downloads = 3\n[limits]\nrequests = 60\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for start in (tmp_path, tmp_path / "a" / "b"):
        assert read_settings(start) == ({"max_downloads": 3, "limits": {"requests": 60}}, str(file))


def test_the_nearest_file_wins_and_is_not_mixed_with_others(tmp_path: Path) -> None:
    write(tmp_path / "wanasync.toml", "max_downloads = 3")
    near = write(tmp_path / "a" / "pyproject.toml", "[tool.wanasync]\nconnect_attempts = 2")
    assert read_settings(tmp_path / "a") == ({"connect_attempts": 2}, f"{near} [tool.wanasync]")


def test_its_own_file_goes_before_pyproject(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.wanasync]\nmax_downloads = 1")
    write(tmp_path / "wanasync.toml", "max_downloads = 2")
    assert read_settings(tmp_path)[0] == {"max_downloads": 2}


@pytest.mark.parametrize(
    "text", ["[project]\nname = 'x'", "[tool.ruff]\n", "not TOML at all [", "[tool]\nx = 'wanasync'", ""]
)
def test_passes_over_a_pyproject_that_says_nothing_of_it(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a" / "pyproject.toml", text)
    write(tmp_path / "wanasync.toml", "max_downloads = 3")
    assert read_settings(tmp_path / "a")[0] == {"max_downloads": 3}


def test_does_not_look_above_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "wanasync.toml", "max_downloads = 3")
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert read_settings(home / "work")[0] == {}


def test_takes_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "wanasync.toml").write_bytes(b"\xef\xbb\xbfmax_downloads = 3")
    assert read_settings(tmp_path)[0] == {"max_downloads": 3}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wanasync.toml", b"max_downloads = ", "is not valid TOML"),
        ("wanasync.toml", b"\xff\xfe", "is not UTF-8"),
        ("pyproject.toml", b"[tool.wanasync\n", "is not valid TOML"),
        ("pyproject.toml", b"[tool]\nwanasync = 5\n", "tool.wanasync must be a table"),
    ],
)
def test_a_file_that_cannot_be_understood_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings(tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_of_that_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "wanasync.toml").mkdir()
    with pytest.raises(ConfigError, match="can't be read"):
        read_settings(tmp_path)


def test_load_config_folds_all_sources(tmp_path: Path) -> None:
    file = write(tmp_path / "wanasync.toml", "max_downloads = 3\nconnect_attempts = 3\n[limits]\nrequests = 5\n")
    config, origin = load_config({"max_downloads": 1}, environ={"WAN_API_KEY": "k"}, start=tmp_path)
    assert config == Config(api_key="k", max_downloads=1, connect_attempts=3, limits=Limits(requests=5))
    assert origin == {
        "max_downloads": "argument",
        "api_key": "WAN_API_KEY",
        "connect_attempts": str(file),
        "limits": str(file),
    }


def test_load_config_takes_the_environment_and_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("WAN_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WAN_API_KEY", "from-env")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "wanasync.toml", "max_downloads = 3")
    assert load_config()[0] == Config(api_key="from-env", max_downloads=3)


def test_an_unknown_setting_names_its_file(tmp_path: Path) -> None:
    file = write(tmp_path / "wanasync.toml", "max_download = 3")
    with pytest.raises(ConfigError, match="did you mean max_downloads") as caught:
        load_config(environ={}, start=tmp_path)
    assert str(caught.value).startswith(str(file))

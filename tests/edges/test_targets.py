from __future__ import annotations

import os
from pathlib import Path

import pytest

from wanasync import ConfigError, DownloadError
from wanasync.edges.targets import check_file_names, free_target


def test_a_file_name_is_taken_as_it_is(tmp_path: Path) -> None:
    assert free_target(tmp_path / "cat.mp4", "stem") == tmp_path / "cat.mp4"


@pytest.mark.parametrize("form", ["existing", "slash"])
def test_a_directory_takes_the_stem(tmp_path: Path, form: str) -> None:
    to = str(tmp_path) if form == "existing" else f"{tmp_path}/new/folder/"
    target = free_target(to, "stem")
    assert target == Path(to, "stem.mp4")
    assert target.parent.is_dir()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat.mp4").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DownloadError, match="exists already"):
        free_target(tmp_path / "cat.mp4", "stem")


def test_a_file_where_a_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="is not a directory"):
        free_target(tmp_path / "file" / "cat.mp4", "stem")


def test_a_directory_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write everywhere, so the system's answer is put in its mouth.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DownloadError, match="no permission"):
        free_target(tmp_path / "cat.mp4", "stem")


def test_a_locale_whose_file_names_hold_some_scripts_only_is_refused_before_anything_is_paid() -> None:
    check_file_names("utf-8")
    with pytest.raises(ConfigError, match="PYTHONUTF8=1"):
        check_file_names("ascii")

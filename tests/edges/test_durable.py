"""Directories that a power cut does not take back; what a cut would leave is tried in tests/crash/test_power.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wanasync.edges.durable import make_directory, sync_directory


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    paths: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: paths.append(Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
    return paths


def test_each_name_that_was_made_is_synced_in_the_directory_above_it(tmp_path: Path, synced: list[Path]) -> None:
    make_directory(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}


def test_what_is_there_costs_nothing(tmp_path: Path, synced: list[Path]) -> None:
    make_directory(tmp_path)
    assert synced == []


def test_a_relative_path_is_made_where_it_leads(
    tmp_path: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_directory(Path("a/b"))
    assert set(synced) == {tmp_path, tmp_path / "a"}


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / "a" / "b")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EINVAL])
def test_where_directories_can_not_be_synced_no_more_is_asked(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    sync_directory(tmp_path)


def test_a_failing_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sync_directory(tmp_path)

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gallery.making import make_batch
from wanasync import BatchHistory, ConfigError, JournalError
from wanasync.gallery import write_report


async def test_a_report_is_written_and_written_again(tmp_path: Path) -> None:
    await make_batch(tmp_path)
    path = await write_report(tmp_path)
    assert path == tmp_path / "index.html"
    first = path.read_text("utf-8")
    assert first.startswith("<!doctype html>")
    assert first.rstrip().endswith("</html>")
    assert await write_report(tmp_path) == path


async def test_a_strangers_page_is_left_alone_unless_told_otherwise(tmp_path: Path) -> None:
    await make_batch(tmp_path, ["planned"])
    (tmp_path / "index.html").write_text("my homepage")
    with pytest.raises(ConfigError, match="not written by wanasync"):
        await write_report(tmp_path)
    assert (tmp_path / "index.html").read_text() == "my homepage"
    await write_report(tmp_path, overwrite=True)
    assert (tmp_path / "index.html").read_text("utf-8").startswith("<!doctype html>")


async def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    await make_batch(tmp_path / "batch", ["planned"])
    (tmp_path / "mine").write_text("keep")
    (tmp_path / "batch" / "index.html").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="link"):
        await write_report(tmp_path / "batch")
    await write_report(tmp_path / "batch", overwrite=True)
    assert (tmp_path / "mine").read_text() == "keep"


async def test_a_report_that_fails_leaves_the_earlier_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_batch(tmp_path, ["planned"])
    path = await write_report(tmp_path)
    before = path.read_bytes()

    async def broken(_: BatchHistory) -> str:
        raise JournalError("damaged")

    async with BatchHistory(tmp_path) as history:
        monkeypatch.setattr(BatchHistory, "status", broken)
        with pytest.raises(JournalError):
            await write_report(tmp_path, source=history)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".wanasync", "index.html"]


async def test_a_directory_without_a_batch_is_told_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        await write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []

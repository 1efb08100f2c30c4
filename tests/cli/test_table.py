"""`--table`: what stands in it, in each kind; and that it is all or nothing."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wanasync import ConfigError, ItemStatus, VideoRequest
from wanasync.cli import table
from wanasync.cli.screen import Screen
from wanasync.cli.table import COLUMNS, check_table, write_table
from wanasync.emulator import Emulator

FORMULA = '=HYPERLINK("https://evil.example","cat")'


class Journal:
    """A batch's history that holds `items`."""

    def __init__(self, items: list[ItemStatus], url: str | None = None) -> None:
        self.directory, self.url = Path("videos"), url
        self._items = items

    async def items(self) -> Any:
        for item in self._items:
            yield item


def saved(index: int, prompt: str = "A cat") -> ItemStatus:
    request = VideoRequest(prompt, quality="480p", extra={"seed": 7})
    return ItemStatus(
        index + 1, index, f"id-{index}", "saved", f"{index}.mp4", request, f"task-{index}", 1, 1234, "ab" * 32, 2.5,
        submitted_at=1_700_000_000.0, updated_at=1_700_000_060.5,
    )  # fmt: skip


FAILED = ItemStatus(
    9, 8, "id-8", "failed", "8.mp4", None, "task-8", error_code="moderation", error_message="@no\n\u202e2"
)


async def written(path: Path, items: list[ItemStatus], **options: Any) -> Path:
    await write_table(Journal(items, **options), path, Screen())  # type: ignore[arg-type]
    return path


async def test_json_lines_hold_text_as_it_is(tmp_path: Path) -> None:
    path = await written(tmp_path / "t.jsonl", [saved(0, FORMULA), FAILED])
    first, second = map(json.loads, path.read_text().splitlines())
    assert list(first) == list(COLUMNS)
    assert first["prompt"] == FORMULA
    assert (first["path"], first["url"], first["bytes"], first["credits"]) == (
        str(Path("videos/0.mp4")),
        None,
        1234,
        2.5,
    )
    assert first["updated_at"] == "2023-11-14T22:14:20.500+00:00"
    assert first["extra"] == '{"seed": 7}'
    assert (second["state"], second["path"], second["prompt"], second["error"]) == (
        "failed",
        None,
        None,
        "@no\n\u202e2",
    )


async def test_objects_are_told_by_their_url(tmp_path: Path) -> None:
    path = await written(tmp_path / "t.jsonl", [saved(0)], url="s3://bucket/films")
    row = json.loads(path.read_text())
    assert (row["path"], row["url"]) == (None, "s3://bucket/films/0.mp4")


@pytest.mark.parametrize("prompt", [FORMULA, "+1 cat", "-1 cat", "@cat", "\tcat", " =1+1"])
async def test_a_spreadsheet_carries_nothing_out(tmp_path: Path, prompt: str) -> None:
    path = await written(tmp_path / "t.csv", [saved(0, prompt)])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["prompt"] == f"'{prompt}"
    assert row["id"] == "id-0"
    assert list(row) == list(COLUMNS)


async def test_parquet_has_types_and_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet  # type: ignore[import-untyped]

    monkeypatch.setattr(table, "_GROUP", 10)
    path = await written(tmp_path / "t.parquet", [*(saved(index) for index in range(25)), FAILED])
    read = parquet.ParquetFile(path)
    assert read.num_row_groups == 3
    rows = read.read().to_pylist()
    assert [row["index"] for row in rows] == [*range(25), 8]
    assert rows[0]["submitted_at"].timestamp() == 1_700_000_000
    assert {name: str(kind) for name, kind in zip(read.schema_arrow.names, read.schema_arrow.types, strict=True)} == {
        name: {str: "string", int: "int64", float: "double", bool: "bool"}.get(kind, "timestamp[ms, tz=UTC]")
        for name, kind in COLUMNS.items()
    }


async def test_a_table_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    path = await written(tmp_path / "t.csv", [saved(0)])
    before = path.read_bytes()

    class Broken(Journal):
        async def items(self) -> Any:
            yield saved(1)
            raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match="No space left"):
        await write_table(Broken([]), path, Screen())  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_not_be_written_is_told_before_anything_is_paid(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("prompt\n")
    for path, words in [
        (tmp_path / "t.xlsx", "ends in .csv, .jsonl, .parquet"),
        (tmp_path / "nowhere" / "t.csv", "can't be written"),
        (tmp_path / "list.csv", "the list itself"),
    ]:
        with pytest.raises(ConfigError, match=words):
            check_table(path, str(tmp_path / "list.csv"))


def test_a_missing_library_is_told_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'wanasync\[parquet\]'"):
        check_table(tmp_path / "t.parquet")


def test_a_run_and_a_look_write_the_same_table(wanasync: Callable[..., Any], emulate: Callable[..., Emulator]) -> None:
    emulate()
    Path("x.txt").write_text("A cat\nA dog\n")
    name = "{number:02d}-{slug}"
    assert wanasync("run", "x.txt", "--to", "v", "--name", name, "--table", "t.jsonl").code == 0
    rows = [json.loads(line) for line in Path("t.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["state"], Path(row["path"]).name) for row in rows] == [
        ("A cat", "saved", "01-a-cat.mp4"),
        ("A dog", "saved", "02-a-dog.mp4"),
    ]
    assert all(Path(row["path"]).stat().st_size == row["bytes"] for row in rows)
    assert wanasync("status", "v", "--table", "again.jsonl").code == 0
    assert Path("again.jsonl").read_text() == Path("t.jsonl").read_text()


def test_lines_that_come_to_one_name_are_told_before_anything_is_paid(
    wanasync: Callable[..., Any], emulate: Callable[..., Emulator]
) -> None:
    emulator = emulate()
    Path("x.txt").write_text("A cat\nA cat?\n")
    ended = wanasync("run", "x.txt", "--to", "v", "--name", "{slug}")
    assert ended.code == 2
    assert "line 2, file" in ended.err
    assert "{nonsense}" in wanasync("run", "x.txt", "--name", "{nonsense}").err
    assert not emulator.ledger.entries


def test_videos_go_to_a_store_by_their_url(wanasync: Callable[..., Any], emulate: Callable[..., Emulator]) -> None:
    emulate()
    Path("x.txt").write_text("A cat\n")
    (record,) = wanasync("run", "x.txt", "--to", "memory://cli-run/films", "--json").records
    assert (record["path"], record["url"]) == (None, "memory://cli-run/films/0001-a-cat.mp4")
    ended = wanasync("status", "memory://cli-run/films", "--json")
    assert [told["url"] for told in ended.records] == [record["url"]]
    shown = wanasync("generate", "A dog", "--to", "memory://cli-one/dog.mp4")
    assert shown.out.strip() == "memory://cli-one/dog.mp4"
    fetched = wanasync("fetch", record["task_id"], "--to", "memory://cli-fetch")
    assert fetched.out.strip() == f"memory://cli-fetch/{record['task_id']}.mp4"
    assert wanasync("run", "x.txt", "--to", "ftp://host/x").code == 2

"""How the journal lies on the disk: made small, and journals of earlier versions go on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from wanasync.edges.journal import FOLDER, Journal
from wanasync.edges.journal.schema import APPLICATION_ID, CODES, MIGRATIONS
from wanasync.errors import JournalError, RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.naming import made_name, name_key
from wanasync.rules.records import ItemRecord, PlannedItem

NOW = 1_800_000_000.123
TASK: dict[str, Any] = {"task_id": "task-unified-1757169743-7cvnl5zw", "credits_reserved": 4.5, "estimated_time": 102.0}
LINK: dict[str, Any] = {
    "links": ("https://video.example/1.mp4",),
    "link_deadline": NOW + 86_400.0,
    "credits_used": 1 / 3,
}


@contextlib.asynccontextmanager
async def opened(directory: Path, *, read_only: bool = False) -> AsyncIterator[Journal]:
    async with await Journal.open(directory, now=lambda: NOW, read_only=read_only) as journal:
        yield journal


def items(*prompts: str) -> list[PlannedItem]:
    return [PlannedItem(index, VideoRequest(prompt)) for index, prompt in enumerate(prompts)]


def numbered(count: int) -> list[PlannedItem]:
    return items(*(f"A slow camera moves over an old harbour at dawn while gulls circle, {n}" for n in range(count)))


@contextlib.contextmanager
def database(directory: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(directory / FOLDER / "journal.db")) as db:
        yield db
        db.commit()


async def everything(journal: Journal) -> list[ItemRecord]:
    return [record async for record in journal.iter_items()]


# --- small -----------------------------------------------------------------------------------------------------------


async def test_rows_are_packed_and_read_as_they_were(tmp_path: Path) -> None:
    planned = numbered(300)
    async with opened(tmp_path) as journal:
        records = await journal.plan(planned)
        assert await everything(journal) == records
    assert [record.request.prompt for record in records] == [item.request.prompt for item in planned]
    assert [record.file for record in records] == [made_name(item.request.prompt, item.index) for item in planned]
    with database(tmp_path) as db:
        size, named = db.execute("SELECT sum(length(request)), sum(length(file)) FROM item").fetchone()
        assert size < 0.4 * sum(len(item.request_json) for item in planned)
        assert named == 0
        assert db.execute("SELECT count(*) FROM name").fetchone() == (0,)
    async with opened(tmp_path, read_only=True) as journal:
        assert await everything(journal) == records


async def test_a_reader_learns_words_that_came_after_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal, opened(tmp_path, read_only=True) as reader:
        assert await everything(reader) == []
        records = await journal.plan(numbered(100))
        assert await everything(reader) == records


async def test_a_plan_that_is_refused_leaves_no_words_behind(tmp_path: Path) -> None:
    twice = [PlannedItem(200, VideoRequest("a"), "x"), PlannedItem(201, VideoRequest("b"), "x")]
    async with opened(tmp_path) as journal:
        with pytest.raises(RequestValidationError):
            await journal.plan(numbered(200) + twice)
        records = await journal.plan(numbered(200))
        assert await everything(journal) == records


async def test_each_figure_comes_back_to_the_millisecond_and_the_last_digit(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items("a"))
        await journal.record(record.key, ItemEvent.SUBMIT, submitted_at=NOW - 7.654_321)
        await journal.record(record.key, ItemEvent.ACCEPTED, **TASK)
        written = await journal.record(record.key, ItemEvent.LINKED, **LINK)
    assert written.submitted_at == round(NOW - 7.654_321, 3)
    assert (written.credits_reserved, written.credits_used, written.updated_at) == (4.5, 1 / 3, NOW)
    async with opened(tmp_path, read_only=True) as journal:
        assert await everything(journal) == [written]


@pytest.mark.parametrize("task_id", ["task-unified-", "task-unified-1", "TASK-UNIFIED-1", "other-1", "~", "1"])
async def test_each_kind_of_task_id_comes_back(tmp_path: Path, task_id: str) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items("a"))
        await journal.record(record.key, ItemEvent.SUBMIT)
        await journal.record(record.key, ItemEvent.ACCEPTED, task_id=task_id)
        assert await journal.known_tasks([task_id, "task-unified-2"]) == {task_id: NOW}
    async with opened(tmp_path) as journal:
        assert (await journal.get(record.key)).task_id == task_id


# --- names that are not written down ---------------------------------------------------------------------------------


async def test_a_name_that_a_row_makes_is_taken(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (cat,) = await journal.plan(items("A cat"))
        assert cat.file == "0001-a-cat.mp4"
        with pytest.raises(RequestValidationError, match="is the file of item 1 too"):
            await journal.plan([PlannedItem(1, VideoRequest("A dog"), None, "0001-A-Cat")])
        (named,) = await journal.plan([PlannedItem(0, VideoRequest("A cat"), "0001-a-cat")])
        assert named.file == "0001-a-cat-2.mp4"


async def test_a_line_in_anothers_place_gets_another_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (first,) = await journal.plan(items("A cat"))
    async with opened(tmp_path) as journal:
        again, more = await journal.plan(items("A cat", "A cat"))
        assert again.file == first.file
        assert more.file == "0002-a-cat.mp4"
    async with opened(tmp_path) as journal:
        shifted = await journal.plan(items("A dog", "A cat", "A cat"))
        assert [record.file for record in shifted] == ["0001-a-dog.mp4", first.file, more.file]
        assert [record.index for record in shifted] == [0, 1, 2]
        assert await everything(journal) == [shifted[1], shifted[2], shifted[0]]


async def test_an_unpaid_row_makes_way_for_a_wish_and_keeps_its_new_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.plan(items("A cat"))
    async with opened(tmp_path) as journal:
        (wanted,) = await journal.plan([PlannedItem(0, VideoRequest("A dog"), None, "0001-a-cat")])
        assert wanted.file == "0001-a-cat.mp4"
        (cat, dog) = await everything(journal)
        assert (cat.file, dog) == ("0001-a-cat-2.mp4", wanted)
    async with opened(tmp_path) as journal:
        with pytest.raises(RequestValidationError, match="is the file of item 1 too"):
            await journal.plan(
                [
                    PlannedItem(0, VideoRequest("A dog"), None, "0001-a-cat"),
                    PlannedItem(1, VideoRequest("A bird"), None, "0001-a-cat"),
                ]
            )


async def test_a_wish_for_the_name_that_would_be_made_is_one_of_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (cat,) = await journal.plan([PlannedItem(0, VideoRequest("A cat"), None, "0001-a-cat")])
        assert (await journal.get(cat.key)).file == "0001-a-cat.mp4"
        with pytest.raises(RequestValidationError, match="too"):
            await journal.plan([PlannedItem(1, VideoRequest("A dog"), None, "0001-a-cat")])


async def test_names_in_other_letters_are_written_down(tmp_path: Path) -> None:
    """What they become is told by tables that grow with each Python."""
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items("一只猫"))
    with database(tmp_path) as db:
        assert db.execute("SELECT file FROM item").fetchone() == (record.file,)
        assert db.execute("SELECT hash FROM name").fetchone() == (name_key(record.file),)


@pytest.mark.parametrize(
    "spoil", ["UPDATE item SET request = '{}'", "UPDATE item SET request = '[]'", "UPDATE item SET item_id = 'a'"]
)
async def test_a_row_whose_name_can_not_be_made_is_damage(tmp_path: Path, spoil: str) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items("A cat"))
    with database(tmp_path) as db:
        db.execute(spoil)
    async with opened(tmp_path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.get(record.key)


async def test_a_packed_request_without_its_words_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        records = await journal.plan(numbered(100))
    with database(tmp_path) as db:
        db.execute("UPDATE dictionary SET words = x'00'")
    async with opened(tmp_path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.get(records[50].key)


# --- earlier versions ------------------------------------------------------------------------------------------------


def journal_of_version_2(directory: Path) -> None:
    """As that version wrote it: a cat that is saved, a dog on its second attempt, a bird that is ready."""
    (directory / FOLDER).mkdir(parents=True)
    with database(directory) as db:
        for migration in MIGRATIONS[:2]:
            migration(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
        for seq, item in enumerate(items("A cat", "A dog", "A bird"), 1):
            file = f"{seq:04d}-{item.request.prompt.lower().replace(' ', '-')}.mp4"
            row = (seq, int(item.key, 16), item.index, None, item.request_json, file)
            db.execute("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", row)
            db.execute("INSERT INTO name VALUES (?, ?)", (name_key(file), seq))
        saved = (1, CODES[ItemState.SAVED], 1, "task-unified-1", NOW, 60.0, 4.5, 5.0, 1234, b"\xab" * 32, NOW + 90.5)
        db.execute("INSERT INTO progress VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)", saved)
        db.execute(
            "INSERT INTO progress (seq, state, attempt, updated_at) VALUES (2, ?, 2, ?)",
            (CODES[ItemState.PLANNED], NOW - 1),
        )
        db.execute(
            "INSERT INTO attempt VALUES (2, 1, 'task-unified-2', ?, 'service_error', 'no', ?)", (NOW - 9, NOW - 2)
        )
        ready = (3, CODES[ItemState.READY], 1, "odd-3", NOW, 4.5, 1 / 3, NOW + 5)
        db.execute(
            "INSERT INTO progress (seq, state, attempt, task_id, submitted_at, credits_reserved, credits_used, "
            "updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ready,
        )
        db.execute("INSERT INTO link VALUES (3, ?, ?)", (json.dumps(["https://video.example/3.mp4"]), NOW + 86_400))
        db.execute(
            "UPDATE tally SET items = 1, credits_reserved = 4.5, credits_used = 5, committed = 5 WHERE state = 4"
        )
        db.execute("UPDATE tally SET items = 1 WHERE state = 0")
        db.execute(
            "UPDATE tally SET items = 1, credits_reserved = 4.5, credits_used = ?, committed = ? WHERE state = 3",
            (1 / 3, 1 / 3),
        )


async def test_a_journal_of_the_former_version_opens_and_goes_on(tmp_path: Path) -> None:
    journal_of_version_2(tmp_path)
    async with opened(tmp_path) as journal:
        cat, dog, bird = await journal.plan(items("A cat", "A dog", "A bird"))
        assert cat == ItemRecord(
            cat.journal_id,
            items("A cat")[0].key,
            1,
            0,
            None,
            '{"prompt":"A cat"}',
            "0001-a-cat.mp4",
            ItemState.SAVED,
            task_id="task-unified-1",
            submitted_at=NOW,
            estimated_time=60.0,
            credits_reserved=4.5,
            credits_used=5.0,
            bytes=1234,
            sha256="ab" * 32,
            updated_at=round(NOW + 90.5, 3),
        )
        assert (dog.state, dog.attempt, dog.submitted_at, dog.updated_at) == (ItemState.PLANNED, 2, None, NOW - 1)
        assert (bird.state, bird.task_id, bird.credits_used) == (ItemState.READY, "odd-3", 1 / 3)
        assert (bird.links, bird.link_deadline) == (("https://video.example/3.mp4",), NOW + 86_400)
        assert await journal.known_tasks(["task-unified-1", "task-unified-2", "odd-3"]) == {
            "task-unified-1": NOW,
            "task-unified-2": NOW - 9,
            "odd-3": NOW,
        }
        assert (await journal.totals()).committed == pytest.approx(5 + 1 / 3)

        await journal.record(dog.key, ItemEvent.SUBMIT)
        dog = await journal.record(dog.key, ItemEvent.ACCEPTED, **TASK)
        with pytest.raises(RequestValidationError, match="too"):
            await journal.plan([PlannedItem(3, VideoRequest("A fish"), None, "0002-a-dog")])
        added = await journal.plan([PlannedItem(3 + item.index, item.request) for item in numbered(100)])
    async with opened(tmp_path, read_only=True) as journal:
        assert await everything(journal) == [cat, dog, bird, *added]


async def test_a_journal_of_the_former_version_is_only_read_once_it_is_brought_up(tmp_path: Path) -> None:
    journal_of_version_2(tmp_path)
    with pytest.raises(JournalError, match="older wanasync"):
        await Journal.open(tmp_path, now=lambda: NOW, read_only=True)
    async with opened(tmp_path):
        pass
    async with opened(tmp_path, read_only=True) as journal:
        assert [record.state for record in await everything(journal)] == [
            ItemState.SAVED,
            ItemState.PLANNED,
            ItemState.READY,
        ]

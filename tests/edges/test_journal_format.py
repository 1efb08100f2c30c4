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
from wanasync.edges.journal.migrations import APPLICATION_ID, MIGRATIONS
from wanasync.edges.journal.packing import Packing
from wanasync.edges.journal.schema import CODES
from wanasync.errors import JournalError, RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent, ItemState, TransitionError
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
        (size,) = db.execute("SELECT sum(length(requests)) FROM pack").fetchone()
        assert size < 0.3 * sum(len(item.request_json) for item in planned)
        assert db.execute("SELECT count(*) FROM item").fetchone() == (0,)
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


@pytest.mark.parametrize(
    "task_id",
    [
        *("task-unified-", "task-unified-1", "TASK-UNIFIED-1", "other-1", "~", "1"),
        *("task-unified-1757169743-7cvnl5zw", "task-unified-1000000000-00000000", "task-unified-4294967295-zzzzzzzz"),
        *("task-unified-4294967296-7cvnl5zw", "task-unified-0757169743-7cvnl5zw", "task-unified-1757169743-7CVNL5ZW"),
    ],
)
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
    "spoil",
    [
        "INSERT INTO item (seq, request) VALUES (1, '{}')",
        "INSERT INTO item (seq, request) VALUES (1, '[]')",
        "INSERT INTO item (seq, key, item_id) VALUES (1, 1, 'a')",
        "UPDATE pack SET requests = '{}'",
    ],
)
async def test_a_row_whose_name_can_not_be_made_is_damage(tmp_path: Path, spoil: str) -> None:
    async with opened(tmp_path) as journal:
        await journal.plan(items("A cat"))
    with database(tmp_path) as db:
        db.execute(spoil)
    async with opened(tmp_path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await everything(journal)


@pytest.mark.parametrize("spoil", ["DELETE FROM pack", "UPDATE pack SET requests = 5", "UPDATE pack SET first = 9"])
async def test_a_row_without_its_request_is_damage(tmp_path: Path, spoil: str) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items("A cat"))
    with database(tmp_path) as db:
        db.execute(spoil)
    async with opened(tmp_path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.get(record.key)


async def test_long_requests_lie_in_packs_of_few(tmp_path: Path) -> None:
    planned = items(*(f"{number} {'x' * (number * 40)}" for number in range(50)))
    async with opened(tmp_path) as journal:
        records = await journal.plan(planned)
        assert [record.request_json for record in records] == [item.request_json for item in planned]
    with database(tmp_path) as db:
        firsts = [first for (first,) in db.execute("SELECT first FROM pack ORDER BY first")]
        assert firsts[0] == 1
        assert len(firsts) > 10
    async with opened(tmp_path) as journal:
        assert await everything(journal) == records


async def test_an_item_with_an_id_and_another_request_than_planned_has_a_row_of_its_own(tmp_path: Path) -> None:
    first, second = VideoRequest("A cat"), VideoRequest("A dog")
    async with opened(tmp_path) as journal:
        await journal.plan([PlannedItem(0, first, "a"), PlannedItem(1, first, "b")])
    async with opened(tmp_path) as journal:
        a, b = await journal.plan([PlannedItem(0, second, "a"), PlannedItem(1, first, "b")])
        assert (a.request, b.request) == (second, first)
    with database(tmp_path) as db:
        assert db.execute("SELECT item_id, request FROM item").fetchall() == [("a", a.request_json), ("b", None)]
    async with opened(tmp_path) as journal:
        assert await everything(journal) == [a, b]
        again, _ = await journal.plan([PlannedItem(0, first, "a"), PlannedItem(1, first, "b")])
        assert again.request == first


async def test_items_whose_keys_have_one_hash_are_told_apart(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        cat, dog = await journal.plan(items("A cat", "A dog"))
    with database(tmp_path) as db:
        db.execute("INSERT INTO key SELECT hash, 3 - seq FROM key")
    async with opened(tmp_path) as journal:
        assert await journal.find([dog.key, cat.key]) == {dog.key: dog, cat.key: cat}
        assert await journal.plan(items("A cat", "A dog")) == [cat, dog]


async def test_what_another_program_writes_is_seen(tmp_path: Path) -> None:
    """It has gone past the lock; what it says of an item counts all the same."""
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items("A cat"))
        with database(tmp_path) as db:
            db.execute("UPDATE progress SET state = ?", (CODES[ItemState.SUBMITTING],))
        with pytest.raises(TransitionError):
            await journal.record(record.key, ItemEvent.SUBMIT)
        assert (await journal.get(record.key)).state is ItemState.SUBMITTING


async def test_a_packed_request_without_its_words_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        records = await journal.plan(numbered(100))
    with database(tmp_path) as db:
        db.execute("UPDATE dictionary SET words = x'00'")
    async with opened(tmp_path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.get(records[50].key)


# --- earlier versions ------------------------------------------------------------------------------------------------


def make_version(db: sqlite3.Connection, version: int) -> None:
    for migration in MIGRATIONS[:version]:
        migration(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {version}")


def journal_of_version_2(directory: Path) -> None:
    """As that version wrote it: a cat that is saved, a dog on its second attempt, a bird that is ready."""
    (directory / FOLDER).mkdir(parents=True)
    with database(directory) as db:
        make_version(db, 2)
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


def journal_of_version_4(directory: Path) -> list[PlannedItem]:
    """As that version wrote it: each request packed by itself, names that numbers make, one item listed elsewhere."""
    planned = [*numbered(99), PlannedItem(150, VideoRequest("A cat"), "the cat", "cats/one")]
    (directory / FOLDER).mkdir(parents=True)
    words = "".join(item.request_json for item in planned)[:7000].encode()
    packing = Packing({1: words}.get)
    packing.use(1)
    with database(directory) as db:
        make_version(db, 4)
        db.execute("INSERT INTO dictionary VALUES (1, ?)", (words,))
        for seq, item in enumerate(planned, 1):
            row = (seq, int(item.key, 16), item.index, item.item_id, packing.pack(item.request_json), item.file or "")
            db.execute("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", row)
            accepted = (seq, CODES[ItemState.ACCEPTED], 1, f" 1757169743-{seq:08d}", round(NOW * 1000), 5, 4500000)
            db.execute(
                "INSERT INTO progress (seq, state, attempt, task_id, submitted_at, updated_after, credits_reserved) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                accepted,
            )
        db.execute("UPDATE item SET file = 'cats/one.mp4' WHERE file <> ''")
        db.execute("INSERT INTO name VALUES (?, 100)", (name_key("cats/one.mp4"),))
        db.execute("UPDATE tally SET items = 100, credits_reserved = 450, committed = 450 WHERE state = 2")
    return planned


async def test_a_journal_whose_requests_were_packed_one_by_one_goes_on(tmp_path: Path) -> None:
    planned = journal_of_version_4(tmp_path)
    more = [PlannedItem(200 + item.index, VideoRequest(f"{item.request.prompt}!")) for item in numbered(50)]
    async with opened(tmp_path) as journal:
        records = await journal.plan(planned)
        assert [record.seq for record in records] == list(range(1, 101))
        assert [record.request for record in records] == [item.request for item in planned]
        assert [record.index for record in records] == [item.index for item in planned]
        assert (records[0].file, records[99].file) == (made_name(planned[0].request.prompt, 0), "cats/one.mp4")
        assert await journal.known_tasks(["task-unified-1757169743-00000007"]) == {
            "task-unified-1757169743-00000007": NOW
        }
        linked = await journal.record(records[6].key, ItemEvent.LINKED, **LINK)
        assert linked.task_id == "task-unified-1757169743-00000007"
        added = await journal.plan(more)
    async with opened(tmp_path, read_only=True) as journal:
        assert await everything(journal) == [*records[:6], linked, *records[7:], *added]
        assert await journal.known_tasks([linked.task_id]) == {linked.task_id: NOW}


async def test_a_journal_of_each_version_has_the_same_tables_in_the_end(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with database(tmp_path) as db, contextlib.closing(sqlite3.connect(":memory:")) as brought_up:
        make_version(brought_up, len(MIGRATIONS))
        tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
        assert db.execute(tables).fetchall() == brought_up.execute(tables).fetchall()

"""The journal: what it has acknowledged is on disk, whatever happens next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.helpers.records import everything, items, tally_of
from wanasync.edges.journal import CHUNK, FOLDER, Journal
from wanasync.edges.lock import holder_of
from wanasync.errors import JournalError, RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import TRANSITIONS, ItemEvent, ItemState, TransitionError, next_state
from wanasync.rules.records import ItemRecord, PlannedItem
from wanasync.testing import virtual_time

NOW = 1_800_000_000.0
TASK = {"task_id": "task-unified-1", "credits_reserved": 4.5}
LINK = {"links": ("https://video.example/1.mp4",), "link_deadline": NOW + 86_400}
FILE = {"bytes": 1234, "sha256": "ab" * 32}
GOOD_WAY: tuple[tuple[ItemEvent, dict[str, Any]], ...] = (
    (ItemEvent.SUBMIT, {}),
    (ItemEvent.ACCEPTED, TASK),
    (ItemEvent.LINKED, LINK),
    (ItemEvent.SAVED, FILE),
)
NEEDED: dict[ItemEvent, dict[str, Any]] = {
    ItemEvent.ACCEPTED: TASK,
    ItemEvent.RESOLVED: TASK,
    ItemEvent.LINKED: LINK,
    ItemEvent.SAVED: FILE,
}


def now() -> float:
    return NOW


@contextlib.asynccontextmanager
async def opened(directory: Path, *, read_only: bool = False) -> AsyncIterator[Journal]:
    async with await Journal.open(directory, now=now, read_only=read_only) as journal:
        yield journal


async def advance_to(journal: Journal, key: str, state: ItemState) -> ItemRecord:
    """Bring a planned item to any state on the shortest way the table knows."""
    ways: dict[ItemState, tuple[ItemEvent, ...]] = {ItemState.PLANNED: ()}
    while state not in ways:
        for (source, event), to in TRANSITIONS.items():
            if source in ways:
                ways.setdefault(to, (*ways[source], event))
    record = await journal.get(key)
    for event in ways[state]:
        record = await journal.record(key, event, **NEEDED.get(event, {}))
    return record


# Planning


async def test_a_new_directory_gets_a_journal_and_each_item_its_record(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "videos"
    request = VideoRequest("A cat", quality="1080p", extra={"seed": 7})
    async with opened(directory) as journal:
        (record,) = await journal.plan([PlannedItem(0, request, "cat", "shots/cat")])
        assert (record.seq, record.index, record.item_id, record.file) == (1, 0, "cat", "shots/cat.mp4")
        assert (record.state, record.attempt, record.request) == (ItemState.PLANNED, 1, request)
        assert await journal.get(record.key) == record
        assert journal.is_listed(record)
        assert await journal.counts() == tally_of([record])[0]
    assert sorted(path.name for path in (directory / FOLDER).iterdir()) == ["journal.db", "lock"]


async def test_running_again_finds_every_item_wherever_its_line_went(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        first = {record.request.prompt: record for record in await journal.plan(items(["a", "b", "c", "d"]))}
        await journal.record(first["c"].key, ItemEvent.SUBMIT)
        await journal.record(first["c"].key, ItemEvent.ACCEPTED, **TASK)
    async with opened(tmp_path) as journal:
        again = await journal.plan(items(["new", "d", "c", "b"]))
        by_prompt = {record.request.prompt: record for record in again}
        for prompt in "bcd":
            assert (by_prompt[prompt].key, by_prompt[prompt].file) == (first[prompt].key, first[prompt].file)
        assert [record.index for record in again] == [0, 1, 2, 3]
        assert by_prompt["c"].state is ItemState.ACCEPTED
        assert by_prompt["new"].seq == 5
        listed = {record.request.prompt: journal.is_listed(record) async for record in journal.iter_items()}
        assert listed == {"a": False, "b": True, "c": True, "d": True, "new": True}
    async with opened(tmp_path) as journal:
        kept = {record.request.prompt: record.index for record in await everything(journal)}
        assert kept == {"a": 0, "new": 0, "d": 1, "c": 2, "b": 3}


async def test_equal_lines_are_separate_items_and_stay_so(tmp_path: Path) -> None:
    prompts = ["cat"] * 3 + ["dog"] + ["cat"] * (CHUNK + 5)
    async with opened(tmp_path) as journal:
        first = [record.key for record in await journal.plan(items(prompts))]
        assert len(set(first)) == len({record.file for record in await everything(journal)}) == len(prompts)
    async with opened(tmp_path) as journal:
        again = items(prompts)
        in_pieces = [record.key for part in (again[:2], again[2:5], again[5:]) for record in await journal.plan(part)]
        assert in_pieces == first
    async with opened(tmp_path) as journal:
        fewer = [record.key for record in await journal.plan(items(["cat", "cat"]))]
        assert fewer == first[:2]
        assert len(await everything(journal)) == len(prompts)


async def test_repetitions_are_counted_on_when_their_count_was_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts are kept for so many contents only; what is on disk tells the rest."""
    monkeypatch.setattr("wanasync.edges.journal.store._MAX_REPETITIONS", 1)
    prompts = ["cat", "dog"] * 4
    async with opened(tmp_path) as journal:
        first = [(await journal.plan([item]))[0].key for item in items(prompts)]
        assert len(set(first)) == len(prompts)
    async with opened(tmp_path) as journal:
        assert [(await journal.plan([item]))[0].key for item in items(prompts)] == first


async def test_an_edited_line_is_a_new_item_and_the_old_one_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (old,) = await journal.plan(items(["A cat"]))
    async with opened(tmp_path) as journal:
        (new,) = await journal.plan(items(["A cat!"]))
        assert new.key != old.key
        assert new.file == "0001-a-cat-2.mp4"
        assert not journal.is_listed(old)
        assert await journal.get(old.key) == old


async def test_an_id_keeps_its_item_while_its_place_and_callback_change(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (first,) = await journal.plan([PlannedItem(0, VideoRequest("A cat"), "cat")])
    called = VideoRequest("A cat", callback_url="https://example.com/hook")
    async with opened(tmp_path) as journal:
        (moved,) = await journal.plan([PlannedItem(9, called, "cat")])
        assert (moved.key, moved.seq, moved.index, moved.request) == (first.key, 1, 9, called)
        await journal.record(first.key, ItemEvent.SUBMIT)
        await journal.record(first.key, ItemEvent.NOT_TAKEN)
    async with opened(tmp_path) as journal:
        (sent,) = await journal.plan([PlannedItem(9, VideoRequest("A cat"), "cat")])
        assert (sent.request, sent.attempt) == (called, 1), "what went out under an idempotency key stays"


async def test_an_unpaid_id_may_change_its_request_and_a_paid_one_may_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        rejected, paid = await journal.plan(
            [PlannedItem(0, VideoRequest("bad"), "rejected"), PlannedItem(1, VideoRequest("good"), "paid")]
        )
        await advance_to(journal, rejected.key, ItemState.REJECTED)
        await advance_to(journal, paid.key, ItemState.UNKNOWN)
    async with opened(tmp_path) as journal:
        (mended,) = await journal.plan([PlannedItem(0, VideoRequest("better"), "rejected")])
        assert (mended.request.prompt, mended.state, mended.attempt) == ("better", ItemState.PLANNED, 2)
        assert await journal.get(mended.key) == mended
        with pytest.raises(RequestValidationError, match="was submitted with another request"):
            await journal.plan([PlannedItem(1, VideoRequest("other"), "paid")])
        counts, totals = tally_of(await everything(journal))
        assert (await journal.counts(), await journal.totals()) == (counts, totals)


async def test_an_id_twice_in_a_list_is_refused_and_nothing_of_its_chunk_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.plan(items(["before"]))
        twice = [PlannedItem(1, VideoRequest("A cat"), "cat"), PlannedItem(2, VideoRequest("A dog"), "cat")]
        with pytest.raises(RequestValidationError, match="more than one item") as caught:
            await journal.plan(twice)
        assert caught.value.field == "id"
        assert [record.request.prompt for record in await everything(journal)] == ["before"]
        (record,) = await journal.plan(twice[:1])
        assert (record.seq, record.file) == (2, "cat.mp4")
        with pytest.raises(RequestValidationError, match="more than one item"):
            await journal.plan(twice[1:])
        assert (await journal.counts())[ItemState.PLANNED] == 2


# Names


async def test_made_names_give_way_to_one_another_whatever_their_case(tmp_path: Path) -> None:
    ids = ["Cat", "cat", "CAT", "a/b", "a:b", "ca\u0301t", "c\u00e1t"]
    async with opened(tmp_path) as journal:
        planned = [PlannedItem(index, VideoRequest("A cat"), item_id) for index, item_id in enumerate(ids)]
        names = [record.file for record in await journal.plan(planned)]
    assert names == ["Cat.mp4", "cat-2.mp4", "CAT-3.mp4", "a-b.mp4", "a-b-2.mp4", "cát.mp4", "cát-2.mp4"]


async def test_a_file_wanted_twice_is_refused_naming_both(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.plan([PlannedItem(0, VideoRequest("A cat"), "one", "shots/Cat.mp4")])
        for chunk in ([], [PlannedItem(1, VideoRequest("A cow"))]):
            with pytest.raises(RequestValidationError, match=r"item 'two'.*item 'one'") as caught:
                await journal.plan([*chunk, PlannedItem(2, VideoRequest("A dog"), "two", "shots/cat")])
            assert caught.value.field == "file"
        await journal.plan([PlannedItem(2, VideoRequest("A dog"), "two", "shots/dog")])


async def test_a_wanted_file_may_be_a_corrected_lines_but_not_a_paid_ones(tmp_path: Path) -> None:
    typo, paid = VideoRequest("A catt"), VideoRequest("A dog")
    async with opened(tmp_path) as journal:
        records = await journal.plan([PlannedItem(0, typo, None, "cat"), PlannedItem(1, paid, None, "dog")])
        await advance_to(journal, records[0].key, ItemState.REJECTED)
        await advance_to(journal, records[1].key, ItemState.SAVED)
    async with opened(tmp_path) as journal:
        (mended,) = await journal.plan([PlannedItem(0, VideoRequest("A cat"), None, "cat")])
        assert mended.file == "cat.mp4"
        assert (await journal.get(records[0].key)).file == "cat-2.mp4"
        with pytest.raises(RequestValidationError, match=r"of an earlier run \(saved\)"):
            await journal.plan([PlannedItem(1, VideoRequest("A big dog"), None, "dog")])
        with pytest.raises(RequestValidationError, match="too; each video needs its own"):
            await journal.plan([PlannedItem(2, typo, None, "cat")])
    async with opened(tmp_path) as journal:
        both = [PlannedItem(0, VideoRequest("A new cat"), None, "cat-2"), PlannedItem(1, typo, None, "tom")]
        assert [record.file for record in await journal.plan(both)] == ["cat-2.mp4", "tom.mp4"]
        assert (await journal.get(records[0].key)).file == "tom.mp4"


async def test_a_name_that_was_given_up_is_free_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.plan([PlannedItem(0, VideoRequest("A cat"), "1", "cat")])
    async with opened(tmp_path) as journal:
        both = [PlannedItem(0, VideoRequest("A cat"), "1", "tom"), PlannedItem(1, VideoRequest("A dog"), "2", "cat")]
        assert [record.file for record in await journal.plan(both)] == ["tom.mp4", "cat.mp4"]


async def test_a_saved_video_keeps_its_name_whatever_is_wanted_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan([PlannedItem(0, VideoRequest("A cat"), None, "cat")])
        await advance_to(journal, record.key, ItemState.SAVED)
    async with opened(tmp_path) as journal:
        (again,) = await journal.plan([PlannedItem(0, VideoRequest("A cat"), None, "tom")])
        assert (again.file, again.state) == ("cat.mp4", ItemState.SAVED)


async def test_files_that_lie_there_already_are_never_a_videos_target(tmp_path: Path) -> None:
    (tmp_path / "0001-a-cat.mp4").write_text("somebody's own")
    (tmp_path / "dog.mp4").write_text("somebody's own")
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items(["A cat"]))
        assert record.file == "0001-a-cat-2.mp4"
        with pytest.raises(RequestValidationError, match="such a file is there already"):
            await journal.plan([PlannedItem(1, VideoRequest("A dog"), None, "dog")])
    (tmp_path / record.file).write_text("the video")
    async with opened(tmp_path) as journal:
        (again,) = await journal.plan(items(["A cat"]))
        assert again.file == record.file


async def test_a_wanted_name_that_leaves_the_directory_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        with pytest.raises(RequestValidationError, match="must not leave"):
            await journal.plan([PlannedItem(0, VideoRequest("A cat"), None, "../cat")])
        assert await everything(journal) == []


# Recording


async def test_what_is_recorded_is_there_for_a_reader_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items(["A cat"]))
        for event, changes in GOOD_WAY:
            record = await journal.record(record.key, event, **changes)
            async with opened(tmp_path, read_only=True) as reader:
                assert await reader.get(record.key) == record
                assert await reader.counts() == tally_of([record])[0]
    assert (record.state, record.task_id, record.sha256) == (ItemState.SAVED, "task-unified-1", "ab" * 32)
    assert (record.links, record.updated_at) == ((), NOW)
    async with opened(tmp_path) as journal:
        assert await journal.get(record.key) == record


async def test_an_impossible_event_is_refused_and_disturbs_nobody_in_its_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        one, two = await journal.plan(items(["a", "b"]))
        answers = await asyncio.gather(
            journal.record(one.key, ItemEvent.SUBMIT),
            journal.record(one.key, ItemEvent.SUBMIT),
            journal.record("0" * 16, ItemEvent.SUBMIT),
            journal.record(two.key, ItemEvent.SAVED, **FILE),
            journal.record(two.key, ItemEvent.SUBMIT),
            return_exceptions=True,
        )
        kinds = [type(answer) for answer in answers]
        assert kinds == [ItemRecord, TransitionError, JournalError, TransitionError, ItemRecord]
        assert (await journal.counts())[ItemState.SUBMITTING] == 2


async def test_a_mistaken_change_is_told_before_anything_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items(["a"]))
        with pytest.raises(TypeError, match="file"):
            await journal.record(record.key, ItemEvent.SUBMIT, file="other.mp4")
        assert await journal.get(record.key) == record


async def test_any_text_of_the_provider_can_be_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items(["a"]))
        await journal.record(record.key, ItemEvent.SUBMIT)
        said = "half a pair \ud800, a nul \0, quotes '\"; DROP TABLE item"
        await journal.record(record.key, ItemEvent.REFUSED, error_code="x", error_message=said)
    async with opened(tmp_path) as journal:
        kept = await journal.get(record.key)
        assert kept.error_message == said.replace("\ud800", "?")


async def test_items_are_read_by_state_without_missing_or_repeating_any(tmp_path: Path) -> None:
    count = 2 * CHUNK + 7
    async with opened(tmp_path) as journal:
        records = await journal.plan(items(f"prompt {number}" for number in range(count)))
        assert [record.seq async for record in journal.iter_items()] == list(range(1, count + 1))
        await asyncio.gather(*(advance_to(journal, record.key, ItemState.ACCEPTED) for record in records[::3]))
        accepted = [record async for record in journal.iter_items([ItemState.ACCEPTED])]
        assert [record.key for record in accepted] == [record.key for record in records[::3]]
        states = [record.state async for record in journal.iter_items({ItemState.ACCEPTED, ItemState.PLANNED})]
        assert states == sorted(states, key=list(ItemState).index)
        assert len(states) == count
        assert [record async for record in journal.iter_items([ItemState.SAVED])] == []


async def test_notes_are_kept_and_replaced(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        assert await journal.get_meta("pace") is None
        await journal.set_meta("pace", "{}")
        await journal.set_meta("pace", '{"rate": 2}')
    async with opened(tmp_path, read_only=True) as journal:
        assert await journal.get_meta("pace") == '{"rate": 2}'


# One writer, many readers


async def test_a_second_run_on_the_same_directory_is_told_who_works_there(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(JournalError, match=rf"in use by process {os.getpid()} on ") as caught:
            await Journal.open(tmp_path, now=now)
        assert caught.value.path == str(tmp_path)
        with pytest.raises(JournalError, match="in use by"):
            await Journal.open(tmp_path, now=now)
    async with opened(tmp_path):
        pass


async def test_looking_who_works_there_stops_nobody_from_starting(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        holder = await journal.holder()
        assert holder is not None
        assert f"process {os.getpid()}" in holder
    watching = True

    def watch() -> None:
        while watching:
            holder_of(tmp_path / FOLDER / "lock")

    watcher = asyncio.ensure_future(asyncio.to_thread(watch))
    try:
        for _ in range(20):
            async with opened(tmp_path) as journal:
                await journal.counts()
    finally:
        watching = False
        await watcher
    assert await journal.holder() is None


async def test_a_reader_sees_whole_commits_while_a_writer_works(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        records = await journal.plan(items(f"prompt {number}" for number in range(60)))

        async def work(mine: list[ItemRecord]) -> None:
            for record in mine:
                for event, changes in GOOD_WAY:
                    await journal.record(record.key, event, **changes)

        working = asyncio.gather(*(work(records[first::6]) for first in range(6)))
        seen: list[int] = []
        async with opened(tmp_path, read_only=True) as reader:
            while not working.done():
                counts = await reader.counts()
                assert sum(counts.values()) == 60
                seen.append(counts[ItemState.SAVED])
            await working
            assert (await reader.counts())[ItemState.SAVED] == 60
        assert seen == sorted(seen)


async def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal here"):
        await Journal.open(tmp_path, now=now, read_only=True)
    assert os.listdir(tmp_path) == []
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items(["a"]))
        await journal.record(record.key, ItemEvent.SUBMIT)
        async with opened(tmp_path, read_only=True) as reader:
            assert (await reader.get(record.key)).state is ItemState.SUBMITTING
            with pytest.raises(JournalError, match="readonly"):
                await reader.record(record.key, ItemEvent.REPLY_LOST)
            assert (await reader.get(record.key)).state is ItemState.SUBMITTING


async def test_it_belongs_to_the_loop_it_was_opened_in(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:

        def elsewhere() -> None:
            with pytest.raises(JournalError, match="another event loop"):
                asyncio.run(journal.counts())

        await asyncio.to_thread(elsewhere)
    with pytest.raises(JournalError, match="is closed"):
        await journal.counts()
    await journal.close()


@virtual_time
async def test_virtual_time_stands_still_while_the_journal_writes() -> None:
    loop = asyncio.get_running_loop()
    directory = Path(await asyncio.to_thread(_temporary))
    try:
        async with opened(directory) as journal:
            started = loop.time()
            records = await journal.plan(items(f"prompt {number}" for number in range(50)))
            async with asyncio.timeout(0.001):
                await asyncio.gather(*(journal.record(record.key, ItemEvent.SUBMIT) for record in records))
            assert loop.time() == started
    finally:
        shutil.rmtree(directory)


def _temporary() -> str:
    return tempfile.mkdtemp()


# Cancellation


async def cancel_while_waiting(task: asyncio.Task[Any], turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("turns", range(1, 5))
async def test_a_cancelled_caller_neither_undoes_nor_loses_its_write(tmp_path: Path, turns: int) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items(["a"]))
        writing = asyncio.ensure_future(journal.record(record.key, ItemEvent.SUBMIT))
        await cancel_while_waiting(writing, turns)
        assert (await journal.get(record.key)).state is ItemState.SUBMITTING
        assert (await journal.record(record.key, ItemEvent.ACCEPTED, **TASK)).task_id == "task-unified-1"


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancelled_opening_lets_the_directory_go(tmp_path: Path, turns: int) -> None:
    await cancel_while_waiting(asyncio.ensure_future(Journal.open(tmp_path, now=now)), turns)
    async with await once_free(tmp_path) as journal:
        assert await journal.counts() == tally_of([])[0]


async def once_free(directory: Path) -> Journal:
    """Open a journal as soon as the thread of a cancelled opening or closing has let it go."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(JournalError):
                return await Journal.open(directory, now=now)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancelled_closing_still_writes_and_closes(tmp_path: Path, turns: int) -> None:
    journal = await Journal.open(tmp_path, now=now)
    (record,) = await journal.plan(items(["a"]))
    writing = asyncio.ensure_future(journal.record(record.key, ItemEvent.SUBMIT))
    await asyncio.sleep(0)
    await cancel_while_waiting(asyncio.ensure_future(journal.close()), turns)
    await journal.close()
    assert (await writing).state is ItemState.SUBMITTING
    async with opened(tmp_path) as again:
        assert (await again.get(record.key)).state is ItemState.UNKNOWN


def test_a_loop_that_ends_with_writes_in_the_queue_loses_none(tmp_path: Path) -> None:
    async def leave() -> str:
        journal = await Journal.open(tmp_path, now=now)
        (record,) = await journal.plan(items(["a"]))
        writing = asyncio.ensure_future(journal.record(record.key, ItemEvent.SUBMIT))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(journal.close())
        await asyncio.sleep(0)
        del writing, closing
        return record.key

    async def look(key: str) -> ItemState:
        async with await once_free(tmp_path) as journal:
            return (await journal.get(key)).state

    assert asyncio.run(look(asyncio.run(leave()))) is ItemState.UNKNOWN


# Crashes

WRITER = """
import asyncio, os, sys, time
from wanasync.edges.journal import Journal
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.records import PlannedItem

WAY = (
    (ItemEvent.SUBMIT, {}),
    (ItemEvent.ACCEPTED, {"task_id": "task", "credits_reserved": 1.0}),
    (ItemEvent.LINKED, {"links": ("https://video.example/1.mp4",)}),
    (ItemEvent.SAVED, {"bytes": 1, "sha256": "00" * 32}),
)

async def work(journal, number):
    for index in range(1000):
        (record,) = await journal.plan([PlannedItem(index, VideoRequest(f"{number} {index}"))])
        for event, changes in WAY:
            record = await journal.record(record.key, event, **changes)
            os.write(1, f"{record.key} {record.state}\\n".encode())

async def main():
    journal = await Journal.open(sys.argv[1], now=time.time)
    os.write(1, b"open\\n")
    await asyncio.gather(*(work(journal, f"{sys.argv[2]} {number}") for number in range(20)))

asyncio.run(main())
"""


def killed_writer(directory: Path, name: str, seconds: float) -> dict[str, ItemState]:
    """Run a writer, kill it after some time, and give the last state acknowledged of each item."""
    command = [sys.executable, "-c", WRITER, str(directory), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().splitlines()
    return {key: ItemState(state) for key, state in (line.split() for line in lines)}


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    order = [ItemState.PLANNED, ItemState.SUBMITTING, ItemState.ACCEPTED, ItemState.READY, ItemState.SAVED]
    moments = random.Random(7)
    total = 0
    for round_ in range(8):
        acknowledged = await asyncio.to_thread(killed_writer, tmp_path, str(round_), moments.uniform(0.02, 0.25))
        async with opened(tmp_path) as journal:
            records = {record.key: record for record in await everything(journal)}
            for key, state in acknowledged.items():
                found = records[key].state
                if found is ItemState.UNKNOWN:
                    assert state in (ItemState.SUBMITTING, ItemState.PLANNED)
                else:
                    assert order.index(found) >= order.index(state)
            assert ItemState.SUBMITTING not in {record.state for record in records.values()}
            assert (await journal.counts(), await journal.totals()) == tally_of(records.values())
            assert journal.interrupted <= 20
        total += len(acknowledged)
    assert total > 0


async def test_what_a_crash_left_submitting_is_unknown_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        records = await journal.plan(items("abcd"))
        await advance_to(journal, records[0].key, ItemState.SUBMITTING)
        await advance_to(journal, records[1].key, ItemState.RESUBMITTING)
        await advance_to(journal, records[2].key, ItemState.ACCEPTED)
        assert journal.interrupted == 0
    async with opened(tmp_path) as journal:
        assert journal.interrupted == 2
        states = [record.state for record in await journal.plan(items("abcd"))]
        assert states == [ItemState.UNKNOWN, ItemState.UNKNOWN, ItemState.ACCEPTED, ItemState.PLANNED]
        assert (await journal.get(records[0].key)).error_code == "interrupted"
        assert await journal.counts() == tally_of(await everything(journal))[0]
    async with opened(tmp_path) as journal:
        assert journal.interrupted == 0


def image(directory: Path, copy: Path) -> Path:
    """The directory's journal as a power cut would leave it now."""
    shutil.copytree(directory / FOLDER, copy / FOLDER)
    (copy / FOLDER / "journal.db-shm").unlink(missing_ok=True)
    return copy


async def test_a_log_torn_anywhere_gives_the_state_of_some_moment_before(tmp_path: Path) -> None:
    source = tmp_path / "source"
    async with opened(source) as journal:
        (record,) = await journal.plan(items(["a"]))
        way = [record]
        for event, changes in GOOD_WAY:
            way.append(await journal.record(record.key, event, **changes))
        whole = image(source, tmp_path / "whole")
    log = whole / FOLDER / "journal.db-wal"
    size = log.stat().st_size
    assert size > 0
    cuts = sorted(random.Random(3).sample(range(size), 25), reverse=True)
    best = len(way)
    for cut in [size, *cuts]:
        torn = tmp_path / f"torn {cut}"
        shutil.copytree(whole, torn)
        os.truncate(torn / FOLDER / "journal.db-wal", cut)
        async with opened(torn) as journal:
            found = await everything(journal)
        states = [found_record.state for found_record in found]
        reached = _reached(states, way)
        assert reached <= best
        best = reached
        if cut == size:
            assert reached == len(way)


def _reached(states: list[ItemState], way: list[ItemRecord]) -> int:
    if not states:
        return 0
    (state,) = states
    told = ItemState.SUBMITTING if state is ItemState.UNKNOWN else state
    return 1 + [record.state for record in way].index(told)


# Damage and other trouble


def journal_file(directory: Path, content: bytes) -> Path:
    (directory / FOLDER).mkdir(parents=True)
    file = directory / FOLDER / "journal.db"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("read_only", [False, True])
async def test_garbage_is_told_and_left_alone(tmp_path: Path, read_only: bool) -> None:
    garbage = b"this is no database\n" * 1000
    file = journal_file(tmp_path, garbage)
    with pytest.raises(JournalError, match="damaged") as caught:
        await Journal.open(tmp_path, now=now, read_only=read_only)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert caught.value.path == str(file)
    assert file.read_bytes() == garbage


async def test_an_empty_file_is_a_journal_that_was_never_begun(tmp_path: Path) -> None:
    journal_file(tmp_path, b"")
    with pytest.raises(JournalError, match="never got to work"):
        await Journal.open(tmp_path, now=now, read_only=True)
    async with opened(tmp_path) as journal:
        await journal.plan(items(["a"]))


@pytest.mark.parametrize("where", [0.05, 0.3, 0.6, 0.9])
async def test_a_page_overwritten_is_found_when_the_journal_is_opened(tmp_path: Path, where: float) -> None:
    async with opened(tmp_path) as journal:
        await journal.plan(items(f"prompt {number}" for number in range(600)))
    file = tmp_path / FOLDER / "journal.db"
    content = bytearray(file.read_bytes())
    page = int(len(content) / 4096 * where) * 4096
    content[page : page + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    with pytest.raises(JournalError, match="damaged"):
        await Journal.open(tmp_path, now=now)
    with pytest.raises(JournalError, match="damaged"):
        await Journal.open(tmp_path, now=now)


async def test_a_row_that_makes_no_sense_is_damage_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (record,) = await journal.plan(items(["a"]))
    with contextlib.closing(sqlite3.connect(tmp_path / FOLDER / "journal.db")) as database:
        database.execute("UPDATE progress SET state = 77")
        database.commit()
    async with opened(tmp_path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.get(record.key)


async def test_a_journal_without_its_identity_is_damaged(tmp_path: Path) -> None:
    """Else the idempotency keys of two batches could be the same."""
    async with opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / FOLDER / "journal.db")) as database:
        database.execute("DELETE FROM meta")
        database.commit()
    with pytest.raises(JournalError, match="damaged"):
        await Journal.open(tmp_path, now=now)


async def test_a_file_cut_short_is_found_when_the_journal_is_opened(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.plan(items(f"prompt {number}" for number in range(600)))
    os.truncate(tmp_path / FOLDER / "journal.db", 5 * 4096 + 100)
    with pytest.raises(JournalError, match="damaged"):
        await Journal.open(tmp_path, now=now)


@pytest.mark.parametrize("read_only", [False, True])
async def test_somebody_elses_database_is_not_touched(tmp_path: Path, read_only: bool) -> None:
    file = journal_file(tmp_path, b"")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE theirs (x)")
        database.commit()
    with pytest.raises(JournalError, match="not a journal of wanasync"):
        await Journal.open(tmp_path, now=now, read_only=read_only)
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / FOLDER / "journal.db")) as database:
        database.execute("PRAGMA user_version = 99")
        database.commit()
    for read_only in (False, True):
        with pytest.raises(JournalError, match=r"newer wanasync \(format 99"):
            await Journal.open(tmp_path, now=now, read_only=read_only)


async def test_a_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("a file")
    with pytest.raises(JournalError, match="can't be opened") as caught:
        await Journal.open(tmp_path / "videos", now=now)
    assert isinstance(caught.value.__cause__, OSError)


OPENER = """
import asyncio, os, sys
from wanasync.edges.journal import Journal
from wanasync.errors import JournalError
if os.geteuid() == 0:
    os.setuid(65534)

async def main():
    try:
        journal = await Journal.open(sys.argv[1], now=lambda: 0.0, read_only=len(sys.argv) > 2)
        print([record.state.value async for record in journal.iter_items()])
        await journal.close()
    except JournalError as error:
        print(type(error.__cause__).__name__, error)

asyncio.run(main())
"""


def open_as_nobody(*arguments: str) -> str:
    command = [sys.executable, "-c", OPENER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def test_a_directory_without_permission_is_told_and_can_still_be_read(tmp_path: Path) -> None:
    # pytest's own directories are closed to other users.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "videos"
        async with opened(directory) as journal:
            await journal.plan(items(["a"]))
        for path in (directory / FOLDER / "journal.db", directory / FOLDER / "lock"):
            path.chmod(0o444)
        for path in (directory / FOLDER, directory, Path(name)):
            path.chmod(0o555)
        try:
            refused = await asyncio.to_thread(open_as_nobody, str(directory))
            assert refused.startswith("PermissionError")
            assert str(directory) in refused
            new = await asyncio.to_thread(open_as_nobody, str(directory / "new"))
            assert new.startswith("PermissionError")
            assert await asyncio.to_thread(open_as_nobody, str(directory), "read") == "['planned']"
        finally:
            for path in (Path(name), directory, directory / FOLDER):
                path.chmod(0o755)


FILLER = """
import asyncio, json, resource, sys
from wanasync.edges.journal import Journal
from wanasync.errors import JournalError
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.records import PlannedItem

async def main():
    journal = await Journal.open(sys.argv[1], now=lambda: 0.0)
    records = await journal.plan([PlannedItem(i, VideoRequest(f"prompt {i}")) for i in range(200)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    written, messages = [], []
    async def submit(record):
        try:
            await journal.record(record.key, ItemEvent.SUBMIT)
            written.append(record.key)
        except JournalError as error:
            messages.append([type(error.__cause__).__name__, str(error)])
    for start in range(0, 200, 2):
        await asyncio.gather(*map(submit, records[start:start + 2]))
    print(json.dumps([written, messages]))
    await journal.close()

asyncio.run(main())
"""


async def test_a_full_disk_stops_all_writing_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLER, str(tmp_path)]
    filled = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    written, messages = json.loads(filled.stdout)
    assert written
    assert len(written) + len(messages) == 200
    assert all("could not be written" in message for _, message in messages)
    assert messages[0][0].endswith("Error")
    async with opened(tmp_path) as journal:
        states = {record.key: record.state for record in await everything(journal)}
        assert {key for key, state in states.items() if state is ItemState.UNKNOWN} == set(written)


# The journal against a model


class JournalAgainstAModel(RuleBasedStateMachine):
    """Any events in any order, with closings, crashes and repetitions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(_temporary())
        self.directory = self.root / "0"
        self.crashes = 0
        self.model: dict[str, ItemRecord] = {}
        self.lines: dict[tuple[str, int], str] = {}
        self.repeated: Counter[str] = Counter()

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    @initialize()
    def open(self) -> None:
        self.journal: Journal = self.run(Journal.open(self.directory, now=now))
        self.repeated.clear()

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.run(self.journal.close())
        self.runner.close()
        shutil.rmtree(self.root)

    @rule(prompts=st.lists(st.sampled_from(["cat", "dog", "cow", "Cat"]), min_size=1, max_size=4))
    def plan(self, prompts: list[str]) -> None:
        planned = items(prompts)
        for item, record in zip(planned, self.run(self.journal.plan(planned)), strict=True):
            self.repeated[item.request.prompt] += 1
            line = (item.request.prompt, self.repeated[item.request.prompt])
            key = self.lines.setdefault(line, record.key)
            assert record.key == key
            if key in self.model:
                before = self.model[key]
                assert (record.file, record.state, record.attempt) == (before.file, before.state, before.attempt)
            else:
                assert (record.state, record.attempt) == (ItemState.PLANNED, 1)
            self.model[key] = record
            assert self.journal.is_listed(record)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), event=st.sampled_from(ItemEvent))
    def record(self, data: st.DataObject, event: ItemEvent) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.happen(key, event)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), steps=st.integers(1, 3))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        for _ in range(steps):
            possible = [event for state, event in TRANSITIONS if state is self.model[key].state]
            self.happen(key, data.draw(st.sampled_from(possible)))

    def happen(self, key: str, event: ItemEvent) -> None:
        before = self.model[key]
        try:
            expected = next_state(before.state, event)
        except TransitionError:
            with pytest.raises(TransitionError):
                self.run(self.journal.record(key, event, **NEEDED.get(event, {})))
            return
        after = self.run(self.journal.record(key, event, **NEEDED.get(event, {})))
        assert after.state is expected
        assert after.attempt == before.attempt + (event is ItemEvent.RETRY)
        assert (after.key, after.seq, after.file, after.request) == (key, before.seq, before.file, before.request)
        self.model[key] = after

    @rule()
    def close_and_open(self) -> None:
        self.run(self.journal.close())
        self.come_back()

    @rule()
    def crash(self) -> None:
        self.crashes += 1
        after = image(self.directory, self.root / str(self.crashes))
        self.run(self.journal.close())
        self.directory = after
        self.come_back()

    def come_back(self) -> None:
        self.open()
        cut_off = 0
        for key, record in self.model.items():
            if (record.state, ItemEvent.INTERRUPTED) in TRANSITIONS:
                cut_off += 1
                self.model[key] = self.run(self.journal.get(key))
                assert self.model[key].state is ItemState.UNKNOWN
        assert self.journal.interrupted == cut_off

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "journal"):
            return
        found = {record.key: record for record in self.run(everything(self.journal))}
        assert found == self.model
        counts, totals = tally_of(found.values())
        assert self.run(self.journal.counts()) == counts
        assert self.run(self.journal.totals()) == totals
        assert len({record.file.lower() for record in found.values()}) == len(found)


JournalAgainstAModel.TestCase.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestJournalAgainstAModel = JournalAgainstAModel.TestCase

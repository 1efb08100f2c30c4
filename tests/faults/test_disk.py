"""The disk is full, the directory goes away, other programs delete files."""

from __future__ import annotations

import asyncio
import errno
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.emulated import emulated, session_on
from wanasync import Batch, JournalError, Outcome, OutcomeState, WanSession
from wanasync.edges import part
from wanasync.edges.journal.store import Store
from wanasync.emulator import Emulator, FixedWindow, Trouble
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.records import ItemRecord
from wanasync.testing import START, virtual_time

CATS = [f"cat {number}" for number in range(10)]


def states(told: list[Outcome]) -> Counter[OutcomeState]:
    return Counter(outcome.state for outcome in told)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3600):
        while not condition():  # noqa: ASYNC110 - a batch tells its progress to whoever looks
            await asyncio.sleep(0.1)


async def finished(wan: WanSession, to: Path) -> list[Outcome]:
    async with wan.batch(CATS, to) as batch:
        return [outcome async for outcome in batch]


class FullDisk:
    """Writes fail with "no space left" while it is full."""

    def __init__(self) -> None:
        self.is_full = True

    def check(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


@virtual_time
async def test_no_room_for_videos_stops_submissions_and_loses_nothing(tmp_path: Path) -> None:
    disk, write = FullDisk(), part.Part._write_all

    def writing(self: Any, piece: bytes) -> None:
        disk.check()
        write(self, piece)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part.Part, "_write_all", writing)
        async with emulated(limiter=FixedWindow(4, per=300)) as (emu, wan):
            async with wan.batch(CATS, tmp_path) as batch:
                told = [outcome async for outcome in batch]
                assert batch.progress().stopped == "the disk is full"
            assert states(told) == {OutcomeState.PENDING: 4, OutcomeState.NOT_STARTED: 6}
            assert all("space" in str(outcome.error) for outcome in told if outcome.state is OutcomeState.PENDING)
            disk.is_full = False
            assert states(await finished(wan, tmp_path)) == {OutcomeState.SAVED: 10}
            assert len(emu.ledger.entries) == 10


def filling_up_at(event: ItemEvent, after: int = 0) -> Callable[..., ItemRecord]:
    """The journal's `record`, on a disk that is full once `event` was to be written so many times."""
    record, left = Store.record, after

    def recording(self: Store, key: str, what: ItemEvent, changes: Mapping[str, Any], now: float) -> ItemRecord:
        nonlocal left
        if what is event:
            left -= 1
            if left < 0:
                raise sqlite3.OperationalError("database or disk is full")
        return record(self, key, what, changes, now)

    return recording


async def slowly() -> AsyncIterator[str]:
    for cat in CATS:
        yield cat
        await asyncio.sleep(60)


async def told_until_error(batch: Batch, match: str) -> list[Outcome]:
    told: list[Outcome] = []

    async def read() -> None:
        async for outcome in batch:
            told.append(outcome)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(JournalError, match=match):
        await read()
    return told


@virtual_time
async def test_no_room_for_an_intent_means_no_submission(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "record", filling_up_at(ItemEvent.SUBMIT, after=3))
            async with wan.batch(slowly(), tmp_path) as batch:
                await told_until_error(batch, "disk is full")
        assert len(emu.ledger.entries) == 3
        assert states(await finished(wan, tmp_path)) == {OutcomeState.SAVED: 10}
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_an_acceptance_without_room_is_told_with_its_task(tmp_path: Path) -> None:
    async with Emulator(epoch=START, task_list=False) as emu:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "record", filling_up_at(ItemEvent.ACCEPTED))
            async with session_on(emu) as wan, wan.batch(slowly(), tmp_path) as batch:
                told = await told_until_error(batch, "disk is full")
        (entry,) = emu.ledger.entries
        (unwritten,) = told
        assert (unwritten.state, unwritten.task_id) == (OutcomeState.UNKNOWN, entry.task_id)
        assert entry.task_id in str(unwritten.error)
        async with session_on(emu) as wan:
            assert states(await finished(wan, tmp_path)) == {OutcomeState.SAVED: 9, OutcomeState.UNKNOWN: 1}
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_all_that_are_on_the_wire_are_told(tmp_path: Path) -> None:
    async with emulated(latency=5.0) as (emu, wan), wan.batch(CATS, tmp_path) as batch:
        await until(lambda: batch.progress().following == 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "record", filling_up_at(ItemEvent.ACCEPTED))
            told = await told_until_error(batch, "disk is full")
        tasks = {entry.task_id for entry in emu.ledger.entries}
        assert len(tasks) > 2
        assert len(tasks - {outcome.task_id for outcome in told}) == 1  # the one that was written down


@virtual_time
async def test_a_video_without_room_for_its_note_is_not_fetched_again(tmp_path: Path) -> None:
    async with emulated(durations=10.0) as (emu, wan):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "record", filling_up_at(ItemEvent.SAVED))
            async with wan.batch(slowly(), tmp_path) as batch:
                await told_until_error(batch, "disk is full")
        assert emu.ledger.counts["download"] == 1
        assert states(await finished(wan, tmp_path)) == {OutcomeState.SAVED: 10}
        assert max(emu.ledger.downloads.values()) == 1


@virtual_time
async def test_a_directory_that_is_removed_stops_submissions(tmp_path: Path) -> None:
    """Written into files without a name, a journal would be lost with the process."""
    directory = tmp_path / "videos"
    async with emulated() as (emu, wan), wan.batch(slowly(), directory) as batch:
        await until(lambda: len(emu.ledger.entries) == 3)
        shutil.rmtree(directory)
        await told_until_error(batch, "removed or replaced")
        assert len(emu.ledger.entries) == 3


@virtual_time
async def test_a_log_that_is_removed_stops_submissions(tmp_path: Path) -> None:
    async with emulated() as (emu, wan), wan.batch(slowly(), tmp_path) as batch:
        await until(lambda: len(emu.ledger.entries) == 3)
        (tmp_path / ".wanasync" / "journal.db-wal").unlink()
        await told_until_error(batch, "removed or replaced")
        assert len(emu.ledger.entries) == 3


@virtual_time
async def test_what_is_removed_beside_the_journal_is_fetched_again_and_never_paid_again(tmp_path: Path) -> None:
    """Parts and videos go while the batch runs; whatever is missing at its end, the next run fetches."""
    trouble = Trouble.script(download=["cut=300"] * 20)
    async with Emulator(epoch=START, trouble=trouble, limiter=FixedWindow(2, per=60)) as emu:
        async with session_on(emu) as wan, wan.batch(CATS, tmp_path) as batch:
            async for _ in batch:
                for file in (*tmp_path.glob("*.mp4"), *tmp_path.glob(".*.part*")):
                    file.unlink()
        async with session_on(emu) as wan:
            assert states(await finished(wan, tmp_path)) == {OutcomeState.SAVED: 10}
        assert len(list(tmp_path.glob("*.mp4"))) == 10
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_a_video_that_was_cut_short_by_another_program_is_fetched_again(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        first = await finished(wan, tmp_path)
        assert first[0].path
        first[0].path.write_bytes(b"short")
        told = await finished(wan, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 10}
        assert first[0].video
        assert first[0].path.stat().st_size == first[0].video.bytes
        assert len(emu.ledger.entries) == 10

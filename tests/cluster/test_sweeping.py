"""What was begun and no chunk refers to any more is handed in anew; what never was begun is its owner's to hand in."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import psycopg
import pytest

from tests.cluster.working import BATCH, hand_in, session, settled, until_stands, working
from wanasync import JournalError, OutcomeState, PostgresJournal, RequestList, SharedList
from wanasync.cluster import Chunk, ProcrastinateQueue, set_up
from wanasync.cluster.engine import WORK
from wanasync.cluster.submitting import Covered
from wanasync.cluster.sweeping import sweep
from wanasync.edges.postgres import Journal
from wanasync.emulator import Emulator
from wanasync.rules.lifecycle import ItemEvent

ITEMS = 20


def journal_of(dsn: str, name: str = BATCH) -> PostgresJournal:
    return PostgresJournal(dsn, name)


async def swept(dsn: str, queue: ProcrastinateQueue) -> int:
    return await sweep(queue, lambda name: journal_of(dsn, name), 0.0)


async def take_and_end_all(queue: ProcrastinateQueue) -> list[Chunk]:
    """As one does who takes a chunk over and finds nothing left to do: its items were unknown then."""
    ended = []
    while (held := await queue.take([WORK])) is not None:
        await queue.done(held)
        ended.append(held.chunk)
    return ended


async def die_with_the_answers_written(dsn: str, emu: Emulator, to: Path) -> None:
    """One whose chunks another had taken over and ended: killed after its late answers, before it gave them back."""
    await hand_in(dsn, to, ITEMS)
    async with ProcrastinateQueue(dsn) as another:
        assert len(await take_and_end_all(another)) == 2
    async with session(emu, dsn) as wan, wan.shared_batch(to, journal=journal_of(dsn)) as batch:
        late = asyncio.create_task(batch.work_off(1, ITEMS))
        await until_stands(dsn, following=ITEMS)
        late.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await late


async def test_paid_tasks_that_no_chunk_refers_to_are_brought_home(cluster: str, tmp_path: Path) -> None:
    async with Emulator(durations=1.0, queue_time=0.1) as emu:
        await die_with_the_answers_written(cluster, emu, tmp_path / "videos")
        async with ProcrastinateQueue(cluster) as queue:
            assert await queue.take([WORK]) is None
        async with working(cluster, emu, sweep_every=0.3):
            status = await settled(cluster, ITEMS)
        assert (status.saved, len(emu.ledger.entries), emu.ledger.paid_twice()) == (ITEMS, ITEMS, {})


async def test_what_is_handed_in_or_held_is_left_alone(cluster: str, tmp_path: Path) -> None:
    async with Emulator(durations=60.0) as emu, ProcrastinateQueue(cluster) as queue:
        await die_with_the_answers_written(cluster, emu, tmp_path / "videos")
        assert await swept(cluster, queue) == 1
        assert await queue.chunks(BATCH) == [Chunk(BATCH, str(tmp_path / "videos"), 1, ITEMS)]
        assert await swept(cluster, queue) == 0
        held = await queue.take([WORK])
        assert held is not None
        assert await swept(cluster, queue) == 0
        await queue.give_back(held, lane="wanasync-parked")
        assert await swept(cluster, queue) == 0


async def test_what_was_turned_away_is_handed_in_and_what_never_went_out_is_not(cluster: str, tmp_path: Path) -> None:
    await hand_in(cluster, tmp_path / "videos", 5)
    async with (
        ProcrastinateQueue(cluster) as queue,
        await Journal.open(cluster, BATCH, now=lambda: 1.0, shared=True) as journal,
    ):
        await take_and_end_all(queue)
        assert await swept(cluster, queue) == 0
        (record,) = await journal.rows(3, 3)
        await journal.claim(record, submitted_at=1.0)
        await journal.record(record.key, ItemEvent.NOT_TAKEN)
        assert await swept(cluster, queue) == 1
        assert [(chunk.first, chunk.last) for chunk in await queue.chunks(BATCH)] == [(3, 3)]


@pytest.mark.parametrize("end", [ItemEvent.REPLY_LOST, ItemEvent.REFUSED])
async def test_what_has_come_to_an_end_stays_there(cluster: str, tmp_path: Path, end: ItemEvent) -> None:
    await hand_in(cluster, tmp_path / "videos", 1)
    async with (
        ProcrastinateQueue(cluster) as queue,
        await Journal.open(cluster, BATCH, now=lambda: 1.0, shared=True) as journal,
    ):
        await take_and_end_all(queue)
        (record,) = await journal.rows(1, 1)
        await journal.claim(record, submitted_at=1.0)
        await journal.record(record.key, end, error_code="x", error_message="y")
        assert await swept(cluster, queue) == 0


async def test_a_batch_that_was_not_handed_in_is_its_processs_own(cluster: str, tmp_path: Path) -> None:
    async with Emulator(durations=60.0) as emu, session(emu) as wan, ProcrastinateQueue(cluster) as queue:
        await hand_in(cluster, tmp_path / "videos", 1)
        async with SharedList(tmp_path, journal=journal_of(cluster, "own")) as items:
            with contextlib.closing(RequestList(str(tmp_path / "list.txt"))) as requests:
                requests.check()
                assert [loaded.items async for loaded in items.load(requests)] == [1]
        async with wan.shared_batch(tmp_path, journal=journal_of(cluster, "own"), until="accepted") as batch:
            assert await batch.work_off(1, 1) == {OutcomeState.PENDING: 1}
        assert await swept(cluster, queue) == 0


async def test_one_sweeps_at_a_time_and_another_only_after_a_while(cluster: str) -> None:
    async with ProcrastinateQueue(cluster) as one, ProcrastinateQueue(cluster) as two:
        async with one.sweeping(0.0) as first, two.sweeping(0.0) as second:
            assert (first, second) == (True, False)
        async with two.sweeping(60.0) as soon:
            assert not soon
        async with two.sweeping(0.0) as later:
            assert later


async def test_a_sweep_that_fails_is_the_next_ones(cluster: str) -> None:
    async with ProcrastinateQueue(cluster) as one, ProcrastinateQueue(cluster) as two:
        with pytest.raises(ZeroDivisionError):
            async with one.sweeping(0.0):
                raise ZeroDivisionError
        async with two.sweeping(60.0) as at_once:
            assert at_once


def test_rows_are_covered_by_any_of_the_chunks_that_overlap() -> None:
    covered = Covered([Chunk(BATCH, "videos", *rows) for rows in ((3, 3), (1, 6), (5, 5), (9, 9))])
    assert [row for row in range(12) if row in covered] == [1, 2, 3, 4, 5, 6, 9]


async def test_what_an_earlier_version_had_in_hand_is_known_once_the_tables_are_brought_up(
    cluster: str, tmp_path: Path
) -> None:
    await hand_in(cluster, tmp_path / "videos", 5)
    async with await psycopg.AsyncConnection.connect(cluster, autocommit=True) as connection:
        await connection.execute("DROP TABLE wanasync_queue.batch, wanasync_queue.sweep")
        await connection.execute("DELETE FROM wanasync_queue.migration WHERE name = 'wanasync_sweep'")
    with pytest.raises(JournalError, match="wanasync cluster init"):
        await hand_in(cluster, tmp_path / "videos", 7)
    await set_up(cluster)
    async with ProcrastinateQueue(cluster) as queue:
        assert await queue.places() == {BATCH: str(tmp_path / "videos")}
        assert await swept(cluster, queue) == 0

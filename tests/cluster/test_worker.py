"""A list is handed in, and workers bring it home: together, one after the other, and with the work divided."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from tests.cluster.working import hand_in, settled, stands, until_stands, working
from wanasync import AuthenticationError, PostgresJournal
from wanasync.cluster import ProcrastinateQueue, Worker
from wanasync.emulator import Emulator


async def jobs_left(dsn: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute("SELECT count(*) FROM wanasync_queue.procrastinate_jobs")
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def no_jobs_left(dsn: str) -> None:
    async with asyncio.timeout(30):
        while await jobs_left(dsn):  # noqa: ASYNC110 - the table is looked at
            await asyncio.sleep(0.05)


async def test_two_workers_save_each_item_once(cluster: str, tmp_path: Path) -> None:
    await hand_in(cluster, tmp_path / "videos", 100)
    async with Emulator(durations=0.3, queue_time=0.1) as emu, working(cluster, emu), working(cluster, emu):
        status = await settled(cluster, 100)
        await no_jobs_left(cluster)
        assert (status.saved, len(emu.ledger.entries), emu.ledger.paid_twice()) == (100, 100, {})
        assert all(count == 1 for count in emu.ledger.downloads.values())
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 100


async def test_the_same_list_again_hands_in_what_is_new(cluster: str, tmp_path: Path) -> None:
    first = await hand_in(cluster, tmp_path / "videos", 25)
    again = await hand_in(cluster, tmp_path / "videos", 25)
    longer = await hand_in(cluster, tmp_path / "videos", 32)
    assert (first.items, first.added, first.chunks) == (25, 25, 3)
    assert (again.items, again.added, again.chunks) == (25, 0, 0)
    assert (longer.items, longer.added, longer.chunks) == (32, 7, 1)
    async with Emulator(durations=0.2, queue_time=0.1) as emu, working(cluster, emu):
        assert (await settled(cluster, 32)).saved == 32
        await no_jobs_left(cluster)
    assert (await hand_in(cluster, tmp_path / "videos", 32)).chunks == 0


async def test_a_drained_worker_gives_back_what_it_holds_and_the_next_one_goes_on(cluster: str, tmp_path: Path) -> None:
    await hand_in(cluster, tmp_path / "videos", 30)
    async with Emulator(durations=3.0, queue_time=0.1) as emu:
        async with working(cluster, emu):
            await until_stands(cluster, following=15)
        left = await stands(cluster)
        assert left.submitting == 0
        assert await jobs_left(cluster) == 3
        async with working(cluster, emu):
            status = await settled(cluster, 30)
        assert (status.saved, len(emu.ledger.entries), emu.ledger.paid_twice()) == (30, 30, {})


async def test_one_that_submits_hands_its_videos_to_one_that_saves(cluster: str, tmp_path: Path) -> None:
    await hand_in(cluster, tmp_path / "videos", 20)
    async with Emulator(durations=0.2, queue_time=0.1) as emu:
        async with working(cluster, emu, until="made"):
            await until_stands(cluster, saving=20)
            assert not list((tmp_path / "videos").glob("*.mp4"))
            async with working(cluster, emu, lanes=("wanasync-save",)):
                status = await settled(cluster, 20)
                await no_jobs_left(cluster)
        assert (status.saved, len(emu.ledger.entries)) == (20, 20)


async def test_an_item_of_its_own_trouble_spoils_no_chunk(cluster: str, tmp_path: Path) -> None:
    await hand_in(cluster, tmp_path / "videos", 20)
    from wanasync.emulator import Trouble

    async with (
        Emulator(durations=0.2, queue_time=0.1, trouble=Trouble(failed_tasks=0.3)) as emu,
        working(cluster, emu),
    ):
        status = await settled(cluster, 20)
        await no_jobs_left(cluster)
        assert status.failed
        assert status.saved + status.failed == 20


async def test_a_refused_key_ends_the_worker_and_costs_no_item(cluster: str, tmp_path: Path) -> None:
    await hand_in(cluster, tmp_path / "videos", 20)
    async with Emulator(durations=0.2, queue_time=0.1) as emu:
        from wanasync import WanSession

        async with WanSession("wrong", emu.base_url) as wan, ProcrastinateQueue(cluster) as queue:
            worker = Worker(wan, queue, lambda name: PostgresJournal(cluster, name))
            with pytest.raises(AuthenticationError):
                await worker.run()
        assert (await stands(cluster)).planned == 20
        async with working(cluster, emu):
            assert (await settled(cluster, 20)).saved == 20


@pytest.mark.parametrize("after", [0.0, 0.03, 0.1])
async def test_one_that_is_drained_while_it_begins_keeps_nothing(cluster: str, tmp_path: Path, after: float) -> None:
    await hand_in(cluster, tmp_path / "videos", 30)
    async with Emulator(durations=600.0) as emu, asyncio.timeout(30):
        async with working(cluster, emu):
            await asyncio.sleep(after)
        assert await jobs_left(cluster) == 3
        async with ProcrastinateQueue(cluster) as queue:
            assert [await queue.take(["wanasync"]) is not None for _ in range(4)] == [True, True, True, False]


async def test_a_directory_that_cannot_be_made_costs_neither_the_chunk_nor_the_worker(
    cluster: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    await hand_in(cluster, tmp_path / "file" / "videos", 10)
    async with Emulator(durations=0.2, queue_time=0.1) as emu, working(cluster, emu), asyncio.timeout(30):
        waiting = "SELECT count(*) FROM wanasync_queue.procrastinate_jobs WHERE status = 'todo' AND attempts = 1"
        async with await psycopg.AsyncConnection.connect(cluster, autocommit=True) as connection:
            while (await (await connection.execute(waiting)).fetchone()) != (1,):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

"""A budget and a limit hold for all workers of a batch together, and raising them lets it go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from tests.cluster.working import BATCH, hand_in, stands, until_stands, worker_process, working, write_list
from wanasync import BatchStatus, PostgresJournal, RequestList
from wanasync.cluster import ProcrastinateQueue, submit
from wanasync.cluster.engine import parked
from wanasync.emulator import Emulator

ITEMS = 30
PRICE = 5.0
"""Of what the lists ask for, at the emulator."""


async def allow(dsn: str, to: Path, *, budget: float | None = None, limit: int | None = None) -> int:
    """Hand the list in again with other terms; how many chunks go on."""
    with RequestList(str(write_list(to.parent / "list.txt", ITEMS))) as requests:
        async with ProcrastinateQueue(dsn) as queue:
            journal = PostgresJournal(dsn, BATCH)
            made = await submit(requests, str(to), BATCH, queue, journal, size=10, budget=budget, limit=limit)
    assert (made.added, made.chunks) == (0, 0)
    return made.released


async def stopped(dsn: str, saved: int) -> BatchStatus:
    """Wait until the batch has stopped, nothing of it is under way, and its chunks are laid by."""
    waiting = "SELECT count(*) FROM wanasync_queue.procrastinate_jobs WHERE queue_name <> %s"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection, asyncio.timeout(40):
        while (await (await connection.execute(waiting, (parked(BATCH),))).fetchone()) != (0,):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    status = await until_stands(dsn, saved=saved)
    assert status.stopped is not None
    return status


async def test_two_workers_keep_to_one_budget_and_go_on_when_it_is_raised(cluster: str, tmp_path: Path) -> None:
    to = tmp_path / "videos"
    await hand_in(cluster, to, ITEMS)
    await allow(cluster, to, budget=12 * PRICE + 1)
    async with Emulator(durations=0.3, queue_time=0.1) as emu, working(cluster, emu), working(cluster, emu):
        status = await stopped(cluster, 12)
        assert (status.stopped, status.budget, status.saved, status.planned) == ("budget", 61, 12, ITEMS - 12)
        assert len(emu.ledger.entries) == 12
        assert await allow(cluster, to, budget=20 * PRICE) > 0
        status = await stopped(cluster, 20)
        assert (status.saved, status.credits_used) == (20, 100)
        await allow(cluster, to, budget=float("inf"))
        status = await until_stands(cluster, saved=ITEMS)
        assert (status.budget, status.stopped) == (None, None)
        assert (len(emu.ledger.entries), emu.ledger.paid_twice()) == (ITEMS, {})


async def test_a_limit_is_for_one_handing_in(cluster: str, tmp_path: Path) -> None:
    to = tmp_path / "videos"
    await hand_in(cluster, to, ITEMS)
    await allow(cluster, to, limit=4)
    async with Emulator(durations=0.2, queue_time=0.1) as emu, working(cluster, emu), working(cluster, emu):
        status = await stopped(cluster, 4)
        assert (status.stopped, status.limit, len(emu.ledger.entries)) == ("limit", 4, 4)
        await allow(cluster, to, limit=5)
        await stopped(cluster, 9)
        assert len(emu.ledger.entries) == 9
        await allow(cluster, to)
        await until_stands(cluster, saved=ITEMS)
        assert emu.ledger.paid_twice() == {}


async def test_a_worker_that_dies_on_the_wire_neither_passes_the_budget_nor_blocks_it(
    cluster: str, tmp_path: Path
) -> None:
    to = tmp_path / "videos"
    await hand_in(cluster, to, ITEMS)
    await allow(cluster, to, budget=15 * PRICE)
    async with Emulator(durations=0.5, queue_time=0.1, latency=0.2) as emu:
        with worker_process(cluster, emu, read_timeout=1.0) as process:
            await until_stands(cluster, following=3)
            process.kill()
        async with working(cluster, emu, config={"connect_timeout": 1.0, "read_timeout": 1.0}):
            await stopped(cluster, 1)
            async with asyncio.timeout(30):
                while (status := await stands(cluster)).saved + status.unknown < 15:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert status.stopped == "budget"
        assert len(emu.ledger.entries) <= 15
        assert emu.ledger.paid_twice() == {}

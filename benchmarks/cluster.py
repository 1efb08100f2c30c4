"""Many machines on one database: how fast lists are handed in, and worked off: `python -m benchmarks.cluster`.

It starts a PostgreSQL of its own, with all that makes commits durable. `--items` prompts are handed in as
`wanasync cluster submit` does it: validated, planned by COPY, and deferred as chunks of 100 references. Then worker
processes take the chunks and bring each item through its claim and its answer, durably, but send nothing: what is
measured is the engine and the journal. The rate of the last fifth beside that of the first tells whether it slows down.
By default it is a tenth of the million items that the targets speak of, worked off by one, two and four workers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from benchmarks.results import Figure, Report, at_least, at_most, figure
from tests.helpers.postgres import running
from wanasync import PostgresJournal, RequestList
from wanasync.cluster import ProcrastinateQueue, set_up, submit
from wanasync.cluster.engine import WORK, Held
from wanasync.edges.postgres import Journal
from wanasync.rules.lifecycle import ItemEvent

USUAL = 100_000
BATCH = "films"
HELD_AT_ONCE = 4
"""Chunks that a worker of the benchmark holds at once."""
WORDS = "A lighthouse keeper repairs the lamp while a storm rolls in, warm light against grey water, take"


# Handing in


async def hand_in(dsn: str, items: int) -> tuple[float, float]:
    """Seconds for the whole list, and of those for checking it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_text("".join(f"{WORDS} {number}\n" for number in range(items)))
        started = time.perf_counter()
        with RequestList(str(path)) as requests:
            requests.check()
            checked = time.perf_counter() - started
            async with ProcrastinateQueue(dsn) as queue:
                made = await submit(requests, folder, BATCH, queue, PostgresJournal(dsn, BATCH))
        assert (made.items, made.added, made.chunks) == (items, items, -(-items // 100))
        return time.perf_counter() - started, checked


# Working off


async def work(dsn: str) -> None:
    """One worker, until nothing is left: each item is claimed and turned away, which are two durable steps."""
    async with (
        ProcrastinateQueue(dsn) as queue,
        await Journal.open(dsn, BATCH, now=time.time, shared=True) as journal,
    ):
        await queue.beat()
        await asyncio.gather(*(take_all(queue, journal) for _ in range(HELD_AT_ONCE)))


async def take_all(queue: ProcrastinateQueue, journal: Journal) -> None:
    while (held := await queue.take([WORK])) is not None:
        await work_off(queue, journal, held)
        print(f"{time.time():.3f} {held.chunk.last - held.chunk.first + 1}", flush=True)


async def work_off(queue: ProcrastinateQueue, journal: Journal, held: Held) -> None:
    records = await journal.rows(held.chunk.first, held.chunk.last)
    await asyncio.gather(*(journal.claim(record, submitted_at=time.time()) for record in records))
    refused = {"error_code": "no-op", "error_message": "nothing was sent"}
    await asyncio.gather(*(journal.record(record.key, ItemEvent.REFUSED, **refused) for record in records))
    await queue.done(held)


def work_together(dsn: str, workers: int) -> list[tuple[float, int]]:
    """When how many items were done, in the order of time."""
    command = [sys.executable, "-m", "benchmarks.cluster", "--work"]
    environ = os.environ | {"WAN_DATABASE_URL": dsn}
    with tempfile.TemporaryDirectory() as folder:
        told = [Path(folder, str(number)) for number in range(workers)]
        processes = [start(command, environ, path) for path in told]
        assert [process.wait() for process in processes] == [0] * workers
        lines = (line.split() for path in told for line in path.read_text().splitlines())
        return sorted((float(at), int(items)) for at, items in lines)


def start(command: list[str], environ: dict[str, str], told: Path) -> subprocess.Popen[bytes]:
    # Into a file: a pipe that nobody reads yet is full after a few thousand lines, and stops its worker.
    with told.open("wb") as file:
        return subprocess.Popen(command, stdout=file, env=environ)


def rate(done: Sequence[tuple[float, int]]) -> float:
    """Items a second, from the first that was done to the last."""
    return sum(items for _, items in done[1:]) / (done[-1][0] - done[0][0])


# The whole


def measure(*, quick: bool = False, items: int = USUAL, workers: Sequence[int] = (1, 2, 4)) -> Report:
    items = 2_000 if quick else items
    figures: list[Figure] = []
    with running() as server:
        for count in workers:
            dsn = server.new_database()
            asyncio.run(set_up(dsn))
            seconds, checked = asyncio.run(hand_in(dsn, items))
            server.execute("CHECKPOINT")
            done = work_together(dsn, count)
            assert sum(each for _, each in done) == items
            assert left(dsn) == 0
            figures += [
                figure(f"{items:,} items handed in", "wanasync", "s", [seconds], at_most(60 * items / 1e6)),
                figure(f"{items:,} items handed in", "wanasync", "of it checked, s", [checked]),
                *worked(f"{items:,} items, {count} workers", done, at_least(1500) if count == 2 else None),
            ]
    load = f"load average at the end: {os.getloadavg()[0]:.1f}"
    return Report("cluster", "Many machines: the engine and the journal", unique(figures), (load,), quick)


def worked(case: str, done: Sequence[tuple[float, int]], target: object) -> list[Figure]:
    fifth = len(done) // 5
    first, last = rate(done[:fifth]), rate(done[-fifth:])
    return [
        figure(case, "wanasync", "no-op items/s", [rate(done)], target),  # type: ignore[arg-type]
        figure(case, "wanasync", "last fifth / first", [last / first], at_least(0.95)),
    ]


def unique(figures: Sequence[Figure]) -> list[Figure]:
    """Lists are handed in once for each number of workers: those are samples of one figure."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for each in figures:
        groups.setdefault((each.case, each.quantity), []).append(each)
    return [
        figure(case, "wanasync", quantity, [each.value for each in group], group[0].target)
        for (case, quantity), group in groups.items()
    ]


def left(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM wanasync_queue.procrastinate_jobs").fetchone()
    return int(row[0]) if row else -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=USUAL)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        asyncio.run(work(os.environ["WAN_DATABASE_URL"]))
        return
    report = measure(quick=given.quick, items=given.items, workers=given.workers)
    print(report)
    if not given.quick:
        print(f"written: {os.path.relpath(report.save())}")


if __name__ == "__main__":
    main()

"""The journal: durable records a second, and what a long list costs: `python -m benchmarks.journal`.

Records: N writers, each waiting for its record to be on disk before it makes the next. Beside them, in turn, the same
disk's own figures: one sync of 16 KB, and one bare SQLite transaction of 100 rows. A journal can't be faster than
its disk, so the figures mean something only together.

Long lists: `--items` prompts of about 100 characters are planned, brought to their end except for the last 100,
and then found again by a new run: by its first look at what is left, and by reading the whole list again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wanasync.edges.journal import CHUNK, FOLDER, Journal
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.records import ItemRecord, PlannedItem

LEFT = 100
WORDS = "a slow camera moves over an old harbour at dawn while fishing boats leave and gulls circle above, shot"


def way(number: int) -> tuple[tuple[ItemEvent, dict[str, Any]], ...]:
    """What happens to an item, with fields as long as a provider's."""
    task = {
        "task_id": f"task-unified-{1_757_000_000 + number}-7cvnl5zw",
        "credits_reserved": 4.5,
        "estimated_time": 120,
    }
    link = {"links": (f"https://cdn.example/videos/{number:032x}.mp4",), "link_deadline": 1.8e9, "credits_used": 4.5}
    file = {"bytes": 8_000_000 + number, "sha256": f"{number:064x}"}
    return (
        (ItemEvent.SUBMIT, {}),
        (ItemEvent.ACCEPTED, task),
        (ItemEvent.LINKED, link),
        (ItemEvent.SAVED, file),
    )


def prompts(count: int) -> Iterator[PlannedItem]:
    for index in range(count):
        yield PlannedItem(index, VideoRequest(f"{WORDS} {index}"))


async def plan(journal: Journal, count: int) -> ItemRecord:
    chunk: list[PlannedItem] = []
    for item in prompts(count):
        chunk.append(item)
        if len(chunk) == CHUNK:
            *_, last = await journal.plan(chunk)
            chunk.clear()
    if chunk:
        *_, last = await journal.plan(chunk)
    return last


async def finish(journal: Journal, records: Sequence[ItemRecord], delays: list[float] | None = None) -> None:
    for record in records:
        for event, changes in way(record.seq):
            started = time.perf_counter()
            await journal.record(record.key, event, **changes)
            if delays is not None:
                delays.append(time.perf_counter() - started)


# Records a second


async def records_round(directory: Path, writers: int, count: int) -> tuple[float, float, float]:
    """Durable records a second, the median wait of a writer and the CPU of a record, both in seconds."""
    async with await Journal.open(directory, now=time.time) as journal:
        records = await journal.plan(list(prompts(count // 4)))
        delays: list[float] = []
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(finish(journal, records[first::writers], delays) for first in range(writers)))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return len(delays) / seconds, statistics.median(delays), cpu / len(delays)


def bare_sync(directory: Path) -> float:
    descriptor = os.open(directory / "sync", os.O_RDWR | os.O_CREAT)
    try:
        return statistics.median(_one_sync(descriptor, number) for number in range(100))
    finally:
        os.close(descriptor)


def _one_sync(descriptor: int, number: int) -> float:
    os.pwrite(descriptor, b"x" * 16384, number * 16384)
    started = time.perf_counter()
    os.fsync(descriptor)
    return time.perf_counter() - started


def bare_transaction(directory: Path) -> float:
    with contextlib.closing(sqlite3.connect(directory / "bare.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE row (seq INTEGER PRIMARY KEY, text TEXT)")
        return statistics.median(_one_transaction(db) for _ in range(50))


def _one_transaction(db: sqlite3.Connection) -> float:
    started = time.perf_counter()
    db.execute("BEGIN IMMEDIATE")
    for _ in range(100):
        db.execute("INSERT INTO row (text) VALUES (?)", ("x" * 100,))
    db.execute("COMMIT")
    return time.perf_counter() - started


def measure_records(root: Path, arguments: argparse.Namespace) -> None:
    print(f"{'writers':>8} {'records/s':>10} {'p50 ms':>8} {'CPU µs':>8}   {'sync ms':>8} {'100 rows ms':>12}")
    for writers in arguments.writers:
        rounds = []
        for number in range(arguments.rounds):
            directory = root / f"records {writers} {number}"
            directory.mkdir()
            count = min(arguments.records, writers * 400)
            bare = bare_sync(directory), bare_transaction(directory)
            rounds.append((*asyncio.run(records_round(directory, writers, count)), *bare))
            shutil.rmtree(directory)
        rate, wait, cpu, sync, rows = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{writers:8} {rate:10,.0f} {wait * 1e3:8.2f} {cpu * 1e6:8.1f}   {sync * 1e3:8.2f} {rows * 1e3:12.2f}")


# Long lists


def resident() -> float:
    """Memory of this process in MB: now under Linux, the most so far elsewhere."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def size(directory: Path) -> float:
    return sum(path.stat().st_size for path in (directory / FOLDER).glob("*")) / 1e6


class Step:
    """Prints what a step took: seconds, CPU seconds, memory, size of the journal."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory

    def __enter__(self) -> None:
        self.started, self.cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        seconds, cpu = time.perf_counter() - self.started, time.process_time() - self.cpu
        print(f"{self.name:34} {seconds:8.2f} {cpu:8.2f} {resident():8.0f} {size(self.directory):8.1f}")


async def measure_list(directory: Path, count: int) -> None:
    print(f"\n{count:,} items {'':20} {'s':>8} {'CPU s':>8} {'MB RSS':>8} {'MB disk':>8}")
    with Step("make the requests only", directory):
        for _ in prompts(count):
            pass
    async with await Journal.open(directory, now=time.time) as journal:
        with Step("make and plan", directory):
            await plan(journal, count)
    with Step("open", directory):
        journal = await Journal.open(directory, now=time.time)
    with Step(f"bring all but {LEFT} to their end", directory):
        await bring_to_end(journal, count - LEFT)
    with Step("close", directory):
        await journal.close()
    with Step("open and find what is left", directory):
        journal = await Journal.open(directory, now=time.time)
        states = set(ItemState) - {ItemState.SAVED}
        left = [record async for record in journal.iter_items(states)]
        assert len(left) == LEFT, len(left)
    with Step("read and plan the list again", directory):
        assert (await plan(journal, count)).state is ItemState.PLANNED
    with Step("read all records", directory):
        assert sum([1 async for _ in journal.iter_items()]) == count
    await journal.close()


async def bring_to_end(journal: Journal, count: int) -> None:
    waiting: list[ItemRecord] = []
    async for record in journal.iter_items():
        waiting.append(record)
        if record.seq == count or len(waiting) == 4 * CHUNK:
            await asyncio.gather(*(finish(journal, [one]) for one in waiting))
            waiting.clear()
        if record.seq == count:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--records", type=int, default=40_000, help="records of a round, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=100_000, help="items of the long list; 0 leaves it out")
    parser.add_argument("--directory", help="on the disk to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        measure_records(Path(name), arguments)
        if arguments.items:
            asyncio.run(measure_list(Path(name) / "list", arguments.items))


if __name__ == "__main__":
    main()

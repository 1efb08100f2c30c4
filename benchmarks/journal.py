"""The journal: durable records a second, and what a long list costs: `python -m benchmarks.journal`.

Records: N writers, each waiting for its record to be on disk before it makes the next. Beside them, in turn, the same
disk's own figures: one sync of 16 KB, and one bare SQLite transaction of 100 rows. A journal can't be faster than
its disk, so the figures mean something only together.

Share: the CPU of one submission and one poll, 100 at once, with and without all that a batch writes down of an item
(planned, sent, accepted, ready, saved), in turns. What the journal adds is told against that, and against the item's
whole cycle: its submission and the four polls, at least, by which the poller follows a task to its end. The target is
on the latter. What is written spans an item's whole life, and an item with one poll is one that was done when it was
first looked at; a poll in itself writes nothing.

Long lists: `--items` prompts of about 100 characters are planned, brought to their end except for the last 100,
and then found again by a new run: by its first look at what is left, and by reading the whole list again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
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

from attrs import define, field

from benchmarks import server
from benchmarks.clients import WHOLE_CYCLE
from benchmarks.overhead import take_turns
from benchmarks.results import Figure, Report, at_least, at_most, figure
from wanasync.edges.journal import CHUNK, FOLDER, Journal
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.records import ItemRecord, PlannedItem

LEFT = 100
AT_ONCE = 100
SHARED = ("wanasync", "wanasync, whole cycle", "wanasync, journaled")
PLANNED_AHEAD = 2000
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
    delays: list[float] = []
    seconds = cpu = 0.0
    async with await Journal.open(directory, now=time.time) as journal:
        entries = prompts(count // 4)
        # Planned not long before, as a batch does.
        while ahead := list(itertools.islice(entries, PLANNED_AHEAD)):
            records = await journal.plan(ahead)
            started, started_cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(finish(journal, records[first::writers], delays) for first in range(writers)))
            seconds += time.perf_counter() - started
            cpu += time.process_time() - started_cpu
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


def measure_records(root: Path, writers: Sequence[int], most: int, rounds: int) -> Iterator[Figure]:
    for count in writers:
        samples = []
        for number in range(rounds):
            directory = root / f"records {count} {number}"
            directory.mkdir()
            bare = bare_sync(directory), bare_transaction(directory)
            samples.append((*asyncio.run(records_round(directory, count, min(most, count * 400))), *bare))
            shutil.rmtree(directory)
        rate, wait, cpu, sync, rows = ([*column] for column in zip(*samples, strict=True))
        case, busy = f"{count} writers", count == 100
        yield figure(case, "journal", "records a second", rate, at_least(20_000) if busy else None)
        yield figure(case, "journal", "ms a record", [each * 1e3 for each in wait], at_most(3) if busy else None)
        yield figure(case, "journal", "CPU µs a record", [each * 1e6 for each in cpu])
        yield figure(case, "the disk: one sync of 16 KB", "ms a record", [each * 1e3 for each in sync])
        yield figure(case, "SQLite: one transaction of 100 rows", "ms a record", [each * 1e3 for each in rows])


# Its share of an item's cost


def measure_share(cycles: int, rounds: int, restarts: int) -> Iterator[Figure]:
    costs: dict[str, list[float]] = {name: [] for name in SHARED}
    with server.running() as port:
        for _ in range(restarts):
            blocks = take_turns(SHARED, port, AT_ONCE, cycles, max(rounds // restarts, 1))
            for name in SHARED:
                costs[name] += [cost.cpu / cost.cycles for cost in blocks[name]]
    case = f"{AT_ONCE} items at once"
    for name, values in costs.items():
        yield figure(case, name, "CPU µs an item", [value * 1e6 for value in values])
    plain, whole, journaled = costs.values()
    added = [ours - without for without, ours in zip(plain, journaled, strict=True)]
    for quantity, cycle, target in (
        ("CPU ÷ submission + 1 poll", plain, None),
        (f"CPU ÷ submission + {WHOLE_CYCLE} polls", whole, at_most(0.10)),
    ):
        yield figure(case, "journal", quantity, [more / one for more, one in zip(added, cycle, strict=True)], target)


# Long lists


def resident() -> float:
    """Memory of this process in MB: now under Linux, the most so far elsewhere."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def size(directory: Path) -> float:
    return sum(path.stat().st_size for path in (directory / FOLDER).glob("*")) / 1e6


@define
class Steps:
    """What each step took: seconds, CPU seconds, memory, size of the journal."""

    case: str
    directory: Path
    figures: list[Figure] = field(factory=list)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        started, cpu = time.perf_counter(), time.process_time()
        yield
        took = {
            "s": time.perf_counter() - started,
            "CPU s": time.process_time() - cpu,
            "MB of memory": resident(),
            "MB on disk": size(self.directory),
        }
        self.figures += [figure(self.case, name, quantity, [value]) for quantity, value in took.items()]


async def measure_list(directory: Path, count: int) -> list[Figure]:
    steps = Steps(f"{count:,} items", directory)
    with steps.step("make the requests only"):
        for _ in prompts(count):
            pass
    async with await Journal.open(directory, now=time.time) as journal:
        with steps.step("make and plan"):
            await plan(journal, count)
    with steps.step("open"):
        journal = await Journal.open(directory, now=time.time)
    with steps.step(f"bring all but {LEFT} to their end"):
        await bring_to_end(journal, count - LEFT)
    with steps.step("close"):
        await journal.close()
    with steps.step("open and find what is left"):
        journal = await Journal.open(directory, now=time.time)
        states = set(ItemState) - {ItemState.SAVED}
        left = [record async for record in journal.iter_items(states)]
        assert len(left) == LEFT, len(left)
    with steps.step("read and plan the list again"):
        assert (await plan(journal, count)).state is ItemState.PLANNED
    with steps.step("read all records"):
        assert sum([1 async for _ in journal.iter_items()]) == count
    await journal.close()
    return steps.figures


async def bring_to_end(journal: Journal, count: int) -> None:
    waiting: list[ItemRecord] = []
    async for record in journal.iter_items():
        waiting.append(record)
        if record.seq == count or len(waiting) == 4 * CHUNK:
            await asyncio.gather(*(finish(journal, [one]) for one in waiting))
            waiting.clear()
        if record.seq == count:
            return


def measure(
    *,
    writers: Sequence[int] = (1, 10, 100),
    records: int = 40_000,
    rounds: int = 5,
    items: int = 100_000,
    cycles: int = 400,
    directory: str | None = None,
    quick: bool = False,
) -> Report:
    turns, restarts = 8 * rounds, 3
    if quick:
        writers, records, rounds, items = (10,), 400, 1, 1000
        cycles, turns, restarts = 20, 1, 1
    with tempfile.TemporaryDirectory(dir=directory) as name:
        figures = list(measure_records(Path(name), writers, records, rounds))
        if cycles:
            figures += measure_share(cycles, turns, restarts)
        if items:
            figures += asyncio.run(measure_list(Path(name) / "list", items))
    return Report("journal", "The journal: durable records, and long lists", figures, quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--records", type=int, default=40_000, help="records of a round, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=100_000, help="items of the long list; 0 leaves it out")
    parser.add_argument("--cycles", type=int, default=400, help="of a turn, for the journal's share; 0 leaves it out")
    parser.add_argument("--directory", help="on the disk to be measured")
    print(measure(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()

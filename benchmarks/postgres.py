"""The journal in PostgreSQL: records a second, what a claim costs, and a million rows: `python -m benchmarks.postgres`.

It starts a server of its own (Debian's package `postgresql`) with all that makes commits durable. Writers each wait for
their record to be durable before they make the next; of each item's four, one is a claim. Then `--rows` items are
planned as `wanasync` plans a list (5,000 in a transaction, by COPY), counted, and gone through.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence

from attrs import define, field

from benchmarks.journal import WORDS, way
from tests.helpers.postgres import running
from wanasync.edges.postgres import Journal
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.records import ItemRecord, PlannedItem

AT_ONCE = 5000


@define
class Waits:
    """Seconds that a claim, and any other record, took."""

    claims: list[float] = field(factory=list)
    records: list[float] = field(factory=list)


async def finish(journal: Journal, records: Sequence[ItemRecord], waits: Waits) -> None:
    for record in records:
        for event, changes in way(record.seq):
            started = time.perf_counter()
            if event is ItemEvent.SUBMIT:
                await journal.claim(record, submitted_at=time.time())
                waits.claims.append(time.perf_counter() - started)
            else:
                await journal.record(record.key, event, **changes)
                waits.records.append(time.perf_counter() - started)


def items(count: int, first: int = 0) -> Iterator[PlannedItem]:
    return (PlannedItem(number, VideoRequest(f"{WORDS} {number}")) for number in range(first, first + count))


async def measure_records(dsn: str, writers: int, count: int) -> str:
    async with await Journal.open(dsn, f"{writers} writers", now=time.time) as journal:
        records = await journal.plan(list(items(count // 4)))
        waits = Waits()
        started, started_cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(finish(journal, records[first::writers], waits) for first in range(writers)))
        seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
        done = len(waits.claims) + len(waits.records)
        assert (await journal.counts())[ItemState.SAVED] == len(records)
    return (
        f"{writers:4} writers: {done / seconds:7,.0f} records/s, {cpu / done * 1e6:.0f} µs CPU of ours each; "
        f"a claim {percentile(waits.claims, 50):.2f} ms (p99 {percentile(waits.claims, 99):.2f}), "
        f"another record {percentile(waits.records, 50):.2f} ms"
    )


def percentile(seconds: list[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100)[percent - 1] * 1e3


async def measure_rows(dsn: str, count: int) -> Iterator[str]:
    lines = []
    async with await Journal.open(dsn, "a long list", now=time.time) as journal:
        started = time.perf_counter()
        entries = items(count)
        while chunk := list(itertools.islice(entries, AT_ONCE)):
            await journal.plan(chunk)
        lines.append(f"{count:,} items planned in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        assert sum((await journal.counts()).values()) == count
        lines.append(f"counted in {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    async with await Journal.open(dsn, "a long list", now=time.time) as journal:
        async for _ in journal.slices({ItemState.UNKNOWN, ItemState.ACCEPTED, ItemState.READY, ItemState.PLANNED}):
            break
        lines.append(f"opened, and the first of what is left found, in {time.perf_counter() - started:.2f} s")
        started = time.perf_counter()
        assert sum([len(part) async for part in journal.slices()]) == count
        lines.append(f"all read in {time.perf_counter() - started:.1f} s")
    return iter(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 10, 100, 400])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with running() as server:
        dsn = server.new_database()
        for writers in options.writers:
            print(asyncio.run(measure_records(dsn, writers, min(options.records, writers * 400))), flush=True)
        if options.rows:
            print("\n".join(asyncio.run(measure_rows(dsn, options.rows))))


if __name__ == "__main__":
    main()

"""What 50,000 tasks on one event loop cost: `python -m benchmarks.crowd`.

- memory: bytes a followed task takes before its first look and after it, on virtual time.
- polls: CPU of a poll, the reply read and its task planned anew, beside a raw aiohttp request to the same server, each
  in a process of its own, in turns.
- start: how late the loop's timers come while a batch takes up that many tasks of an earlier run from its journal.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from benchmarks import server
from benchmarks.lag import late_while, p99
from benchmarks.results import Figure, Report, at_most, figure
from wanasync import Config, TaskSnapshot, TaskStatus, VideoRequest, WanError, WanSession
from wanasync.edges.journal import CHUNK, Journal
from wanasync.edges.transport import Transport
from wanasync.engine.poller import Poller
from wanasync.rules import calls, replies
from wanasync.rules.lifecycle import ItemEvent
from wanasync.rules.records import ItemRecord, PlannedItem
from wanasync.testing import now, run

Client = Callable[[str, int], Coroutine[Any, Any, float]]

MANY = 50_000
AT_ONCE = 100
KEY = "sk-benchmark-0123456789abcdef0123456789abcdef"
ESTIMATE = 120.0
LONG_AGO = 600.0
"""Seconds since the submission of tasks that are looked at at once."""


def _id(number: int) -> str:
    return f"task-unified-{number:032d}"


def _heard(news: TaskSnapshot | WanError) -> None:
    """Nobody waits for these tasks."""


# Memory


async def memory(tasks: int) -> tuple[float, float]:
    """Bytes of a task that waits for its first look, and of one that was looked at."""

    async def ask(task_id: str) -> TaskSnapshot:
        return TaskSnapshot(task_id, TaskStatus.PROCESSING, 50)

    poller = Poller(ask, None, Config(polls_per_second=1e6), clock=now, rng=Random(1))
    ids = [_id(number) for number in range(tasks)]
    tracemalloc.start()
    for task_id in ids:
        poller.follow(task_id, _heard, submitted_at=now(), estimated_time=ESTIMATE)
    waiting = tracemalloc.get_traced_memory()[0] / tasks
    await asyncio.sleep(80)
    looked_at = tracemalloc.get_traced_memory()[0] / tasks
    tracemalloc.stop()
    await poller.close()
    return waiting, looked_at


# Polls


async def polls_of_aiohttp(base: str, polls: int) -> float:
    """CPU seconds a poll."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        numbers = iter(range(polls))

        async def ask() -> None:
            for number in numbers:
                async with session.get(f"{base}/v1/tasks/{_id(number)}") as response:
                    await response.json()

        began = time.process_time()
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        return (time.process_time() - began) / polls


async def polls_of_the_poller(base: str, polls: int) -> float:
    """CPU seconds a poll of so many followed tasks, all of them due."""
    config = Config(api_key=KEY, base_url=base, polls_per_second=1e6, max_polls_in_flight=AT_ONCE)
    async with Transport(config) as transport:

        async def ask(task_id: str) -> TaskSnapshot:
            return replies.read_task(await transport.send(calls.query_call(base, task_id)), now=time.time())

        poller = Poller(ask, None, config, clock=time.time, rng=Random(1))
        for number in range(polls):
            poller.follow(_id(number), _heard, submitted_at=time.time() - LONG_AGO, estimated_time=ESTIMATE)
        began = time.process_time()
        while poller.statistics().polls < polls:  # noqa: ASYNC110 - nothing tells of each poll
            await asyncio.sleep(0.01)
        spent = time.process_time() - began
        made = poller.statistics().polls
        await poller.close()
        return spent / made


def _in_a_process(client: Client, base: str, polls: int) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_warm_and_measured, (client, base, polls))


def _warm_and_measured(client: Client, base: str, polls: int) -> float:
    asyncio.run(client(base, polls // 10))
    return asyncio.run(client(base, polls))


def _poll_figures(base: str, polls: int, rounds: int) -> Iterator[Figure]:
    costs = [
        (_in_a_process(polls_of_aiohttp, base, polls), _in_a_process(polls_of_the_poller, base, polls))
        for _ in range(rounds)
    ]
    raw, ours = zip(*costs, strict=True)
    case = f"polls, {AT_ONCE} at once"
    yield figure(case, "aiohttp", "CPU µs a poll", [each * 1e6 for each in raw])
    yield figure(case, "wanasync", "CPU µs a poll", [each * 1e6 for each in ours])
    yield figure(case, "wanasync", "CPU ÷ aiohttp", [one / other for other, one in costs], at_most(1.2))


# Start


async def _accepted(directory: Path, prompts: list[str]) -> None:
    """A batch whose items have all been submitted just now."""
    async with await Journal.open(directory, now=time.time) as journal:
        items = (PlannedItem(number, VideoRequest(prompt)) for number, prompt in enumerate(prompts))
        while chunk := list(itertools.islice(items, CHUNK)):
            await asyncio.gather(*(_accept(journal, record) for record in await journal.plan(chunk)))


async def _accept(journal: Journal, record: ItemRecord) -> None:
    await journal.record(record.key, ItemEvent.SUBMIT)
    await journal.record(record.key, ItemEvent.ACCEPTED, task_id=_id(record.seq), estimated_time=ESTIMATE)


async def late_at_start(base: str, directory: Path, prompts: list[str]) -> list[float]:
    """Seconds by which timers were late until all tasks were followed."""
    async with WanSession(KEY, base) as wan, wan.batch(prompts, to=directory):

        async def taken_up() -> None:
            while wan.statistics().poller.following < len(prompts):  # noqa: ASYNC110 - nor of this
                await asyncio.sleep(0.01)

        return await late_while(taken_up())


def _start_figures(base: str, tasks: int, rounds: int) -> Iterator[Figure]:
    prompts = [f"A cat playing piano, take {number}" for number in range(tasks)]
    with tempfile.TemporaryDirectory(prefix="wanasync-crowd-") as folder:
        directory = Path(folder)
        asyncio.run(_accepted(directory, prompts))
        late = [p99(asyncio.run(late_at_start(base, directory, prompts))) * 1e3 for _ in range(rounds)]
    yield figure(f"{tasks:,} tasks taken up", "wanasync", "loop lag p99, ms", late, at_most(50))


def measure(*, tasks: int = MANY, polls: int = 5_000, rounds: int = 7, quick: bool = False) -> Report:
    if quick:
        tasks, polls, rounds = 500, 200, 1
    waiting, looked_at = run(memory(tasks))
    case = f"{tasks:,} in flight"
    figures = [
        figure(case, "wanasync", "B a waiting task", [waiting], at_most(400)),
        figure(case, "wanasync", "B a task looked at", [looked_at], at_most(400)),
    ]
    with server.running() as port:
        base = f"http://127.0.0.1:{port}/unfinished"
        figures += _poll_figures(base, polls, rounds)
        figures += _start_figures(base, tasks, min(rounds, 3))
    return Report("crowd", f"{tasks:,} tasks on one event loop", figures, quick=quick)


def main() -> None:
    print(measure())


if __name__ == "__main__":
    main()

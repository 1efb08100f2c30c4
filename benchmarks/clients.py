"""The clients that are compared, each in a process of its own: `python -m benchmarks.clients NAME PORT`.

A client runs cycles of one submission and one poll, as many at once as it is told. It reads orders from its standard
input, a line of JSON each, and answers with what the order cost. The processes take turns, so that whatever else
the machine does hits all alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from attrs import field, frozen

__all__ = ["CLIENTS", "LOSSES", "Client", "Cost", "running"]

PROMPT = "A cat playing piano in a jazz club, warm light, 35 mm film, slow dolly shot towards the keys"
KEY = "sk-benchmark-0123456789abcdef0123456789abcdef"

Cycle = Callable[..., Awaitable[object]]


# Raw aiohttp, as its own manual shows it.


@asynccontextmanager
async def aiohttp_raw(base: str) -> AsyncIterator[Cycle]:
    import aiohttp

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:

        async def cycle() -> None:
            request = {"model": "wan2.5-text-to-video", "prompt": PROMPT, "quality": "720p", "duration": 5}
            async with session.post(f"{base}/v1/videos/generations", json=request) as response:
                task = await response.json()
            async with session.get(f"{base}/v1/tasks/{task['id']}") as response:
                await response.json()

        yield cycle


@asynccontextmanager
async def aiohttp_tuned(base: str) -> AsyncIterator[Cycle]:
    """The same with wanasync's allocator trick, which is the process's and so the raw client's gain as well."""
    bytearray(2**19)
    async with aiohttp_raw(base) as cycle:
        yield cycle


# wanasync, by how much of it takes part.


@asynccontextmanager
async def wanasync_calls(base: str) -> AsyncIterator[Cycle]:
    """Calls and replies only: records, validation, error mapping; no gate, no poller."""
    from wanasync.config import Config
    from wanasync.edges.transport import Transport
    from wanasync.models import VideoRequest
    from wanasync.rules import calls, replies

    config = Config(api_key=KEY, base_url=base)
    async with Transport(config) as transport:

        async def cycle() -> None:
            request = VideoRequest(PROMPT, quality="720p", duration=5)
            call = calls.submit_call(base, request, "wan-0123456789abcdef0123456789abcdef01234567")
            accepted = replies.read_submission(await transport.send(call), now=0.0)
            assert isinstance(accepted, replies.Accepted)
            query = calls.query_call(base, accepted.snapshot.id)
            replies.read_task(await transport.send(query), now=0.0)

        yield cycle


@asynccontextmanager
async def wanasync_session(base: str) -> AsyncIterator[Cycle]:
    """The session: gate, at-most-once submission, retries; one look at the task."""
    from wanasync import VideoRequest, WanSession

    async with WanSession(KEY, base) as wan:

        async def cycle() -> None:
            task = await wan.submit(VideoRequest(PROMPT, quality="720p", duration=5))
            await task.refresh()

        yield cycle


@asynccontextmanager
async def wanasync_followed(base: str, polls: int = 1) -> AsyncIterator[Cycle]:
    """Everything: the task is followed to its end by the poller, which looks once, at once; `polls` times in a row."""
    from wanasync import Config, VideoRequest, WanSession

    config = Config(api_key=KEY, base_url=base, polls_per_second=1e6, max_polls_in_flight=100)
    async with WanSession(config=config) as wan:

        async def cycle(request: VideoRequest | None = None) -> None:
            task = await wan.submit(request or VideoRequest(PROMPT, quality="720p", duration=5))
            for _ in range(polls):
                # A handle from the id alone is looked at without waiting for when it may be done.
                await wan.attach(task.id).wait()

        yield cycle


@asynccontextmanager
async def wanasync_journaled(base: str) -> AsyncIterator[Cycle]:
    """As `wanasync_followed`, and all that a batch writes down of an item: planned, sent, accepted, ready, saved."""
    from wanasync import VideoRequest
    from wanasync.edges.journal import Journal
    from wanasync.rules.lifecycle import ItemEvent
    from wanasync.rules.records import ItemRecord, PlannedItem

    numbers, planned, planning = itertools.count(), deque[ItemRecord](), asyncio.Lock()

    with tempfile.TemporaryDirectory() as folder:
        async with wanasync_followed(base) as follow, await Journal.open(folder, now=time.time) as journal:

            def request(number: int) -> VideoRequest:
                return VideoRequest(f"{PROMPT} {number}", quality="720p", duration=5)

            async def take() -> ItemRecord:
                async with planning:
                    if not planned:
                        chunk = itertools.islice(numbers, PLANNED_AT_ONCE)
                        items = [PlannedItem(number, request(number)) for number in chunk]
                        planned.extend(await journal.plan(items))
                    return planned.popleft()

            async def cycle() -> None:
                record = await take()
                task = {"task_id": f"task-unified-{record.seq}", "credits_reserved": 5.0, "estimated_time": 120.0}
                link = {
                    "links": (f"https://cdn.example/{record.seq}.mp4",),
                    "link_deadline": 1.8e9,
                    "credits_used": 5.0,
                }
                await journal.record(record.key, ItemEvent.SUBMIT)
                await follow(record.request)
                await journal.record(record.key, ItemEvent.ACCEPTED, **task)
                await journal.record(record.key, ItemEvent.LINKED, **link)
                await journal.record(record.key, ItemEvent.SAVED, bytes=8_000_000, sha256="ab" * 32)

            yield cycle


PLANNED_AT_ONCE = 200
WHOLE_CYCLE = 4
"""Polls of a task on its way: fewer than the poller takes by itself, 5.5 for durations that spread by a fifth."""


# The SDKs of other vendors, each with its own kind of task.


@asynccontextmanager
async def openai(base: str) -> AsyncIterator[Cycle]:
    from openai import AsyncOpenAI

    # The host's videos are about to go; the SDK is what is compared.
    warnings.simplefilter("ignore", DeprecationWarning)

    async with AsyncOpenAI(api_key=KEY, base_url=f"{base}/v1") as client:

        async def cycle() -> None:
            video = await client.videos.create(prompt=PROMPT, model="sora-2", size="1280x720", seconds="4")
            await client.videos.retrieve(video.id)

        yield cycle


@asynccontextmanager
async def fal(base: str) -> AsyncIterator[Cycle]:
    import fal_client
    from fal_client import client as internals

    # Its host can be set, its scheme can't.
    internals.QUEUE_URL_FORMAT = f"{base}/"
    client = fal_client.AsyncClient(key=KEY)

    async def cycle() -> None:
        handle = await client.submit("owner/app", {"prompt": PROMPT, "duration": 5})
        await handle.status()

    yield cycle


@asynccontextmanager
async def replicate(base: str) -> AsyncIterator[Cycle]:
    from replicate.client import Client as Replicate

    client = Replicate(api_token=KEY, base_url=base)

    async def cycle() -> None:
        prediction = await client.predictions.async_create(version="5c7d5dc6", input={"prompt": PROMPT})
        await client.predictions.async_get(prediction.id)

    yield cycle


@asynccontextmanager
async def runway(base: str) -> AsyncIterator[Cycle]:
    from runwayml import AsyncRunwayML

    async with AsyncRunwayML(api_key=KEY, base_url=base) as client:

        async def cycle() -> None:
            task = await client.text_to_video.create(model="gen4.5", prompt_text=PROMPT, ratio="1280:720", duration=5)
            await client.tasks.retrieve(task.id)

        yield cycle


@frozen
class Client:
    """`dialect` is the path below which the server speaks as the client expects."""

    open: Callable[[str], contextlib.AbstractAsyncContextManager[Cycle]]
    dialect: str = "wan"


CLIENTS: Mapping[str, Client] = {
    "aiohttp": Client(aiohttp_raw),
    "aiohttp, tuned": Client(aiohttp_tuned),
    "wanasync calls": Client(wanasync_calls),
    "wanasync session": Client(wanasync_session),
    "wanasync": Client(wanasync_followed),
    "wanasync, whole cycle": Client(partial(wanasync_followed, polls=WHOLE_CYCLE)),
    "wanasync, journaled": Client(wanasync_journaled),
    "openai": Client(openai, "openai"),
    "fal-client": Client(fal, "fal"),
    "replicate": Client(replicate, "replicate"),
    "runwayml": Client(runway, "runway"),
}


# The process.


@frozen
class Cost:
    """What some cycles cost: seconds on the clock and on the processor."""

    cycles: int
    seconds: float
    cpu: float

    @property
    def cpu_a_request(self) -> float:
        return self.cpu / self.cycles / 2

    @property
    def requests_a_second(self) -> float:
        return 2 * self.cycles / self.seconds


async def _run_cycles(cycle: Cycle, count: int, concurrency: int) -> None:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await cycle()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


async def _measure(cycle: Cycle, count: int, concurrency: int) -> Cost:
    # Connections that were closed meanwhile are opened again before the clock starts.
    await _run_cycles(cycle, concurrency, concurrency)
    gc.collect()
    started, cpu = time.perf_counter(), time.process_time()
    await _run_cycles(cycle, count, concurrency)
    return Cost(count, time.perf_counter() - started, time.process_time() - cpu)


async def _lose(cycle: Cycle) -> str:
    """One submission whose reply is lost, however often the client sends it; how it ends."""
    try:
        async with asyncio.timeout(120):
            await cycle()
    except Exception as error:  # noqa: BLE001 - what it raises is what is asked
        return type(error).__name__
    return "no error"


async def _obey(name: str, port: int) -> None:
    client = CLIENTS[name]
    async with client.open(f"http://127.0.0.1:{port}/{client.dialect}") as cycle:
        print("{}", flush=True)
        while line := sys.stdin.readline():
            order = json.loads(line)
            cost = await _measure(cycle, order["cycles"], order["concurrency"])
            print(json.dumps([cost.cycles, cost.seconds, cost.cpu]), flush=True)


async def _obey_lost(name: str, port: int) -> None:
    async with CLIENTS[name].open(f"http://127.0.0.1:{port}/lost/{name.replace(' ', '-')}") as cycle:
        print(json.dumps(await _lose(cycle)), flush=True)


LOSSES = "lost"


@frozen
class _Process:
    _process: subprocess.Popen[str] = field(alias="process")

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client ended with {self._process.wait()}: {self._process.args!r}")
        return json.loads(line)

    def run(self, cycles: int, concurrency: int) -> Cost:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cycles": cycles, "concurrency": concurrency}) + "\n")
        self._process.stdin.flush()
        return Cost(*self.answer())


@contextmanager
def running(name: str, port: int, *options: str, under: tuple[str, ...] = ()) -> Iterator[_Process]:
    """A client in a process of its own, of `CLIENTS`; `under` is a command that runs it, e.g. valgrind."""
    command = [*under, sys.executable, "-m", "benchmarks.clients", name, str(port), *options]
    # Proxies are none of what is compared, and the httpx-based clients would send loopback through them.
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield _Process(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    _, _name, _port, *_options = sys.argv
    asyncio.run((_obey_lost if LOSSES in _options else _obey)(_name, int(_port)))

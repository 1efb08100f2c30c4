"""Workers and lists for tests, in this process or in ones of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wanasync import BatchHistory, BatchStatus, Config, PostgresJournal, RequestList, WanSession
from wanasync.cluster import ProcrastinateQueue, Worker, submit
from wanasync.emulator import Emulator

__all__ = ["BATCH", "hand_in", "session", "settled", "stands", "until_stands", "worker_process", "working"]

BATCH = "films"
PATIENCE = 60.0


def write_list(path: Path, count: int, start: int = 0) -> Path:
    path.write_text("".join(f"A cat, take {number}\n" for number in range(start, start + count)))
    return path


async def hand_in(dsn: str, to: Path, count: int, *, size: int = 10, start: int = 0) -> Any:
    """A list of `count` prompts, in chunks of `size`."""
    path = write_list((to.parent if to.parent.is_dir() else to.parent.parent) / "list.txt", count, start)
    with RequestList(str(path)) as requests:
        requests.check()
        async with ProcrastinateQueue(dsn) as queue:
            return await submit(requests, str(to), BATCH, queue, PostgresJournal(dsn, BATCH), size=size)


def session(emu: Emulator, shared_limit: str | None = None, **options: Any) -> WanSession:
    config = Config(api_key=emu.api_key, base_url=emu.base_url, **options)
    return WanSession(config=config, shared_limit=shared_limit)


@contextlib.asynccontextmanager
async def working(
    dsn: str, emu: Emulator, *, rescue_after: float = 2.0, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[Worker]:
    """A worker in this process, drained at the end."""
    async with session(emu, dsn, **(config or {})) as wan, ProcrastinateQueue(dsn, rescue_after=rescue_after) as queue:
        worker = Worker(wan, queue, lambda name: PostgresJournal(dsn, name), beat_every=rescue_after / 4, **options)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.drain()
            await running


@contextlib.contextmanager
def worker_process(
    dsn: str, emu: Emulator, *arguments: str, rescue_after: float = 2.0, read_timeout: float = 2.0
) -> Iterator[subprocess.Popen[bytes]]:
    """`wanasync cluster worker`, killed at the end if it has not ended."""
    environ = os.environ | {
        "WAN_DATABASE_URL": dsn,
        "WAN_API_KEY": emu.api_key,
        "WAN_BASE_URL": emu.base_url,
        "WAN_CONNECT_TIMEOUT": "1",
        "WAN_READ_TIMEOUT": str(read_timeout),
    }
    command = [sys.executable, "-m", "wanasync", "cluster", "worker", f"--rescue-after={rescue_after}", *arguments]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


async def stands(dsn: str) -> BatchStatus:
    async with BatchHistory(BATCH, journal=PostgresJournal(dsn, BATCH)) as history:
        return await history.status()


async def until_stands(dsn: str, **wanted: int) -> BatchStatus:
    """Wait until at least so many items are where they are wanted."""
    give_up = time.monotonic() + PATIENCE
    async with BatchHistory(BATCH, journal=PostgresJournal(dsn, BATCH)) as history:
        while True:
            status = await history.status()
            if all(getattr(status, name) >= count for name, count in wanted.items()):
                return status
            assert time.monotonic() < give_up, f"{wanted} was never reached: {status}"
            await asyncio.sleep(0.05)


async def settled(dsn: str, items: int) -> BatchStatus:
    """Wait until all items have come to an end."""
    give_up = time.monotonic() + PATIENCE
    async with BatchHistory(BATCH, journal=PostgresJournal(dsn, BATCH)) as history:
        while True:
            status = await history.status()
            if status.saved + status.failed + status.rejected + status.expired + status.unknown >= items:
                return status
            assert time.monotonic() < give_up, f"not settled: {status}"
            await asyncio.sleep(0.05)


def keys_of(entries: Sequence[Any]) -> list[str]:
    return [entry.idempotency_key for entry in entries]

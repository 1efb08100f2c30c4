"""Processes on one key, a real PostgreSQL, the emulator as the provider with a limit that nobody told them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from tests.helpers.postgres import running
from wanasync.emulator import Emulator
from wanasync.emulator.limiters import SlidingWindow

LIMIT, PER = 20, 2.0


@define
class Sharers:
    """Processes that run a batch each; `name` is the first word of its prompts."""

    emu: Emulator
    dsn: str
    directory: Path
    processes: dict[str, asyncio.subprocess.Process]

    async def start(self, name: str, count: int) -> None:
        arguments = (self.dsn, self.emu.base_url, self.emu.api_key, str(self.directory / name), str(count))
        self.processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.postgres.sharer", *arguments, stdout=asyncio.subprocess.PIPE
        )

    async def report(self, name: str) -> dict[str, Any]:
        shown, _ = await self.processes[name].communicate()
        assert self.processes[name].returncode == 0
        told: dict[str, Any] = json.loads(shown)
        return told

    def accepted(self) -> Counter[str]:
        return Counter(str(entry.request["prompt"]).split()[0] for entry in self.emu.ledger.entries)

    async def until(self, reached: Callable[[Counter[str]], bool]) -> None:
        while not reached(self.accepted()):  # noqa: ASYNC110 - other processes are looked at
            await asyncio.sleep(0.02)


@asynccontextmanager
async def sharing(dsn: str, directory: Path) -> AsyncIterator[Sharers]:
    limiter = SlidingWindow(LIMIT, PER)
    async with Emulator(durations=0.3, limiter=limiter) as emu, asyncio.timeout(120):
        sharers = Sharers(emu, dsn, directory, {})
        try:
            yield sharers
        finally:
            for process in sharers.processes.values():
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        assert emu.ledger.paid_twice() == {}


@pytest.mark.parametrize("count", [2, 4])
async def test_processes_find_one_limit_together_and_share_it_evenly(database: str, tmp_path: Path, count: int) -> None:
    each = 60 // count
    names = [f"cat{number}" for number in range(count)]
    async with sharing(database, tmp_path) as sharers:
        for name in names:
            await sharers.start(name, each)
        reports = [await sharers.report(name) for name in names]
        assert [report["states"] for report in reports] == [{"saved": each}] * count
        times = [entry.created for entry in sharers.emu.ledger.entries]
        # At its best: a process that starts late, or stands still for a while, says nothing of the limit. What is left
        # to 1 is for a loaded machine; the benchmark measures.
        windows = zip(times, times[LIMIT:], strict=False)
        assert max(LIMIT / (last - first) for first, last in windows) >= 0.5 * LIMIT / PER
        assert sharers.emu.ledger.refused["submit"] <= 15
        known = next(report for report in reports if report["requests"] is not None)
        assert known["requests"] == pytest.approx(LIMIT, abs=2)


async def test_a_killed_and_a_frozen_process_do_not_stop_the_third(database: str, tmp_path: Path) -> None:
    async with sharing(database, tmp_path) as sharers:
        for name in ("killed", "frozen", "well"):
            await sharers.start(name, 20)
        await sharers.until(lambda accepted: min(accepted[name] for name in ("killed", "frozen", "well")) >= 3)
        sharers.processes["killed"].send_signal(signal.SIGKILL)
        sharers.processes["frozen"].send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.5)
        before = sharers.accepted()
        assert (await sharers.report("well"))["states"] == {"saved": 20}
        after = sharers.accepted()
        assert (after["frozen"], after["killed"]) == (before["frozen"], before["killed"])
        sharers.processes["frozen"].send_signal(signal.SIGCONT)
        assert (await sharers.report("frozen"))["states"] == {"saved": 20}


async def test_a_database_that_crashes_and_comes_again_is_waited_for(tmp_path: Path) -> None:
    with running() as server:
        async with sharing(server.new_database(), tmp_path) as sharers:
            for name in ("one", "two"):
                await sharers.start(name, 20)
            await sharers.until(lambda accepted: min(accepted["one"], accepted["two"]) >= 3)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await asyncio.sleep(1.0)
            during = sharers.accepted().total()
            await asyncio.sleep(0.5)
            # Nobody submits unasked.
            assert sharers.accepted().total() == during < 40
            await asyncio.to_thread(server.start)
            for name in ("one", "two"):
                assert (await sharers.report(name))["states"] == {"saved": 20}

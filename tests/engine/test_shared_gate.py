"""The gate of one process among several, on a home in memory and virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from wanasync.engine.shared_gate import SharedGate
from wanasync.errors import JournalError, SessionError
from wanasync.models import Limits
from wanasync.rules.shared_pace import Answer, Report, SharedPace, TaskNews
from wanasync.testing import virtual_time


class Memory:
    """A home as the database is one, for the gates of a test. `away`: it is out of reach."""

    def __init__(self) -> None:
        self.pace = SharedPace(rng=random.Random(1))
        self.gates: dict[int, SharedGate] = {}
        self.tasks: set[int] = set()
        self.away = False

    async def exchange(self, report: Report) -> Answer:
        await asyncio.sleep(0.001)
        if self.away:
            raise JournalError("the shared limit could not be asked", "memory")
        begun = [task for task in report.begun if task not in self.tasks]
        self.tasks.update(begun)
        ended = [task for task in report.finished if task in self.tasks]
        self.tasks.difference_update(ended)
        answer = self.pace.sync(asyncio.get_running_loop().time(), report, TaskNews(begun, ended))
        await asyncio.sleep(0.001)
        for called in answer.calls:
            self.gates[called].called()
        return answer

    async def close(self) -> None:
        return None


@asynccontextmanager
async def gates(count: int, limits: Limits | None = None) -> AsyncIterator[tuple[Memory, list[SharedGate]]]:
    memory = Memory()
    opened = [SharedGate(limits=limits) for _ in range(count)]
    memory.gates = {gate.member: gate for gate in opened}
    for gate in opened:
        gate.open(memory)
    try:
        yield memory, opened
    finally:
        for gate in opened:
            await gate.close()


@virtual_time
async def test_a_place_that_one_gives_back_another_takes_at_once() -> None:
    async with gates(2, Limits(concurrent=1)) as (_, (first, second)):
        ticket = await first.admit()
        wait = asyncio.ensure_future(second.admit())
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        first.release(ticket)
        second.release(await wait)
        assert asyncio.get_running_loop().time() - began < 0.1


@virtual_time
@pytest.mark.parametrize("after", [0.0, 0.0005, 0.0015, 0.002, 0.0025, 0.5])
async def test_a_wait_that_is_cancelled_at_any_moment_gives_its_place_back(after: float) -> None:
    async with gates(2, Limits(concurrent=1)) as (_, (first, second)):
        wait = asyncio.ensure_future(first.admit())
        await asyncio.sleep(after)
        if not wait.cancel():
            first.release(wait.result())
        async with asyncio.timeout(5):
            second.release(await second.admit())
        await asyncio.sleep(1)
        assert first.statistics().in_flight == 0


@virtual_time
async def test_nobody_is_admitted_while_the_home_is_away_and_what_was_told_is_not_lost() -> None:
    async with gates(2, Limits(concurrent=1)) as (memory, (first, second)):
        ticket = await first.admit()
        memory.away = True
        first.accepted(ticket, "task-1")
        with pytest.raises(JournalError, match="could not be asked"):
            await second.admit()
        memory.away = False
        first.finished("task-1")
        async with asyncio.timeout(5):
            second.release(await second.admit())
        assert memory.tasks == set()
        assert first.statistics().accepted == 1


@virtual_time
async def test_a_hold_stops_this_process_only() -> None:
    async with gates(2) as (_, (first, second)):
        first.hold("the disk is full")
        wait = asyncio.ensure_future(first.admit())
        second.release(await second.admit())
        await asyncio.sleep(10)
        assert not wait.done()
        assert first.statistics().why == "on hold: the disk is full"
        first.resume("the disk is full")
        first.release(await wait)


@virtual_time
async def test_a_pause_is_told_before_the_database_has_heard_of_it() -> None:
    async with gates(1) as (_, (gate,)):
        gate.throttled(await gate.admit(), 30.0)
        told = gate.statistics()
        assert (told.state, told.paused_for, told.pauses) == ("paused", 30.0, 1)
        await asyncio.sleep(1)
        assert gate.statistics().pauses == 1


@virtual_time
async def test_a_submission_that_takes_long_is_held_by_its_process_all_the_while() -> None:
    async with gates(2, Limits(concurrent=1)) as (_, (first, second)):
        ticket = await first.admit()
        wait = asyncio.ensure_future(second.admit())
        await asyncio.sleep(60)
        assert not wait.done()
        first.release(ticket)
        second.release(await wait)


@virtual_time
async def test_a_closed_gate_tells_those_who_wait_and_lets_the_others_in() -> None:
    async with gates(2, Limits(concurrent=1)) as (_, (first, second)):
        await first.admit()
        waits = [asyncio.ensure_future(gate.admit()) for gate in (first, second)]
        await asyncio.sleep(0.1)
        await first.close()
        with pytest.raises(SessionError):
            await waits[0]
        async with asyncio.timeout(1):
            second.release(await waits[1])

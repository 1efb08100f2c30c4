"""One limit through a real PostgreSQL: what one learns all know, and nobody is held up by those who are gone."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest

from wanasync import ConfigError, JournalError, Limits, SessionError, SharedLimit
from wanasync.engine.shared_gate import PaceHome, SharedGate
from wanasync.rules import shared_pace
from wanasync.rules.shared_pace import Answer, Report, SharedPace, TaskNews

PROVIDER = "https://api.example.com"


@asynccontextmanager
async def gates(dsn: str, count: int, *, limits: Limits | None = None) -> AsyncIterator[list[SharedGate]]:
    async with AsyncExitStack() as stack:
        shared = SharedLimit(dsn, patience=5.0)
        yield [await stack.enter_async_context(await shared.open(PROVIDER, "key", limits=limits)) for _ in range(count)]


async def handed_in(gate: SharedGate) -> None:
    async with asyncio.timeout(10):
        while gate._asking is not None or gate._settled:  # noqa: ASYNC110 - looked at
            await asyncio.sleep(0.005)


async def test_a_refusal_that_one_gets_pauses_all_and_a_canary_opens_for_all(database: str) -> None:
    async with gates(database, 3) as (first, second, third), asyncio.timeout(20):
        first.throttled(await first.admit(), 1.0, firm=True)
        await handed_in(first)
        waits = [asyncio.ensure_future(gate.admit()) for gate in (second, third)]
        await asyncio.sleep(0.3)
        assert not any(wait.done() for wait in waits)
        assert second.statistics().state == "paused"
        assert second.statistics().why == "the provider asked for 1 s (429)"
        done, (late,) = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        ticket = done.pop().result()
        await asyncio.sleep(0.3)
        assert not late.done()
        ticket.gate.accepted(ticket, "task-1")
        other = await late
        other.gate.accepted(other, "task-2")


async def test_the_places_of_one_that_died_are_others_after_a_while(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_pace, "SILENT_AFTER", 1.0)
    monkeypatch.setattr(shared_pace, "ASK_EVERY", 0.2)
    async with gates(database, 2, limits=Limits(concurrent=2)) as (dead, other), asyncio.timeout(20):
        for _ in range(2):
            await dead.admit()
        await handed_in(dead)
        # As a process that is killed: it neither reports any more nor says that it leaves.
        home, dead._home = dead._home, None
        dead._set_timer(math.inf)
        assert home is not None
        await home.close()
        waits = [asyncio.ensure_future(other.admit()) for _ in range(2)]
        await asyncio.sleep(0.3)
        assert not any(wait.done() for wait in waits)
        for wait in waits:
            other.release(await wait)


async def test_one_that_is_frozen_with_the_row_in_its_hands_holds_it_for_a_moment(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, holds, thaws = SharedPace.sync, threading.Event(), threading.Event()

    def freezing(pace: SharedPace, now: float, report: Report, news: TaskNews) -> Answer:
        if threading.current_thread() is not threading.main_thread() and not holds.is_set():
            holds.set()
            thaws.wait(60)
        return sync(pace, now, report, news)

    async def frozen() -> None:
        async with gates(database, 1) as (gate,):
            gate.release(await gate.admit())

    monkeypatch.setattr(SharedPace, "sync", freezing)
    frozen_one = asyncio.create_task(asyncio.to_thread(asyncio.run, frozen()))
    try:
        await asyncio.to_thread(holds.wait, 60)
        async with gates(database, 1) as (gate,), asyncio.timeout(30):
            gate.release(await gate.admit())
    finally:
        thaws.set()
        await frozen_one


async def test_a_quota_counts_the_tasks_of_all(database: str) -> None:
    async with gates(database, 2, limits=Limits(concurrent=2)) as (first, second), asyncio.timeout(20):
        first.accepted(await first.admit(), "task-1")
        second.accepted(await second.admit(), "task-2")
        await handed_in(first)
        await handed_in(second)
        wait = asyncio.ensure_future(second.admit())
        await asyncio.sleep(0.2)
        assert not wait.done()
        # Anybody may see its end.
        second.finished("task-1")
        second.release(await wait)


async def test_what_was_learned_outlives_those_who_learned_it(database: str) -> None:
    async with gates(database, 1) as (gate,), asyncio.timeout(20):
        for number in range(3):
            gate.accepted(await gate.admit(), f"task-{number}")
        gate.throttled(await gate.admit(), 0.5, firm=True)
        await handed_in(gate)
        learned = gate.learned()
        assert learned.requests == 3
    async with gates(database, 1) as (later,):
        await handed_in(later)
        assert later.learned().requests == learned.requests
        assert later.statistics().pauses == 1


async def test_another_key_or_provider_has_a_limit_of_its_own(database: str) -> None:
    shared = SharedLimit(database)
    async with (
        await shared.open(PROVIDER, "key") as one,
        await shared.open(PROVIDER, "another") as other,
        await shared.open("https://other.example.com", "key") as third,
        asyncio.timeout(20),
    ):
        one.throttled(await one.admit(), 60.0, firm=True)
        await handed_in(one)
        other.release(await other.admit())
        third.release(await third.admit())


class Counting:
    """A home that counts what it is asked."""

    def __init__(self, home: PaceHome) -> None:
        self.home = home
        self.questions = 0

    async def exchange(self, report: Report) -> Answer:
        self.questions += 1
        return await self.home.exchange(report)

    async def close(self) -> None:
        await self.home.close()


async def test_one_question_is_asked_for_all_who_wait(database: str) -> None:
    async with gates(database, 1) as (gate,), asyncio.timeout(30):
        await handed_in(gate)
        assert gate._home is not None
        home = gate._home = Counting(gate._home)

        async def submit(number: int) -> None:
            ticket = await gate.admit()
            await asyncio.sleep(0.02)
            gate.accepted(ticket, f"task-{number}")

        await asyncio.gather(*(submit(number) for number in range(300)))
        assert home.questions < 150


@pytest.mark.parametrize("damage", ["'nonsense'", "'[[1]]'", "''"])
async def test_a_damaged_state_is_begun_anew_from_what_was_learned(database: str, damage: str) -> None:
    async with gates(database, 1, limits=Limits(requests=7)) as (gate,), asyncio.timeout(20):
        ticket = await gate.admit()
        await spoil(database, f"state = {damage}")
        gate.accepted(ticket, "task-1")
        await handed_in(gate)
        assert gate.statistics().requests == 7
        gate.release(await gate.admit())


async def test_a_state_of_a_newer_version_is_left_alone(database: str) -> None:
    async with gates(database, 1) as (gate,), asyncio.timeout(20):
        gate.release(await gate.admit())
        await handed_in(gate)
        await spoil(database, "version = 99, state = 'of tomorrow'")
        with pytest.raises(JournalError, match="newer wanasync"):
            await gate.admit()
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT version, state FROM wanasync.pace")
        assert await cursor.fetchone() == (99, "of tomorrow")


async def spoil(dsn: str, change: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(f"UPDATE wanasync.pace SET {change}".encode())  # noqa: S608 - a test's own words


async def test_a_cancelled_wait_and_a_closed_gate_leave_no_trace(database: str) -> None:
    async with gates(database, 2, limits=Limits(concurrent=1)) as (first, second), asyncio.timeout(20):
        ticket = await first.admit()
        waits = [asyncio.ensure_future(second.admit()) for _ in range(3)]
        await asyncio.sleep(0.1)
        waits[0].cancel()
        first.release(ticket)
        granted = await waits[1]
        await second.close()
        with pytest.raises(SessionError):
            await waits[2]
        with pytest.raises(SessionError):
            await second.admit()
        second.unknown(granted)
        first.release(await first.admit())


async def test_an_address_that_is_none_and_a_database_that_is_away_are_told(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="no address"):
        await SharedLimit("nonsense").open(PROVIDER, "key")
    with pytest.raises(JournalError, match="the shared limit could not be opened"):
        await SharedLimit("postgresql://nobody@127.0.0.1:1/x", patience=0.2).open(PROVIDER, "key")

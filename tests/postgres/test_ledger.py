"""What may be spent on a batch by several processes together, in a real database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from wanasync import VideoRequest
from wanasync.edges.postgres import Journal
from wanasync.rules.ledger import HeldBackError, Terms
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.records import ItemRecord, PlannedItem

PRICE = 5.0


@contextlib.asynccontextmanager
async def shared(dsn: str, count: int = 2) -> AsyncIterator[list[Journal]]:
    """The batch, open to so many at once."""
    async with contextlib.AsyncExitStack() as stack:
        opened = [await Journal.open(dsn, "films", now=time.time, shared=True) for _ in range(count)]
        for journal in opened:
            await stack.enter_async_context(journal)
        yield opened


async def planned(journal: Journal, count: int) -> list[ItemRecord]:
    return await journal.plan([PlannedItem(number, VideoRequest(f"cat {number}")) for number in range(count)])


async def accept(journal: Journal, record: ItemRecord) -> None:
    claimed = await journal.claim(record, submitted_at=time.time())
    await asyncio.sleep(0.001)
    task = f"task-{record.seq}"
    await journal.record(claimed.key, ItemEvent.ACCEPTED, task_id=task, credits_reserved=PRICE)


async def accept_all(journal: Journal, records: list[ItemRecord]) -> str | None:
    """Until it is stopped, and by what."""
    while records:
        try:
            await accept(journal, records[0])
        except HeldBackError as error:
            if error.stopped is not None:
                return error.stopped
            await asyncio.sleep(0.001)
        else:
            del records[0]
    return None


@pytest.mark.parametrize(("budget", "limit", "accepted"), [(52.0, None, 10), (None, 7, 7), (35.0, 9, 7)])
async def test_together_they_spend_what_is_allowed_and_no_more(
    database: str, budget: float | None, limit: int | None, accepted: int
) -> None:
    async with shared(database, 4) as journals:
        records = await planned(journals[0], 40)
        terms = await journals[1].allow(budget=budget, limit=limit)
        assert terms == Terms(budget, limit)
        stops = await asyncio.gather(*(accept_all(journal, records[at::4]) for at, journal in enumerate(journals)))
        assert set(stops) == {"limit" if limit and limit < 9 else "budget"}
        counts = await journals[2].counts()
        assert (counts[ItemState.ACCEPTED], counts[ItemState.PLANNED]) == (accepted, 40 - accepted)
        assert (await journals[3].terms()) == Terms(budget, limit, stops[0])


async def test_a_budget_given_late_counts_what_was_spent_and_what_is_under_way(database: str) -> None:
    async with shared(database) as (one, two):
        records = await planned(one, 6)
        for record in records[:2]:
            await accept(one, record)
        await one.set_meta("prices", '[["wan2.5-text-to-video", "720p", 5, 5.0]]')
        lost = await one.claim(records[2], submitted_at=time.time())
        await one.record(lost.key, ItemEvent.REPLY_LOST)
        wire = await one.claim(records[3], submitted_at=time.time())
        # Two are paid, one may be, and one is on the wire.
        assert await two.allow(budget=20.0) == Terms(20.0)
        with pytest.raises(HeldBackError) as caught:
            await two.claim(records[4], submitted_at=time.time())
        assert caught.value.stopped is None
        await one.record(wire.key, ItemEvent.NOT_TAKEN)
        await accept(two, records[4])
        with pytest.raises(HeldBackError) as caught:
            await two.claim(records[5], submitted_at=time.time())
        assert caught.value.stopped == "budget"


async def test_a_process_that_dies_with_submissions_on_the_wire_leaves_them_held(database: str) -> None:
    async with shared(database) as (one, two):
        records = await planned(one, 5)
        await one.allow(budget=12.0)
        await accept(one, records[0])
        await one.claim(records[1], submitted_at=time.time())
        assert [record.seq for record in await two.settle_interrupted(0.0)] == [2]
        with pytest.raises(HeldBackError) as caught:
            await two.claim(records[2], submitted_at=time.time())
        # It may have been paid for, so that there is no more to wait for.
        assert caught.value.stopped == "budget"


async def test_a_batch_without_terms_has_none(database: str) -> None:
    async with shared(database, 1) as (journal,):
        assert await journal.allow() is None
        assert await journal.terms() is None
        await accept_all(journal, await planned(journal, 3))

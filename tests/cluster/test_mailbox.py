"""A callback received by one process resolves the wait of any other."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest

from tests.helpers.postgres import running
from wanasync import CallbackError, Delivery
from wanasync.cluster import PostgresMailbox
from wanasync.webhooks.mailbox import Mailbox


def delivery(number: int) -> Delivery:
    return Delivery(f"key-{number}", f"task-unified-{number}", float(number))


@contextlib.asynccontextmanager
async def watching(mailbox: PostgresMailbox) -> AsyncIterator[list[Delivery]]:
    seen: list[Delivery] = []

    async def watch() -> None:
        async for one in mailbox.watch():
            seen.append(one)  # noqa: PERF401 - others look at it meanwhile

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(seen: list[Delivery], count: int) -> None:
    async with asyncio.timeout(20):
        while len(seen) < count:  # noqa: ASYNC110 - what is seen grows in another task
            await asyncio.sleep(0.01)


async def test_what_one_puts_all_see_once_and_in_order(cluster: str) -> None:
    here, there = PostgresMailbox(cluster), PostgresMailbox(cluster)
    assert isinstance(here, Mailbox)
    await here.put(delivery(0))
    async with watching(here) as seen_here, watching(there) as seen_there:
        await until(seen_there, 1)
        await asyncio.gather(*(box.put(delivery(number)) for number in range(1, 101) for box in (here, there)))
        for seen in (seen_here, seen_there):
            await until(seen, 201)
            assert seen[0] == delivery(0)
            assert sorted(seen, key=lambda one: one.received_at)[1::2] == [delivery(n) for n in range(1, 101)]
        assert seen_here == seen_there


async def test_without_tables_it_makes_them(database: str) -> None:
    mailbox = PostgresMailbox(database)
    await mailbox.put(delivery(1))
    async with watching(mailbox) as seen:
        await until(seen, 1)


async def test_a_database_that_is_not_there_is_told_without_its_password() -> None:
    mailbox = PostgresMailbox("postgresql://wan:s3cret@127.0.0.1:1/films")
    with pytest.raises(CallbackError, match="out of order") as caught:
        await mailbox.put(delivery(1))
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__} {mailbox}"
    with pytest.raises(CallbackError, match="out of order"):
        await anext(mailbox.watch())


async def test_one_that_watches_outlives_the_database() -> None:
    with running(durable=False) as server:
        mailbox = PostgresMailbox(server.new_database())
        async with watching(mailbox) as seen:
            await mailbox.put(delivery(1))
            await until(seen, 1)
            server.stop(signal.SIGQUIT)
            with pytest.raises(CallbackError):
                await mailbox.put(delivery(2))
            await asyncio.to_thread(server.start)
            await mailbox.put(delivery(3))
            await until(seen, 2)
        assert seen == [delivery(1), delivery(3)]

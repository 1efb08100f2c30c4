"""How a delivery gets from the process that receives it to the one that waits, over PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import psycopg

from wanasync import CallbackError, Delivery
from wanasync.cluster.schema import connection_info, label, set_up
from wanasync.webhooks.grouping import GroupWriter

__all__ = ["PostgresMailbox"]

logger: logging.Logger = logging.getLogger("wanasync.cluster")

KEPT = 50_000
SLICE = 500
LOOK_EVERY = 5.0
"""Seconds between two looks where no notification comes."""
ANSWER_WITHIN = 5.0
"""The provider waits 10 s for its callback to be taken."""
AGAIN = 0.5

_CHANNEL = "wanasync_delivery"
_LOCK = 0x77616E63
"""Numbers are given and shown in one order, so that who reads on from a number misses none."""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresMailbox:
    """A mailbox in PostgreSQL, for processes on any machines: `CallbackReceiver(…, mailbox=PostgresMailbox(dsn))`.

    Whichever of them receives a callback, the one that waits for it hears at once (LISTEN / NOTIFY). It outlives the
    processes and keeps the last 50,000 deliveries. The tables are those of `wanasync cluster init`, and are made where
    they are missing, if the user of the database may do that. Put into by one event loop; make another for another.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._where = label(dsn)
        self._writer = GroupWriter(self._write)

    def __repr__(self) -> str:
        return f"PostgresMailbox({self._where!r})"

    async def put(self, delivery: Delivery) -> None:
        """Show it to all who watch. Raises `CallbackError` where the database is out of reach."""
        await self._writer.put(delivery)

    async def _write(self, deliveries: Sequence[Delivery]) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._insert(deliveries)
        except (psycopg.Error, TimeoutError, OSError) as error:
            raise self._error(error) from error

    async def _insert(self, deliveries: Sequence[Delivery]) -> None:
        rows = [(one.idempotency_key, one.task_id, one.received_at) for one in deliveries]
        async with self._connected() as connection, connection.transaction(), connection.cursor() as cursor:
            await cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            await cursor.executemany("INSERT INTO delivery (key, task_id, received_at) VALUES (%s, %s, %s)", rows)
            await cursor.execute("DELETE FROM delivery WHERE id <= (SELECT max(id) FROM delivery) - %s", (KEPT,))
            await cursor.execute("SELECT pg_notify(%s, '')", (_CHANNEL,))

    async def watch(self) -> AsyncGenerator[Delivery, None]:
        """What is kept of earlier deliveries, then each new one, in order; without end.

        A database that goes away meanwhile is waited for. Raises `CallbackError` where it is not there at first.
        """
        last, was_there = 0, False
        while True:
            try:
                async with aclosing(self._watch(last)) as news:
                    async for number, delivery in news:
                        last, was_there = number, True
                        if delivery is not None:
                            yield delivery
            except (psycopg.Error, TimeoutError, OSError) as error:
                if not was_there:
                    raise self._error(error) from error
                logger.warning("%s; it is tried again", self._error(error))
            await asyncio.sleep(AGAIN)

    async def _watch(self, last: int) -> AsyncGenerator[tuple[int, Delivery | None], None]:
        """Each delivery behind `last` with its number, and None where there is none just now."""
        asked = "SELECT id, key, task_id, received_at FROM delivery WHERE id > %s ORDER BY id LIMIT %s"
        async with self._connected() as connection:
            await connection.execute(f"LISTEN {_CHANNEL}".encode())
            while True:
                async with asyncio.timeout(ANSWER_WITHIN):
                    rows = await (await connection.execute(asked, (last, SLICE))).fetchall()
                for last, key, task_id, at in rows:
                    yield last, Delivery(key, task_id, at)
                if not rows:
                    yield last, None
                    async for _ in connection.notifies(timeout=LOOK_EVERY, stop_after=1):
                        pass

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """A connection for each group: one that is kept would have to survive forks, and be closed by somebody."""
        async with await Connection.connect(connection_info(self._dsn), autocommit=True) as connection:
            there = await (await connection.execute("SELECT to_regclass('delivery') IS NOT NULL")).fetchone()
            if not (there and there[0]):
                await set_up(self._dsn)
            yield connection

    def _error(self, error: BaseException) -> CallbackError:
        words = " ".join(str(error).split()) or "the database does not answer"
        return CallbackError(f"the mailbox in {self._where} is out of order: {words}")

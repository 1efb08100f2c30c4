"""The schema is made once, by whoever comes first, and used by those who may do nothing else."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from tests.helpers.postgres import Server
from wanasync import PostgresJournal
from wanasync.edges.journal.schema import CODES
from wanasync.edges.postgres import Database, Journal, migrate
from wanasync.errors import JournalError
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.records import PlannedItem


async def test_many_who_come_first_make_the_tables_once(database: str) -> None:
    async with Database(database) as shared:
        versions = await asyncio.gather(*(migrate(shared) for _ in range(5)))
        assert len(set(versions)) == 1
        assert await shared.fetch("SELECT max(version), count(*) FROM wanasync.migration") == [(versions[0],) * 2]


async def test_the_codes_in_the_tables_are_the_programs(database: str) -> None:
    async with Database(database) as shared:
        await migrate(shared)
        kept = dict(await shared.fetch("SELECT name, code FROM wanasync.state"))
        assert kept == {state.value: code for state, code in CODES.items()}


async def test_tables_of_a_newer_version_are_left_alone(database: str) -> None:
    async with Database(database) as shared:
        await migrate(shared)
        await execute(database, "INSERT INTO wanasync.migration VALUES (999, now())")
        with pytest.raises(JournalError, match="newer wanasync"):
            await migrate(shared)
        with pytest.raises(JournalError, match="newer wanasync"):
            await Journal.open(shared, "films", now=time.time)


async def test_a_role_that_may_only_use_the_tables_can_run_a_batch_and_nothing_more(
    postgres_server: Server, database: str
) -> None:
    name = database.rsplit("/", 1)[1]
    role = f"worker_{name}"
    postgres_server.execute(f'CREATE ROLE "{role}" LOGIN')
    dsn = postgres_server.dsn(name, user=role)
    with pytest.raises(JournalError, match="permission denied"):
        await Journal.open(dsn, "films", now=time.time)
    await PostgresJournal(database).migrate(role=role)
    async with await Journal.open(dsn, "films", now=time.time) as journal:
        (record,) = await journal.plan([PlannedItem(0, VideoRequest("a"))])
        await journal.claim(record, submitted_at=1.0)
        await journal.record(record.key, ItemEvent.ACCEPTED, task_id="task-unified-1")
        await journal.set_meta("pace", "{}")
        assert (await journal.counts())[ItemState.ACCEPTED] == 1
    for forbidden in ("DELETE FROM wanasync.item", "DROP TABLE wanasync.item", "DELETE FROM wanasync.progress"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await execute(dsn, forbidden)


async def execute(dsn: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(statement.encode())

"""The row in which a pace lies that processes share: read, changed and written in one short transaction.

It takes two messages. Between them the row is ours, and for no longer than that setting of the connection allows.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Iterator
from typing import Self

import psycopg
from attrs import frozen
from psycopg import sql

from wanasync.edges.postgres.database import Connection, Database
from wanasync.edges.postgres.messages import BEGIN, COMMIT, Statement, send
from wanasync.edges.postgres.migrations import bring_up
from wanasync.errors import JournalError
from wanasync.rules.pace_record import PaceRecord
from wanasync.rules.pacing import TASK_LIFETIME
from wanasync.rules.shared_pace import VERSION, Answer, Report, SharedPace, TaskNews

__all__ = ["PaceRow"]

logger: logging.Logger = logging.getLogger("wanasync.postgres")

ANSWER_WITHIN = 5.0
"""Seconds that the server has for one transaction."""
_SWEEP_EVERY = 60.0
_SETTINGS: tuple[Statement, ...] = (
    # Who is frozen within a transaction holds the row no longer than that.
    ("SET idle_in_transaction_session_timeout = '2s'", ()),
    ("SET lock_timeout = '4s'", ()),
    # What the last instants before a crash of the server taught is not worth a sync for each submission.
    ("SET synchronous_commit = off", ()),
)
_ADD = "INSERT INTO wanasync.pace (base_url, key_hash) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_FIND = "SELECT id FROM wanasync.pace WHERE base_url = %s AND key_hash = %s"
_LOCK = "SELECT 1 FROM wanasync.pace WHERE id = %s FOR NO KEY UPDATE"
# After the lock in a statement of its own, or state and time were those of before the wait for it.
_READ = """
    SELECT version, state, learned, extract(epoch FROM clock_timestamp() - created_at)::float8
    FROM wanasync.pace WHERE id = %s"""
_BEGIN_TASKS = """
    INSERT INTO wanasync.pace_task (pace, task) SELECT %s, unnest(%s::bigint[])
    ON CONFLICT DO NOTHING RETURNING task"""
_END_TASKS = "DELETE FROM wanasync.pace_task WHERE pace = %s AND task = ANY(%s::bigint[]) RETURNING task"
_SWEEP = """
    DELETE FROM wanasync.pace_task WHERE pace = %s AND since < clock_timestamp() - make_interval(secs => %s)
    RETURNING task"""
_SAVE = """
    UPDATE wanasync.pace SET version = %s, state = %s, learned = %s, changed_at = clock_timestamp() WHERE id = %s"""
_CALL = "SELECT pg_notify(name, '') FROM unnest(%s::text[]) AS name"


@frozen
class _Found:
    """The row; `now` is seconds since it was made, by the server's clock."""

    version: int
    state: str
    learned: str | None
    now: float


class PaceRow:
    """The pace of one base URL and key, for one process and event loop. Made by `open`.

    `on_call` is called when another process says that it is this one's turn, and when the connection was lost.
    """

    def __init__(self, database: Database, identity: int, member: int, on_call: Callable[[], None]) -> None:
        self._database = database
        self._id = identity
        self._member = member
        self._on_call = on_call
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._watched: int | None = None
        self._was_called = False
        self._sweep_at = self._loop.time() + _SWEEP_EVERY
        self._rng = random.Random()  # noqa: S311 - spreads waits, guards nothing

    @classmethod
    async def open(
        cls, dsn: str, base_url: str, api_key: str, *, member: int, on_call: Callable[[], None], patience: float
    ) -> Self:
        """Raises `JournalError`, and `ConfigError` where `dsn` is no address."""
        database = Database(dsn, patience=patience, answer_within=ANSWER_WITHIN, subject="the shared limit")
        # Of this key in this use: nobody can look it up in a table of hashes made for something else.
        key_hash = hashlib.blake2b(api_key.encode(), digest_size=16, person=b"wanasync pace").digest()
        name = (base_url.rstrip("/"), key_hash)

        async def find() -> int:
            async with asyncio.timeout(database.patience), await database.connect("wanasync limit") as connection:
                await bring_up(connection, database.label)
                found = await (await connection.execute(_FIND, name)).fetchone()
                if found is None:
                    await connection.execute(_ADD, name)
                    found = await (await connection.execute(_FIND, name)).fetchone()
                assert found is not None  # noqa: S101 - nobody removes rows
                return int(found[0])

        return cls(database, await database.persist(find, "could not be opened"), member, on_call)

    async def close(self) -> None:
        await self._disconnect()

    async def exchange(self, report: Report) -> Answer:
        """Hand the report in; repeated while the database is out of reach. Raises `JournalError`."""

        async def attempt() -> Answer:
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    connection = await self._connected()
                    answer = await self._transact(connection, report)
            except BaseException:
                await self._disconnect()
                raise
            self._watch(connection)
            return answer

        self._unwatch()
        self._was_called = False
        return await self._database.persist(attempt, "could not be asked")

    # ---- the transaction

    async def _transact(self, connection: Connection, report: Report) -> Answer:
        asked = ((_LOCK, (self._id,)), (_READ, (self._id,)), *self._task_statements(report))
        _, _, found, *tasks = await send(connection, BEGIN, *asked)
        if not found:
            raise self._error("is gone from the database")
        row = _Found(*found[0])
        pace = self._pace(row)
        answer = pace.sync(row.now, report, TaskNews(*[[task for (task,) in changed] for changed in tasks]))
        await send(connection, *self._saving(pace, answer), COMMIT)
        return answer

    def _task_statements(self, report: Report) -> Iterator[Statement]:
        """What gives the parts of `TaskNews`, in their order."""
        yield _BEGIN_TASKS, (self._id, list(report.begun))
        yield _END_TASKS, (self._id, list(report.finished))
        if self._loop.time() >= self._sweep_at:
            self._sweep_at = self._loop.time() + _SWEEP_EVERY
            yield _SWEEP, (self._id, TASK_LIFETIME)

    def _saving(self, pace: SharedPace, answer: Answer) -> Iterator[Statement]:
        yield _SAVE, (VERSION, pace.to_json(), PaceRecord.to_json(answer.learned), self._id)
        if answer.struck:
            yield _END_TASKS, (self._id, list(answer.struck))
        if answer.calls:
            yield _CALL, ([_channel(member) for member in answer.calls],)

    def _pace(self, found: _Found) -> SharedPace:
        if found.version > VERSION:
            raise self._error("is kept by a newer wanasync; update this one")
        if found.version == VERSION:
            try:
                return SharedPace.from_json(found.state, rng=self._rng)
            except ValueError as error:
                logger.warning("%s: the shared limit's state is damaged (%s); it is begun anew", self._label, error)
        return self._begun_anew(found)

    def _begun_anew(self, found: _Found) -> SharedPace:
        pace = SharedPace(rng=self._rng)
        record = PaceRecord.from_json(found.learned) if found.learned else None
        if record is not None:
            pace.start_from(record, found.now, max(found.now - record.at, 0.0))
        return pace

    # ---- the connection

    async def _connected(self) -> Connection:
        if self._connection is None:
            connection = await self._database.connect("wanasync limit")
            try:
                connection.add_notify_handler(self._note_call)
                await send(connection, *_SETTINGS)
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(_channel(self._member))))
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _disconnect(self) -> None:
        self._unwatch()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _watch(self, connection: Connection) -> None:
        """Between transactions nobody else reads from it: whatever comes is a call, or its end."""
        self._watched = connection.fileno()
        self._loop.add_reader(self._watched, self._called)
        if self._was_called:
            self._called()

    def _note_call(self, _: psycopg.Notify) -> None:
        """One that came with the end of our own transaction, after which the state may have changed again."""
        self._was_called = True

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._watched = None

    def _called(self) -> None:
        self._unwatch()
        self._on_call()

    @property
    def _label(self) -> str:
        return self._database.label

    def _error(self, what: str) -> JournalError:
        return JournalError(f"the shared limit {what}", self._label)


def _channel(member: int) -> str:
    return f"wanasync_{member:x}"

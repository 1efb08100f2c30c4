"""Many ask at once, one transaction answers: the group commit of a journal in PostgreSQL.

While a transaction is in flight, whatever is asked for queues up and becomes the next one. Its rows are locked and read
first, `decide` works out in plain Python what becomes of them, and one statement writes them all: two messages, however
many asked. Should we be cut off or frozen between them, the server gives the rows to others after `LET_GO` seconds.

A connection that breaks is made again, for as long as the database's patience lasts. If it broke at the commit, nobody
has heard whether that took place: the writer's own row tells, since its count goes up in the same transaction. It is
asked for under a lock, so that a transaction which the server is still about to end is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from attrs import Factory, define, frozen

from wanasync.edges.journal.schema import key_number
from wanasync.edges.postgres.accounts import LOCK_LEDGER, SAVE_LEDGER, ledger_values, read_ledger
from wanasync.edges.postgres.database import Connection, Database
from wanasync.edges.postgres.messages import BEGIN, COMMIT, Statement, send
from wanasync.edges.postgres.rows import KEEP_ATTEMPTS, LOCK, MARK, UPDATE, attempt_values, columns, read_row
from wanasync.errors import JournalError
from wanasync.rules.claims import Row, StrayTaskError
from wanasync.rules.ledger import Ledger
from wanasync.rules.records import ItemRecord

__all__ = ["Job", "Step", "Writer", "keeping", "writing"]

T = TypeVar("T")

MOST_STEPS = 1000
LET_GO = 5.0
"""Seconds that rows stay locked whose writer says nothing more."""


@frozen
class Step:
    """Something that happens to one item: what its row becomes. `apply` may refuse, which changes nothing."""

    key: str
    apply: Callable[[Row], Row]
    keeps_attempt: bool = False
    """The item's task is to be remembered though it gets another one."""


@frozen
class Job:
    """Anything else, carried out within the transaction; if it raises, its own part is taken back."""

    run: Callable[[Connection], Awaitable[Any]]


@define
class Decision:
    """What the steps of one transaction come to: an answer or a refusal for each, and what is to be written."""

    answers: list[ItemRecord | Exception] = Factory(list)
    changed: dict[int, Row] = Factory(dict)
    attempts: list[tuple[ItemRecord, str | None]] = Factory(list)


def decide(steps: Sequence[Step], found: Mapping[str, Row], ledger: Ledger | None = None) -> Decision:
    """Take the steps one after the other, each from where the one before has left its item, and enter them."""
    rows = dict(found)
    made = Decision()
    for step in steps:
        try:
            made.answers.append(_take(step, rows, made, ledger))
        except StrayTaskError as error:
            made.attempts.append((rows[step.key].record, error.task_id))
            made.answers.append(error)
        except Exception as error:  # noqa: BLE001 - the caller's own; it is raised to that caller
            made.answers.append(error)
    return made


def _take(step: Step, rows: dict[str, Row], made: Decision, ledger: Ledger | None) -> ItemRecord:
    before = rows.get(step.key)
    if before is None:
        raise JournalError(f"there is no item {step.key} in the journal")
    after = step.apply(before)
    if after != before:
        if ledger is not None:
            ledger.move(before.record, after.record)
        rows[step.key] = made.changed[after.record.seq] = after
    if step.keeps_attempt and before.record.task_id is not None:
        made.attempts.append((before.record, None))
    return after.record


class Writer:
    """The one connection that writes for a journal. `regain` prepares each new connection; it may refuse it."""

    def __init__(
        self,
        database: Database,
        writer_id: UUID,
        name: str,
        *,
        batch: int,
        journal_id: str,
        connection: Connection,
        regain: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._database = database
        self._id = writer_id
        self._name = name
        self._batch = batch
        self._journal_id = journal_id
        self._connection: Connection | None = connection
        self._regain = regain
        self._commits = 0
        self._unheard: Sequence[Any] | None = None
        self._queue: list[tuple[Step | Job, asyncio.Future[Any]]] = []
        self._pump: asyncio.Task[None] | None = None
        self._broken: JournalError | None = None
        self._is_closed = False

    def do(self, operation: Step | Job) -> asyncio.Future[Any]:
        """What the operation gives, once it is durable."""
        if self._is_closed:
            raise JournalError("the journal is closed", self._database.label)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((operation, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._write_all())
        return future

    async def close(self) -> None:
        """Write what is queued, then let the connection go."""
        self._is_closed = True
        if self._pump is not None:
            await self._pump
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.execute("DELETE FROM wanasync.writer WHERE id = %s", (self._id,))
            await connection.close()

    async def _write_all(self) -> None:
        while self._queue:
            # What the other coroutines of this turn ask for shares the commit.
            await asyncio.sleep(0)
            group = self._next_group()
            answers = await self._answers([operation for operation, _ in group])
            for (_, future), answer in zip(group, answers, strict=True):
                _answer(future, answer)
        self._pump = None

    def _next_group(self) -> list[tuple[Step | Job, asyncio.Future[Any]]]:
        """What comes next of one kind: jobs take their time, and no row of a step is to be locked meanwhile."""
        kind = type(self._queue[0][0])
        alike = itertools.takewhile(lambda queued: type(queued[0]) is kind, self._queue)
        group = list(itertools.islice(alike, MOST_STEPS))
        del self._queue[: len(group)]
        return group

    async def _answers(self, operations: Sequence[Step | Job]) -> Sequence[Any]:
        if self._broken is None:
            try:
                return await self._commit(operations)
            except JournalError as error:
                self._broken = error
            except Exception as error:  # noqa: BLE001 - a fault of ours must not leave the callers waiting
                self._broken = self._database.error("could not be written", error)
        broken = self._broken
        return [JournalError(broken.message, broken.path) for _ in operations]

    async def _commit(self, operations: Sequence[Step | Job]) -> Sequence[Any]:
        self._commits += 1
        self._unheard = None

        async def attempt() -> Sequence[Any]:
            try:
                async with asyncio.timeout(self._database.answer_within):
                    connection = await self._connected()
                    if self._unheard is not None and await self._took_place(connection):
                        return self._unheard
                    self._unheard = None
                    return await self._transact(connection, operations)
            except BaseException:
                await self._disconnect()
                raise

        return await self._database.persist(attempt, "could not be written")

    async def _connected(self) -> Connection:
        if self._connection is None:
            connection = await self._database.connect(self._name)
            try:
                await self._regain(connection)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _took_place(self, connection: Connection) -> bool:
        """Whether the commit of which nobody heard was carried out."""
        asked = "SELECT commits FROM wanasync.writer WHERE id = %s FOR UPDATE"
        row = await (await connection.execute(asked, (self._id,))).fetchone()
        return row is not None and row[0] == self._commits

    async def _transact(self, connection: Connection, operations: Sequence[Step | Job]) -> Sequence[Any]:
        steps = [operation for operation in operations if isinstance(operation, Step)]
        jobs = [operation for operation in operations if isinstance(operation, Job)]
        return await (self._take_steps(connection, steps) if steps else self._do_jobs(connection, jobs))

    async def _do_jobs(self, connection: Connection, jobs: Sequence[Job]) -> Sequence[Any]:
        async with connection.transaction():
            await send(connection, self._mark())
            answers = [await _run(connection, job) for job in jobs]
            # What they are if the commit, which comes now, takes place and nobody hears of it.
            self._unheard = answers
        return answers

    async def _take_steps(self, connection: Connection, steps: Sequence[Step]) -> Sequence[ItemRecord | Exception]:
        keys = sorted({key_number(step.key) for step in steps})
        let_go = f"SET LOCAL idle_in_transaction_session_timeout = {LET_GO * 1000:.0f}"
        locking = [(LOCK, (keys, self._batch)), (LOCK_LEDGER, (self._batch,))]
        *_, locked, money = await send(connection, BEGIN, (let_go, ()), self._mark(), *locking)
        found = (read_row(values, self._journal_id) for values in locked)
        ledger = read_ledger(money)
        made = decide(steps, {row.record.key: row for row in found}, ledger)
        written = [*writing(self._batch, self._id, list(made.changed.values())), *keeping(self._batch, made.attempts)]
        if ledger is not None:
            written.append((SAVE_LEDGER, ledger_values(self._batch, ledger)))
        self._unheard = made.answers
        await send(connection, *written, COMMIT)
        return made.answers

    def _mark(self) -> Statement:
        return MARK, (self._id, self._batch, self._name, self._commits)


def writing(batch: int, writer_id: UUID, rows: Sequence[Row]) -> list[Statement]:
    """What writes these rows; nothing for none."""
    return [(UPDATE, (batch, writer_id, *columns(rows)))] if rows else []


def keeping(batch: int, attempts: Sequence[tuple[ItemRecord, str | None]]) -> list[Statement]:
    """What keeps the tasks that items had beside their present ones."""
    return [(KEEP_ATTEMPTS, attempt_values(batch, record, task_id)) for record, task_id in attempts]


async def _run(connection: Connection, job: Job) -> Any:
    try:
        async with connection.transaction():
            return await job.run(connection)
    except (JournalError, ValueError) as error:
        return error


def _answer(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)

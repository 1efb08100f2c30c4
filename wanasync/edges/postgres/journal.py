"""The journal of a batch in PostgreSQL, as coroutines see it."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import attrs
import psycopg

from wanasync.edges.journal.schema import CODES, STATES, key_number
from wanasync.edges.postgres.accounts import TERMS, allow, enter
from wanasync.edges.postgres.clocks import clocks, seconds_since
from wanasync.edges.postgres.database import Connection, Database, fetch
from wanasync.edges.postgres.holding import (
    END_FORMER,
    HOLDERS,
    LOCK_CLASS,
    Identity,
    application,
    hold,
    holder,
    identify,
    try_to_hold,
)
from wanasync.edges.postgres.messages import send
from wanasync.edges.postgres.planner import Plan, Planner, check_writable
from wanasync.edges.postgres.rows import (
    CHANGED,
    FIND,
    FIND_ROW,
    FIND_ROWS,
    KEEP_SAMPLE,
    LOCK_OVERDUE,
    SAMPLES,
    check_snapshot,
    read_row,
    sample_values,
    slice_query,
)
from wanasync.edges.postgres.writer import Job, Step, Writer, writing
from wanasync.errors import JournalError
from wanasync.models import PaceSample
from wanasync.rules.claims import (
    ANSWERS,
    ON_THE_WIRE,
    Claim,
    Row,
    StaleClaimError,
    StrayTaskError,
    answered,
    claimed,
    interrupted,
    is_stale,
)
from wanasync.rules.ledger import Terms
from wanasync.rules.lifecycle import ItemEvent, ItemState, TransitionError
from wanasync.rules.records import ItemRecord, PlannedItem, Totals, advance, check_changes
from wanasync.rules.samples import superfluous

__all__ = ["CHUNK", "Journal"]

CHUNK = 500
"""Items read in one query."""
PLANNED_AT_ONCE = 5000
"""Items planned in one transaction."""

_REGAIN_TRIES, _REGAIN_WAIT = 20, 0.1


class Journal:
    """The journal of one batch among many in a database, for one event loop. Made by `open`.

    A journal has the batch to itself, unless all who work on it open it as `shared`. Either way a submission may be
    sent only on a claim (see `rules.claims`), so that even a process that was taken for dead pays for nothing twice.
    """

    def __init__(
        self,
        database: Database,
        identity: Identity,
        connection: Connection | None,
        *,
        directory: Path | None,
        now: Callable[[], float],
        shared: bool,
        owns_database: bool,
    ) -> None:
        self._database = database
        self._me = identity
        self._now = now
        self._shared = shared
        self._owns_database = owns_database
        self._loop = asyncio.get_running_loop()
        self._first_new_seq = identity.last_seq + 1
        self._planner = Planner(identity, directory)
        self._planning = asyncio.Lock()
        self._claims: dict[str, Claim] = {}
        self._taken_over: str | None = None
        self._interrupted = 0
        self._closed: asyncio.Future[None] | None = None
        self._writer: Writer | None = None
        if connection is not None:
            self._writer = Writer(
                database,
                identity.writer,
                application(identity.writer),
                batch=identity.batch,
                journal_id=identity.journal_id,
                connection=connection,
                regain=self._regain,
            )

    @classmethod
    async def open(
        cls,
        database: Database | str,
        batch: str,
        *,
        now: Callable[[], float],
        directory: Path | None = None,
        read_only: bool = False,
        shared: bool = False,
        patience: float = 60.0,
    ) -> Self:
        """Open the journal of the batch of this name, making it, and the tables, where they are missing.

        `now` gives unix seconds; `directory` is where videos lie that no item may overwrite. `database` may be an
        address: then the connections are the journal's own, and so is `patience`. Submissions that another process has
        left without an answer become `unknown`, and `interrupted` counts them; with `shared` that is
        `settle_interrupted`'s to do, since others may be waiting for theirs. With `read_only` nothing is made or
        changed.
        """
        owns = isinstance(database, str)
        database = await Database(database, patience=patience).__aenter__() if isinstance(database, str) else database
        try:
            return await cls._open(database, batch, owns, now=now, directory=directory, shared=shared, only=read_only)
        except psycopg.Error as error:
            await database.close() if owns else None
            raise database.error("can't be opened", error) from error
        except BaseException:
            await database.close() if owns else None
            raise

    @classmethod
    async def _open(
        cls,
        database: Database,
        batch: str,
        owns: bool,
        *,
        now: Callable[[], float],
        directory: Path | None,
        shared: bool,
        only: bool,
    ) -> Self:
        writer_id = uuid4()
        connection = await database.connect(application(writer_id))
        try:
            identity = await identify(connection, database, batch, writer_id, read_only=only)
            used = directory if directory is not None and await asyncio.to_thread(_has_files, directory) else None
            if only:
                await connection.close()
                return cls(database, identity, None, directory=used, now=now, shared=shared, owns_database=owns)
            await hold(connection, identity, database.label, shared=shared)
            journal = cls(database, identity, connection, directory=used, now=now, shared=shared, owns_database=owns)
        except BaseException:
            await connection.close()
            raise
        if not shared:
            journal._interrupted = len(await journal.settle_interrupted(0))
        return journal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def interrupted(self) -> int:
        """How many submissions were found without an answer at opening; they are `unknown` now."""
        return self._interrupted

    @property
    def database(self) -> Database:
        return self._database

    async def holder(self) -> str | None:
        """Who works on the batch now, in words for a user; None for nobody."""
        names = await self._database.fetch(HOLDERS, LOCK_CLASS, self._me.batch)
        return ", ".join(name for (name,) in names) or None

    # Planning

    async def plan(self, items: Sequence[PlannedItem]) -> list[ItemRecord]:
        """As the contract says; in chunks of `PLANNED_AT_ONCE`, each of which is written whole or not at all."""
        records: list[ItemRecord] = []
        for start in range(0, len(items), PLANNED_AT_ONCE):
            chunk = items[start : start + PLANNED_AT_ONCE]
            check_writable(chunk)
            # What comes again in a later chunk is told from what came in an earlier one.
            async with self._planning:
                plan: Plan = await self._do(Job(functools.partial(self._planner.plan, chunk)))
                self._planner.remember(plan)
            records += plan.records
        return records

    def is_listed(self, record: ItemRecord) -> bool:
        return record.seq in self._planner.listed

    async def list_all(self) -> None:
        self._planner.listed.add_all()

    async def unlisted(self) -> frozenset[int]:
        return frozenset(seq for seq in range(1, self._first_new_seq) if seq not in self._planner.listed)

    # What happens to items

    async def claim(self, record: ItemRecord, *, submitted_at: float) -> ItemRecord:
        """As the contract says. A process that has lost the batch to another claims nothing more."""
        if self._taken_over is not None:
            raise JournalError(
                f"{self._taken_over} works on the batch now; nothing more is submitted here", self._where
            )
        begun = clocks()
        token = uuid4()
        claiming = functools.partial(claimed, seen=record, token=token, submitted_at=submitted_at, now=self._now())
        made = self._do(Step(record.key, claiming))
        try:
            after: ItemRecord = await asyncio.shield(made)
        except asyncio.CancelledError:
            made.add_done_callback(functools.partial(self._give_back, token))
            raise
        self._claims[record.key] = Claim(token, after.state)
        if is_stale(age := seconds_since(begun)):
            await self.record(record.key, ItemEvent.NOT_TAKEN)
            raise StaleClaimError(f"the claim on item {record.key} took {age:.1f} s", self._where)
        return after

    def _give_back(self, token: UUID, made: asyncio.Future[ItemRecord]) -> None:
        """Whoever claimed is gone, and has sent nothing."""
        if made.cancelled() or made.exception() is not None or self._closed is not None:
            return
        record = made.result()
        claim = Claim(token, record.state)
        giving = functools.partial(answered, claim=claim, event=ItemEvent.NOT_TAKEN, changes={}, now=self._now())
        self._do(Step(record.key, giving)).add_done_callback(_forget)

    async def record(self, key: str, event: ItemEvent, **changes: Any) -> ItemRecord:
        check_changes(event, changes)
        if event in ANSWERS:
            return await self._record_answer(key, event, changes)
        if event in (ItemEvent.SUBMIT, ItemEvent.RESUBMIT):
            raise TypeError(f"{event} goes by `claim`")
        happening = functools.partial(_advanced, event=event, changes=changes, now=self._now())
        happened: ItemRecord = await self._do(Step(key, happening, keeps_attempt=event is ItemEvent.RETRY))
        return happened

    async def _record_answer(self, key: str, event: ItemEvent, changes: Mapping[str, Any]) -> ItemRecord:
        claim = self._claims.get(key)
        if claim is None:
            raise TransitionError(f"{event}: the item was not claimed here", self._where, None, event)
        answering = functools.partial(answered, claim=claim, event=event, changes=changes, now=self._now())
        try:
            after: ItemRecord = await self._do(Step(key, answering))
        except (TransitionError, StrayTaskError):
            self._claims.pop(key, None)
            raise
        self._claims.pop(key, None)
        return after

    async def settle_interrupted(self, older_than: float) -> list[ItemRecord]:
        """Take claims of others for dead whose submissions were sent `older_than` seconds ago, by the server's clock.

        They become `unknown`; should one's maker be alive after all, its answer still counts. `older_than` should be
        longer than a submission can take.
        """
        settled: list[ItemRecord] = await self._do(Job(functools.partial(self._settle, older_than)))
        return settled

    async def _settle(self, older_than: float, connection: Connection) -> list[ItemRecord]:
        me = self._me
        codes = [CODES[state] for state in ON_THE_WIRE]
        (found,) = await send(connection, (LOCK_OVERDUE, (me.batch, codes, me.writer, older_than)))
        rows = [interrupted(read_row(row, me.journal_id), now=self._now()) for row in found]
        if not rows:
            return []
        await send(connection, *writing(me.batch, me.writer, rows))
        before = (read_row(row, me.journal_id).record for row in found)
        await enter(connection, me.batch, zip(before, (row.record for row in rows), strict=True))
        return [row.record for row in rows]

    # Money

    async def allow(self, *, budget: float | None = None, limit: int | None = None) -> Terms | None:
        me = self._me

        async def change(connection: Connection) -> Terms | None:
            return await allow(connection, me.batch, me.journal_id, budget, limit)

        terms: Terms | None = await self._do(Job(change))
        return terms

    async def terms(self) -> Terms | None:
        rows = await self._fetch(TERMS)
        return Terms(*rows[0]) if rows else None

    # Reading

    async def get(self, key: str) -> ItemRecord:
        found = await self.find([key])
        if key not in found:
            raise JournalError(f"there is no item {key} in the journal", self._where)
        return found[key]

    async def find(self, keys: Sequence[str]) -> Mapping[str, ItemRecord]:
        self._check()
        rows = await self._database.fetch(FIND, [key_number(key) for key in keys], self._me.batch)
        records = (read_row(row, self._me.journal_id).record for row in rows)
        return {record.key: record for record in records}

    async def iter_items(self, states: Iterable[ItemState] | None = None) -> AsyncIterator[ItemRecord]:
        async for chunk in self.slices(states):
            for record in chunk:
                yield record

    async def slices(self, states: Iterable[ItemState] | None = None) -> AsyncIterator[list[ItemRecord]]:
        for state in [None] if states is None else sorted(set(states), key=CODES.__getitem__):
            after = 0
            while rows := await self._fetch(slice_query(state), after, CHUNK):
                chunk = [read_row(row, self._me.journal_id).record for row in rows]
                yield chunk
                after = chunk[-1].seq

    async def rows(self, first: int, last: int) -> list[ItemRecord]:
        """The items in the rows from `first` to `last`, both included."""
        found = await self._fetch(FIND_ROWS, first, last)
        return [read_row(row, self._me.journal_id).record for row in found]

    async def known_tasks(self, task_ids: Sequence[str]) -> Mapping[str, float | None]:
        rows = await self._database.fetch(_KNOWN_TASKS, *(self._me.batch, list(task_ids)) * 2)
        return dict(rows)

    # For those who look on

    async def version(self) -> str:
        self._check()
        ((snapshot,),) = await self._database.fetch("SELECT pg_current_snapshot()::text")
        return str(snapshot)

    async def mark(self) -> str:
        """What the server shows now: times are each writer's own, and no order of them says what has been seen."""
        return await self.version()

    async def changes(self, since: str) -> tuple[str, list[ItemRecord]]:
        check_snapshot(since)
        mark, found, after = await self.version(), list[ItemRecord](), 0
        while rows := await self._fetch(CHANGED, after, since, since, mark, CHUNK):
            found += [read_row(row, self._me.journal_id).record for row in rows]
            after = found[-1].seq
        return mark, found

    async def last_row(self) -> int:
        ((seq,),) = await self._fetch("SELECT last_seq FROM wanasync.batch WHERE id = %s")
        return int(seq)

    async def row(self, seq: int) -> ItemRecord | None:
        rows = await self._fetch(FIND_ROW, seq)
        return read_row(rows[0], self._me.journal_id).record if rows else None

    def add_sample(self, sample: PaceSample, *, thin: bool = False) -> asyncio.Future[None]:
        async def keep(connection: Connection) -> None:
            await connection.execute(KEEP_SAMPLE, sample_values(self._me.batch, sample))
            if thin:
                kept = await fetch(connection, _SAMPLED_AT, self._me.batch)
                dropped = superfluous([(at, run) for at, run in kept], sample.at)
                await connection.execute(_DROP_SAMPLES, (self._me.batch, dropped))

        return self._do(Job(keep))

    async def samples(self, after: float = 0.0) -> list[PaceSample]:
        return [PaceSample(*row) for row in await self._fetch(SAMPLES, after)]

    async def counts(self) -> Mapping[ItemState, int]:
        rows = await self._fetch("SELECT state, count(*) FROM wanasync.progress WHERE batch = %s GROUP BY state")
        return MappingProxyType(dict.fromkeys(ItemState, 0) | {STATES[code]: items for code, items in rows})

    async def totals(self) -> Totals:
        free = [CODES[state] for state in ItemState if not _costs(state)]
        (sums,) = await self._database.fetch(_TOTALS, free, self._me.batch)
        # Adding fractions leaves dust, which nobody wants to read in a report.
        return Totals(*(round(value, 6) for value in sums))

    async def get_meta(self, name: str) -> str | None:
        rows = await self._fetch("SELECT value FROM wanasync.meta WHERE batch = %s AND name = %s", name)
        return rows[0][0] if rows else None

    async def set_meta(self, name: str, value: str) -> None:
        async def keep(connection: Connection) -> None:
            await connection.execute(_SET_META, (self._me.batch, name, value))

        await self._do(Job(keep))

    async def close(self) -> None:
        if self._closed is None:
            self._closed = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closed)

    async def _close(self) -> None:
        try:
            if self._writer is not None:
                await self._writer.close()
        finally:
            if self._owns_database:
                await self._database.close()

    # Connections

    @property
    def _where(self) -> str:
        return self._database.label

    def _check(self) -> None:
        if self._closed is not None:
            raise JournalError("the journal is closed", self._where)
        if asyncio.get_running_loop() is not self._loop:
            raise JournalError("the journal belongs to another event loop", self._where)

    def _do(self, operation: Step | Job) -> asyncio.Future[Any]:
        self._check()
        if self._writer is None:
            raise JournalError("the journal was opened to be read", self._where)
        return self._writer.do(operation)

    async def _fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        self._check()
        return await self._database.fetch(query, self._me.batch, *values)

    async def _regain(self, connection: Connection) -> None:
        """After a connection was lost: end what the server may still hold for it, and hold the batch again."""
        await connection.execute(END_FORMER, (application(self._me.writer),))
        for _ in range(_REGAIN_TRIES):
            if await try_to_hold(connection, self._me.batch, shared=self._shared):
                return
            await asyncio.sleep(_REGAIN_WAIT)
        # Answers to what is on the wire are written down all the same: each has its claim.
        self._taken_over = await holder(connection, self._me.batch)


_SET_META = """
INSERT INTO wanasync.meta VALUES (%s, %s, %s) ON CONFLICT (batch, name) DO UPDATE SET value = excluded.value
"""
_SAMPLED_AT = "SELECT at, run FROM wanasync.pace_sample WHERE batch = %s ORDER BY at"
_DROP_SAMPLES = "DELETE FROM wanasync.pace_sample WHERE batch = %s AND at = ANY(%s)"
_KNOWN_TASKS = """
SELECT task_id, submitted_at FROM wanasync.attempt WHERE batch = %s AND task_id = ANY(%s)
UNION ALL
SELECT task_id, submitted_at FROM wanasync.progress WHERE batch = %s AND task_id = ANY(%s)
"""
_TOTALS = """
SELECT coalesce(sum(credits_reserved), 0), coalesce(sum(credits_used), 0),
    coalesce(sum(coalesce(credits_used, credits_reserved)) FILTER (WHERE state <> ALL(%s)), 0)
FROM wanasync.progress WHERE batch = %s
"""


def _advanced(row: Row, *, event: ItemEvent, changes: Mapping[str, Any], now: float) -> Row:
    return attrs.evolve(row, record=advance(row.record, event, changes, now=now))


def _forget(done: asyncio.Future[Any]) -> None:
    """Nobody waits for it; an error is no news to anybody, since the claim then stays until it is settled."""
    if not done.cancelled():
        done.exception()


def _costs(state: ItemState) -> bool:
    return state not in (ItemState.PLANNED, ItemState.REJECTED, ItemState.FAILED)


def _has_files(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(True for _ in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False

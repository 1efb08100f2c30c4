"""The journal of a batch: what was asked for, paid for and saved, on disk before anything else happens.

A directory holds one journal, `.wanasync/journal.db`, and one process at a time writes it (`.wanasync/lock`); others
may read it meanwhile. What a method has returned is on the disk: committed and synced.

One thread does the writing. While it commits, whatever is asked for queues up and becomes the next commit: alone, a
record costs one sync; a hundred writers share one. There is no window to wait out, so neither case is slowed for the
other's sake.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import secrets
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import attrs

from wanasync.edges.lock import DirectoryLock, holder_of
from wanasync.errors import JournalError, RequestValidationError
from wanasync.rules.lifecycle import PAID_STATES, TRANSITIONS, ItemEvent, ItemState
from wanasync.rules.naming import file_name, name_key, numbered, wanted_name
from wanasync.rules.records import (
    ItemRecord,
    PlannedItem,
    Totals,
    advance,
    check_changes,
    identity_of,
    item_key,
    replanned,
)

__all__ = ["FOLDER", "Journal"]

FOLDER = ".wanasync"
DATABASE = "journal.db"
LOCK = "lock"

CHUNK = 500
"""Items planned, or read, in one step of the writer: some milliseconds, so that submissions don't wait for a list."""

APPLICATION_ID = 0x77616E61
"""Tells our databases from others' ("wana")."""

_BUSY_SECONDS = 10.0
_CHECKED_BYTES = 64 * 2**20
_MAX_REPETITIONS = 10_000
_MAX_RECENT = 5_000

T = TypeVar("T")

# An item's request never changes and is long; its progress changes often and is short. Kept apart, an update rewrites a
# page of forty items instead of ten, and the long rows stay packed.
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE item (
        seq INTEGER PRIMARY KEY,
        key INTEGER NOT NULL UNIQUE,
        idx INTEGER NOT NULL,            -- place in the list, from 0
        item_id TEXT,
        request TEXT NOT NULL,           -- canonical JSON
        file TEXT NOT NULL               -- relative to the directory above .wanasync
    )
    """,
    # Of item.file, folded: a file is one item's.
    "CREATE TABLE name (hash INTEGER PRIMARY KEY, seq INTEGER NOT NULL)",
    """
    CREATE TABLE progress (
        seq INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,          -- see the table state
        attempt INTEGER NOT NULL,
        task_id TEXT,
        submitted_at REAL,               -- unix seconds, as all times
        estimated_time REAL,
        credits_reserved REAL,
        credits_used REAL,
        links TEXT,                      -- JSON array
        link_deadline REAL,
        bytes INTEGER,
        sha256 BLOB,
        error_code TEXT,
        error_message TEXT,
        updated_at REAL
    )
    """,
    "CREATE INDEX progress_unsaved ON progress(state) WHERE state <> 4",
    "CREATE TABLE state (code INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    """
    CREATE TABLE tally (
        state INTEGER PRIMARY KEY,
        items INTEGER NOT NULL,
        credits_reserved REAL NOT NULL,
        credits_used REAL NOT NULL,
        committed REAL NOT NULL
    )
    """,
)

# On disk for ever: append, never renumber.
_CODES: Mapping[ItemState, int] = MappingProxyType(
    {
        ItemState.PLANNED: 0,
        ItemState.SUBMITTING: 1,
        ItemState.ACCEPTED: 2,
        ItemState.READY: 3,
        ItemState.SAVED: 4,
        ItemState.FAILED: 5,
        ItemState.REJECTED: 6,
        ItemState.UNKNOWN: 7,
        ItemState.EXPIRED: 8,
        ItemState.RESUBMITTING: 9,
    }
)
_STATES = {code: state for state, code in _CODES.items()}
_PLANNED, _SAVED = _CODES[ItemState.PLANNED], _CODES[ItemState.SAVED]


def _create(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    db.executemany("INSERT INTO state VALUES (?, ?)", [(code, state.value) for state, code in _CODES.items()])
    db.executemany("INSERT INTO tally VALUES (?, 0, 0, 0, 0)", [(code,) for code in _STATES])
    db.execute("INSERT INTO meta VALUES ('journal_id', ?)", (secrets.token_hex(16),))


# Each brings a database from its place in the tuple to the next version.
_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create,)

_COLUMNS = (
    "item.key, item.seq, item.idx, item.item_id, item.request, item.file, state, attempt, task_id, submitted_at, "
    "estimated_time, credits_reserved, credits_used, links, link_deadline, bytes, sha256, error_code, error_message, "
    "updated_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM item JOIN progress USING (seq)"  # noqa: S608 - constants only
_UPDATE = (
    "UPDATE progress SET state = ?, attempt = ?, task_id = ?, submitted_at = ?, estimated_time = ?, "
    "credits_reserved = ?, credits_used = ?, links = ?, link_deadline = ?, bytes = ?, sha256 = ?, error_code = ?, "
    "error_message = ?, updated_at = ? WHERE seq = ? AND state = ?"
)
_TALLY = (
    "UPDATE tally SET items = items + ?, credits_reserved = credits_reserved + ?, credits_used = credits_used + ?, "
    "committed = committed + ? WHERE state = ?"
)


class Journal:
    """The journal of one directory, for one event loop. Made by `open`; every method raises `JournalError`.

    A caller that is cancelled does not take its write back: it is carried out, and `get` tells afterwards. After a
    commit has failed the journal refuses everything, since what it would write next could contradict what it lost.
    """

    def __init__(self, store: _Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wanasync-journal")
        self._queue: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._writing = False
        self._closed: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, directory: Path | str, *, now: Callable[[], float], read_only: bool = False) -> Self:
        """Open the journal of `directory`, making both where they are missing; `now` gives unix seconds.

        Items found `submitting` were cut off by a crash and become `unknown`; `interrupted` counts them. With
        `read_only` nothing is made, changed or locked, and a run in progress may be looked at.
        """
        journal = cls(_Store(Path(directory), read_only), now)
        opening = journal._loop.run_in_executor(journal._executor, journal._store.open, now())
        try:
            await asyncio.shield(opening)
        except BaseException:
            # Behind the opening, in the same thread: a lock taken meanwhile is given back.
            journal._close_now()
            opening.add_done_callback(_forget)
            raise
        return journal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def directory(self) -> Path:
        return self._store.directory

    @property
    def holder(self) -> str | None:
        """Which process works on the directory now, in words for a user; None for nobody."""
        return holder_of(self._store.path.parent / LOCK)

    @property
    def interrupted(self) -> int:
        """How many submissions an earlier run left without an answer; they are `unknown` now."""
        return self._store.interrupted

    async def plan(self, items: Sequence[PlannedItem]) -> list[ItemRecord]:
        """The record of each item, in their order; items the journal doesn't know are written down as planned.

        Items come in their list's order, over any number of calls; one journal is opened for one pass over the list,
        since an item that comes again is a repetition: another item with the same content. Raises
        `RequestValidationError` where an id comes twice or stands for another request than the one paid for, and
        where a wanted file is another item's.
        """
        records: list[ItemRecord] = []
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            records += await self._do(functools.partial(self._store.plan, chunk))
        return records

    async def record(self, key: str, event: ItemEvent, **changes: Any) -> ItemRecord:
        """Write down what happened to an item; its record after that, once it is safe on disk.

        `changes` are fields of `ItemRecord`. Raises `TransitionError` where this can't happen to an item in its state
        (another event came first): nothing was written.
        """
        check_changes(event, changes)
        return await self._do(functools.partial(self._store.record, key, event, changes, self._now()))

    async def get(self, key: str) -> ItemRecord:
        """The record of an item, after all that was asked for before. Raises `JournalError` if there is none."""
        return await self._do(functools.partial(self._store.get, key))

    async def iter_items(self, states: Iterable[ItemState] | None = None) -> AsyncIterator[ItemRecord]:
        """All items in the order they were first planned; or those in `states`, state after state as life goes.

        Read in slices: an item that changes its state meanwhile may come again in a later state, or not at all.
        """
        for state in [None] if states is None else sorted(set(states), key=_CODES.__getitem__):
            after = 0
            while chunk := await self._do(functools.partial(self._store.slice, state, after)):
                for record in chunk:
                    yield record
                after = chunk[-1].seq

    def is_listed(self, record: ItemRecord) -> bool:
        """Whether the item came in a list planned since the journal was opened."""
        return self._store.is_listed(record.seq)

    async def counts(self) -> Mapping[ItemState, int]:
        """How many items are in each state; every state has an entry."""
        return await self._do(self._store.counts)

    async def totals(self) -> Totals:
        """The credits of all items."""
        return await self._do(self._store.totals)

    async def get_meta(self, name: str) -> str | None:
        """What was kept under `name` with `set_meta`."""
        return await self._do(functools.partial(self._store.get_meta, name))

    async def set_meta(self, name: str, value: str) -> None:
        await self._do(functools.partial(self._store.set_meta, name, value))

    async def close(self) -> None:
        """Write what is queued, then let the directory go. Cancelling the wait doesn't stop it."""
        if self._closed is None:
            self._closed = self._close_now()
        await asyncio.shield(self._closed)

    def _close_now(self) -> asyncio.Future[None]:
        if self._queue:
            self._start()
        closed = self._loop.run_in_executor(self._executor, self._store.close)
        self._executor.shutdown(wait=False)
        return closed

    def _do(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed is not None:
            raise JournalError("the journal is closed", str(self._store.path))
        if asyncio.get_running_loop() is not self._loop:
            raise JournalError("the journal belongs to another event loop", str(self._store.path))
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((operation, future))
        if not self._writing:
            self._writing = True
            # Not at once: what the other coroutines of this turn ask for shares the commit.
            self._loop.call_soon(self._start)
        return future

    def _start(self) -> None:
        batch, self._queue = self._queue, []
        if not batch:
            self._writing = False
            return
        job = self._loop.run_in_executor(self._executor, self._store.run, [operation for operation, _ in batch])
        job.add_done_callback(functools.partial(self._finish, batch))

    def _finish(
        self, batch: list[tuple[Callable[[], Any], asyncio.Future[Any]]], job: asyncio.Future[list[Any]]
    ) -> None:
        error = job.exception()
        answers = [error] * len(batch) if error else job.result()
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if self._closed is None:
            # After those who were just answered: what they ask for next shares the commit too.
            self._loop.call_soon(self._start)


def _forget(opening: asyncio.Future[None]) -> None:
    """The caller is gone; an error of the opening that nobody awaits is no news to anybody."""
    if not opening.cancelled():
        opening.exception()


class _Store:
    """The database, for one thread: the writer's. Nothing here waits for anything but the disk."""

    def __init__(self, directory: Path, read_only: bool) -> None:
        self.directory = directory
        self.path = directory / FOLDER / DATABASE
        self.interrupted = 0
        self._read_only = read_only
        self._lock = DirectoryLock(directory / FOLDER / LOCK)
        self._connection: sqlite3.Connection | None = None
        self._broken: JournalError | None = None
        self._tally: dict[int, list[float]] = {}
        self.journal_id = ""
        self.last_seq = 0
        self.first_new_seq = 1
        self._listed = bytearray()
        self._has_files = False
        self.repetitions: dict[int, int] = {}
        # What was written last, so that an item's next step needn't read it again. Only this process writes, and each
        # write compares the state on disk all the same.
        self._recent: dict[str, ItemRecord] = {}

    # Opening and closing

    def open(self, now: float) -> None:
        try:
            self._open(now)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._error("can't be opened", error) from error
        except BaseException:
            self.close()
            raise

    def _open(self, now: float) -> None:
        if self._read_only:
            self._connect_to_read()
        else:
            self._prepare_directory()
            self._lock.acquire()
            self._connect_to_write()
        self._check_ours()
        if not self._read_only:
            with self._transaction():
                self._migrate()
                self._settle_interrupted(now)
        self._check_whole()
        self.journal_id = self.get_meta("journal_id") or ""
        self.last_seq = self._db.execute("SELECT coalesce(max(seq), 0) FROM item").fetchone()[0]
        self.first_new_seq = self.last_seq + 1
        self._listed = bytearray(self.last_seq // 8 + 1)

    def _prepare_directory(self) -> None:
        folder = self.path.parent
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if new:
            # The journal is only as durable as the names that lead to it.
            for made in (folder, self.directory, self.directory.absolute().parent):
                _sync_directory(made)
        with os.scandir(self.directory) as entries:
            self._has_files = any(entry.name != FOLDER for entry in entries)

    def _connect_to_write(self) -> None:
        db = self._connect(self.path.absolute().as_uri() + "?mode=rwc")
        # Where write-ahead logging can't be had (some network drives), SQLite stays with its rollback journal,
        # which is as durable and slower.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # On macOS only this makes a sync reach the disk; elsewhere it does nothing.
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA checkpoint_fullfsync = ON")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        db.execute("PRAGMA journal_size_limit = 67108864")
        db.execute("PRAGMA cache_size = -16384")

    def _connect_to_read(self) -> None:
        if not self.path.is_file():
            raise JournalError("there is no journal here; nothing was run with this directory", str(self.directory))
        address = self.path.absolute().as_uri()
        try:
            self._connect(f"{address}?mode=ro").execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            wal = self.path.with_name(f"{DATABASE}-wal")
            if wal.exists() and wal.stat().st_size:
                raise
            # A finished run on a read-only drive: SQLite can't make its shared-memory file there, and needs none.
            self._disconnect()
            self._connect(f"{address}?immutable=1")

    def _connect(self, address: str) -> sqlite3.Connection:
        self._connection = sqlite3.connect(
            address, uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        return self._connection

    def _check_ours(self) -> None:
        application = self._pragma("application_id")
        version = self._pragma("user_version")
        is_empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_empty and self._read_only:
            raise JournalError("the journal is empty: the run that began it never got to work", str(self.path))
        if application != APPLICATION_ID and not (is_empty and application == 0):
            raise JournalError("is a database, but not a journal of wanasync; choose another directory", str(self.path))
        if version > len(_MIGRATIONS):
            raise JournalError(
                f"was written by a newer wanasync (format {version}, this one knows {len(_MIGRATIONS)}); update it",
                str(self.path),
            )
        if version < len(_MIGRATIONS) and self._read_only:
            raise JournalError("was written by an older wanasync; run the batch once to bring it up", str(self.path))

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _migrate(self) -> None:
        version = self._pragma("user_version")
        for migration in _MIGRATIONS[version:]:
            migration(self._db)
        if version < len(_MIGRATIONS):
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def _settle_interrupted(self, now: float) -> None:
        cut_off = [state for state, event in TRANSITIONS if event is ItemEvent.INTERRUPTED]
        words = {"error_code": "interrupted", "error_message": "the run ended before the reply came"}
        for state in cut_off:
            for row in self._db.execute(f"{_SELECT} WHERE state = ?", (_CODES[state],)).fetchall():
                record = self._read(row)
                self._write(record, advance(record, ItemEvent.INTERRUPTED, words, now=now))
                self.interrupted += 1

    def _check_whole(self) -> None:
        """A damaged journal should be found now, not when it is asked whether something was paid for.

        Large ones are not read through: it would hold up every start.
        """
        if self.path.stat().st_size > _CHECKED_BYTES:
            return
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")

    def close(self) -> None:
        try:
            if self._connection is not None and not self._read_only and not self._broken:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._disconnect()
        finally:
            self._lock.release()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError("the journal is closed", str(self.path))
        return self._connection

    def _error(self, what: str, error: Exception) -> JournalError:
        return JournalError(f"the journal {what}: {_reason(error)}", str(self.path))

    # Transactions

    def run(self, operations: Sequence[Callable[[], Any]]) -> list[Any]:
        """Carry out the operations in one transaction, and give what each returned or why it was refused.

        An operation that is refused has changed nothing and doesn't disturb the others. Where the database itself
        fails, none of them has happened, and none will any more.
        """
        if self._broken:
            raise JournalError(self._broken.message, self._broken.path) from self._broken
        try:
            with self._transaction():
                return [_attempt(operation) for operation in operations]
        except (sqlite3.Error, OSError) as error:
            failure = self._error("could not be read" if self._read_only else "could not be written", error)
            self._broken = None if self._read_only else failure
            raise failure from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
        try:
            yield
            self._db.executemany(_TALLY, [(*change, state) for state, change in self._tally.items()])
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        finally:
            self._tally.clear()

    def _count(self, record: ItemRecord, sign: int) -> None:
        change = self._tally.setdefault(_CODES[record.state], [0, 0, 0, 0])
        change[0] += sign
        change[1] += sign * (record.credits_reserved or 0)
        change[2] += sign * (record.credits_used or 0)
        change[3] += sign * record.committed

    # Operations

    def record(self, key: str, event: ItemEvent, changes: Mapping[str, Any], now: float) -> ItemRecord:
        before = self._recent.pop(key, None) or self.get(key)
        after = advance(before, event, changes, now=now)
        self._write(before, after)
        self._recent[key] = after
        if len(self._recent) > _MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        return after

    def _write(self, before: ItemRecord, after: ItemRecord) -> None:
        changed = self._db.execute(_UPDATE, (*_progress(after), after.seq, _CODES[before.state])).rowcount
        if changed != 1:
            raise sqlite3.DatabaseError(f"item {after.key} was changed by another program")
        self._count(before, -1)
        self._count(after, +1)

    def get(self, key: str) -> ItemRecord:
        row = self._db.execute(f"{_SELECT} WHERE item.key = ?", (_number(key),)).fetchone()
        if row is None:
            raise JournalError(f"there is no item {key} in the journal", str(self.path))
        return self._read(row)

    def slice(self, state: ItemState | None, after: int) -> list[ItemRecord]:
        if state is None:
            rows = self._db.execute(f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT {CHUNK}", (after,))
        elif state is ItemState.SAVED:
            rows = self._db.execute(
                f"{_SELECT} WHERE state = {_SAVED} AND seq > ? ORDER BY seq LIMIT {CHUNK}", (after,)
            )
        else:
            # Said in full, so that SQLite sees that the index of unsaved items answers it.
            where = f"state = ? AND state <> {_SAVED} AND progress.seq > ? ORDER BY progress.seq LIMIT {CHUNK}"
            rows = self._db.execute(f"{_SELECT} WHERE {where}", (_CODES[state], after))
        return [self._read(row) for row in rows]

    def counts(self) -> Mapping[ItemState, int]:
        rows = self._db.execute("SELECT state, items FROM tally")
        return MappingProxyType({_STATES[code]: items for code, items in rows})

    def totals(self) -> Totals:
        sums = "SELECT total(credits_reserved), total(credits_used), total(committed) FROM tally"
        # Adding and taking away fractions leaves dust, which nobody wants to read in a report.
        return Totals(*(round(value, 6) + 0.0 for value in self._db.execute(sums).fetchone()))

    def get_meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _read(self, row: Sequence[Any]) -> ItemRecord:
        key, seq, index, item_id, request, file, state, attempt, task_id, *rest = row
        submitted_at, estimated_time, reserved, used, links, deadline, size, sha256, code, message, updated_at = rest
        return ItemRecord(
            self.journal_id,
            f"{key:016x}",
            seq,
            index,
            item_id,
            request,
            file,
            _STATES[state],
            attempt,
            task_id,
            submitted_at,
            estimated_time,
            reserved,
            used,
            tuple(json.loads(links)) if links else (),
            deadline,
            size,
            sha256.hex() if sha256 is not None else None,
            code,
            message,
            updated_at,
        )

    # Planning

    def plan(self, items: Sequence[PlannedItem]) -> list[ItemRecord]:
        counted = {state: list(change) for state, change in self._tally.items()}
        self._db.execute("SAVEPOINT plan")
        try:
            planning = _Planning(self, items)
            records = planning.run()
        except BaseException:
            self._tally = counted
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK TO plan")
                self._db.execute("RELEASE plan")
            raise
        self._db.execute("RELEASE plan")
        self._keep(planning)
        return records

    def _keep(self, planning: _Planning) -> None:
        self.last_seq += len(planning.added)
        for seq in planning.listed:
            if seq < self.first_new_seq:
                self._listed[seq >> 3] |= 1 << (seq & 7)
        self.repetitions.update(planning.repetitions)
        if len(self.repetitions) > _MAX_REPETITIONS:
            self.repetitions.clear()

    def is_listed(self, seq: int) -> bool:
        # A bit for each item of earlier runs; those added since were added because they were listed.
        return seq >= self.first_new_seq or bool(self._listed[seq >> 3] & 1 << (seq & 7))

    def find(self, keys: Sequence[int]) -> dict[int, ItemRecord]:
        marks = ",".join("?" * len(keys))
        return {row[0]: self._read(row) for row in self._db.execute(f"{_SELECT} WHERE item.key IN ({marks})", keys)}

    def find_row(self, seq: int) -> ItemRecord:
        return self._read(self._db.execute(f"{_SELECT} WHERE item.seq = ?", (seq,)).fetchone())

    def name_owners(self, hashes: Sequence[int]) -> dict[int, int]:
        marks = ",".join("?" * len(hashes))
        return dict(self._db.execute(f"SELECT hash, seq FROM name WHERE hash IN ({marks})", hashes).fetchall())  # noqa: S608

    def is_strange(self, name: str) -> bool:
        """Whether a file of this name lies in the directory. None does in a new one, which saves a million looks."""
        return self._has_files and os.path.lexists(self.directory / name)

    def add(self, records: Sequence[ItemRecord]) -> None:
        rows = [
            (record.seq, _number(record.key), record.index, record.item_id, record.request_json, record.file)
            for record in records
        ]
        self._db.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", rows)
        blank = [(record.seq,) for record in records]
        self._db.executemany(f"INSERT INTO progress (seq, state, attempt) VALUES (?, {_PLANNED}, 1)", blank)  # noqa: S608
        if records:
            self._tally.setdefault(_PLANNED, [0, 0, 0, 0])[0] += len(records)

    def change(self, before: ItemRecord, after: ItemRecord) -> None:
        new = (after.index, after.request_json, after.file, after.seq)
        self._db.execute("UPDATE item SET idx = ?, request = ?, file = ? WHERE seq = ?", new)
        self._recent.pop(after.key, None)
        if _progress(after) != _progress(before):
            self._write(before, after)

    def name(self, owners: Mapping[int, int]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO name VALUES (?, ?)", owners.items())


class _Planning:
    """Plans one chunk of a list: finds what the journal knows of it, and names and writes the rest.

    Looks things up for the whole chunk at once, and writes at the end; in between it remembers what it has decided.
    """

    def __init__(self, store: _Store, items: Sequence[PlannedItem]) -> None:
        self._store = store
        self._items = items
        self._known = store.find([_number(item.key) for item in items])
        self._owners = self._look_up_names()
        self._claims: dict[int, int] = {}
        self._taken: set[int] = set()
        self.added: list[ItemRecord] = []
        self.listed: list[int] = []
        self.repetitions: dict[int, int] = {}

    def _look_up_names(self) -> dict[int, int | None]:
        new = [item for item in self._items if _number(item.key) not in self._known]
        hashes = [name_key(_wish(item)) for item in new]
        owners: dict[int, int | None] = dict.fromkeys(hashes)
        owners.update(self._store.name_owners(hashes))
        return owners

    def run(self) -> list[ItemRecord]:
        records = [self._place(item) for item in self._items]
        self._store.add(self.added)
        self._store.name(self._claims)
        return records

    def _place(self, item: PlannedItem) -> ItemRecord:
        key = self._key(item)
        self._taken.add(key)
        known = self._known.get(key)
        record = self._add(item, key) if known is None else self._meet_again(known, item)
        self.listed.append(record.seq)
        return record

    def _key(self, item: PlannedItem) -> int:
        """The item's own key: another one for each repetition of the same content."""
        key = _number(item.key)
        if not self._is_taken(key):
            return key
        if item.item_id is not None:
            raise RequestValidationError("id", item.item_id, "stands for more than one item of the list")
        occurrence = self.repetitions.get(key) or self._store.repetitions.get(key, 1)
        while True:
            occurrence += 1
            repeated = _number(item_key(item.request, None, occurrence))
            self._known.update(self._store.find([repeated]))
            if not self._is_taken(repeated):
                self.repetitions[key] = occurrence
                return repeated

    def _is_taken(self, key: int) -> bool:
        return key in self._taken or (key in self._known and self._store.is_listed(self._known[key].seq))

    def _add(self, item: PlannedItem, key: int) -> ItemRecord:
        seq = self._store.last_seq + len(self.added) + 1
        file = self._name(item, seq)
        record = ItemRecord(
            self._store.journal_id, f"{key:016x}", seq, item.index, item.item_id, item.request_json, file
        )
        self.added.append(record)
        return record

    def _meet_again(self, known: ItemRecord, item: PlannedItem) -> ItemRecord:
        record = known if item.index == known.index else attrs.evolve(known, index=item.index)
        if item.request_json != known.request_json:
            record = _with_request(record, item)
        if item.file is not None and record.state is not ItemState.SAVED and wanted_name(item.file) != record.file:
            record = attrs.evolve(record, file=self._name(item, record.seq))
        if record != known:
            self._store.change(known, record)
        return record

    # Names

    def _name(self, item: PlannedItem, seq: int) -> str:
        name = _wish(item)
        if item.file is not None:
            self._make_way(name, item)
        elif not self._is_free(name):
            name = self._free_name(name)
        self._claim(name, seq)
        return name

    def _claim(self, name: str, seq: int) -> None:
        name_hash = name_key(name)
        self._owners[name_hash] = self._claims[name_hash] = seq

    def _is_free(self, name: str) -> bool:
        return self._owner(name) is None and not self._store.is_strange(name)

    def _free_name(self, name: str) -> str:
        tries = (numbered(name, number) for number in itertools.count(2))
        return next(filter(self._is_free, tries))

    def _owner(self, name: str) -> int | None:
        name_hash = name_key(name)
        if name_hash not in self._owners:
            self._owners[name_hash] = self._store.name_owners([name_hash]).get(name_hash)
        return self._owners[name_hash]

    def _make_way(self, name: str, item: PlannedItem) -> None:
        """See that a wanted name can be had. Raises `RequestValidationError` where it can't."""
        owner = self._owner_row(name)
        if owner is not None:
            self._dispossess(owner, name, item)
        elif self._store.is_strange(name):
            reason = f"is wanted by {_label(item)}, but such a file is there already and is not this batch's"
            raise RequestValidationError("file", item.file, reason)

    def _dispossess(self, owner: ItemRecord, name: str, item: PlannedItem) -> None:
        key = _number(owner.key)
        if key in self._taken or self._store.is_listed(owner.seq):
            reason = f"is wanted by {_label(item)}, and is the file of {_label(owner)} too; each video needs its own"
            raise RequestValidationError("file", item.file, reason)
        if owner.state in PAID_STATES:
            reason = (
                f"is wanted by {_label(item)}, and is the file of {_label(owner)} of an earlier run ({owner.state})"
            )
            raise RequestValidationError("file", item.file, reason)
        # An earlier line that was never paid for, corrected since: it must not hold on to its name.
        moved = attrs.evolve(owner, file=self._free_name(name))
        self._store.change(owner, moved)
        self._claim(moved.file, owner.seq)
        if key in self._known:
            self._known[key] = moved

    def _owner_row(self, name: str) -> ItemRecord | None:
        seq = self._owner(name)
        if seq is None:
            return None
        new = seq - self._store.last_seq - 1
        owner = self.added[new] if new >= 0 else self._store.find_row(seq)
        # An item that was given another name since is still written down beside its first one.
        return owner if name_key(owner.file) == name_key(name) else None


def _wish(item: PlannedItem) -> str:
    return file_name(item.request.prompt, item.index, item.item_id, item.file)


def _with_request(record: ItemRecord, item: PlannedItem) -> ItemRecord:
    if identity_of(item.request_json) != identity_of(record.request_json):
        return replanned(record, item.request_json)
    if record.submitted_at is None and record.state is ItemState.PLANNED:
        return attrs.evolve(record, request_json=item.request_json)
    # Only the callback's address is another, and the first one has been told to the provider.
    return record


def _label(item: PlannedItem | ItemRecord) -> str:
    return f"item {item.item_id!r}" if item.item_id is not None else f"item {item.index + 1}"


def _number(key: str) -> int:
    return int(key, 16)


def _progress(record: ItemRecord) -> tuple[Any, ...]:
    return (
        _CODES[record.state],
        record.attempt,
        record.task_id,
        record.submitted_at,
        record.estimated_time,
        record.credits_reserved,
        record.credits_used,
        json.dumps(record.links) if record.links else None,
        record.link_deadline,
        record.bytes,
        bytes.fromhex(record.sha256) if record.sha256 is not None else None,
        _writable(record.error_code),
        _writable(record.error_message),
        record.updated_at,
    )


def _writable(text: str | None) -> str | None:
    # Half a surrogate pair in somebody's error text must not cost the record of a paid task.
    return text.encode(errors="replace").decode() if text is not None else None


def _attempt(operation: Callable[[], Any]) -> Any:
    try:
        return operation()
    except (sqlite3.Error, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - the caller's own; it is raised to that caller
        return error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    if "not a database" in text or "malformed" in text or "corrupt" in text.lower():
        return (
            f"it is damaged ({text}); restore it from a copy. Moving it away starts the batch anew, "
            "which would pay again for what it recorded"
        )
    return text


def _sync_directory(path: Path) -> None:
    if sys.platform == "win32":
        return
    # A directory that may be entered but not read can't be synced; nor can we do more about it.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

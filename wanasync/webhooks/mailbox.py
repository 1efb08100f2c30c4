"""How a delivery gets from the process that receives it to the one that waits for it.

A mailbox is a notice board and no queue: whoever watches sees every delivery, and each delivery is a hint that may
come twice or never. So nothing is acknowledged, and what is old is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from wanasync import CallbackError, Delivery
from wanasync.webhooks.grouping import GroupWriter

__all__ = ["FileMailbox", "LocalMailbox", "Mailbox"]

KEPT_HERE = 1000
"""Deliveries that a session opened later still sees, in one process."""
UNREAD = 10_000
"""Deliveries that wait for one watcher in memory at most; the oldest give way, and polling finds their tasks."""
KEPT_ON_DISK = 50_000
SLICE = 500
LOOK_EVERY = 0.25
"""Seconds between two looks at the file's version, which cost some microseconds each."""
BUSY_SECONDS = 3.0


@runtime_checkable
class Mailbox(Protocol):
    """Where deliveries are put and watched for; both raise `CallbackError` where that is out of order."""

    async def put(self, delivery: Delivery) -> None:
        """Show it to all who watch, now or a while later. Has returned once it can't be lost by this process' end,
        as far as the mailbox is to outlive it."""

    def watch(self) -> AsyncGenerator[Delivery, None]:
        """What is kept of earlier deliveries, then each new one, in order; without end."""
        ...


class LocalMailbox:
    """A mailbox within one process, for any number of event loops and threads in it."""

    def __init__(self) -> None:
        self._kept: deque[Delivery] = deque(maxlen=KEPT_HERE)
        self._watchers: set[_Watcher] = set()

    async def put(self, delivery: Delivery) -> None:
        self._kept.append(delivery)
        for watcher in tuple(self._watchers):
            watcher.put(delivery)

    async def watch(self) -> AsyncGenerator[Delivery, None]:
        watcher = _Watcher(self._kept)
        self._watchers.add(watcher)
        try:
            while True:
                yield await watcher.get()
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    def __init__(self, kept: Sequence[Delivery]) -> None:
        self._loop = asyncio.get_running_loop()
        self._unread: deque[Delivery] = deque(kept, maxlen=UNREAD)
        self._came = asyncio.Event()

    def put(self, delivery: Delivery) -> None:
        self._unread.append(delivery)
        # A loop that has been closed meanwhile waits for nothing.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._came.set)

    async def get(self) -> Delivery:
        while not self._unread:
            self._came.clear()
            await self._came.wait()
        return self._unread.popleft()


class FileMailbox:
    """A mailbox in a file, for processes of one machine: web workers put, and whoever waits watches.

    `path` is the file, or a directory, which then holds `callbacks.db`. It outlives the processes, keeps the last
    50,000 deliveries, and a new one is noticed within a quarter of a second. SQLite's locks are only as good as the
    file system's: keep it on a local disk. Put into by one event loop; make another for another.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        self.path: Path = given / "callbacks.db" if given.is_dir() else given
        self._writer = GroupWriter(self._write)

    async def put(self, delivery: Delivery) -> None:
        await self._writer.put(delivery)

    async def _write(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.to_thread(_write, self.path, deliveries)

    async def watch(self) -> AsyncGenerator[Delivery, None]:
        reader = await asyncio.to_thread(_Reader, self.path)
        try:
            while True:
                fresh = await asyncio.to_thread(reader.fresh)
                for delivery in fresh:
                    yield delivery
                if not fresh:
                    await asyncio.sleep(LOOK_EVERY)
        finally:
            reader.close()


class _Reader:
    """Reads on from where it stands. Its own writes aside, `data_version` changes with every commit to the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A look that was cancelled goes on in its thread, and must not lose its connection there.
        self._lock = threading.Lock()
        with _told(path):
            self._db = _connect(path)
            self._file = os.stat(path).st_ino
        self._version = 0
        self._last = 0

    def fresh(self) -> list[Delivery]:
        with self._lock, _told(self._path):
            if os.stat(self._path).st_ino != self._file:
                raise CallbackError(f"the mailbox {self._path} was replaced while it was watched")
            version = self._db.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return []
            rows = self._db.execute(
                "SELECT id, key, task_id, received_at FROM delivery WHERE id > ? ORDER BY id LIMIT ?",
                (self._last, SLICE),
            ).fetchall()
        if len(rows) < SLICE:
            self._version = version
        self._last = rows[-1][0] if rows else self._last
        return [Delivery(key, task_id, at) for _, key, task_id, at in rows if _is_sound(key, task_id, at)]

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _is_sound(key: object, task_id: object, at: object) -> bool:
    return isinstance(key, str) and isinstance(task_id, str) and isinstance(at, float)


def _write(path: Path, deliveries: Sequence[Delivery]) -> None:
    rows = [(one.idempotency_key, one.task_id, one.received_at) for one in deliveries]
    # A connection for each group: one that is kept would have to survive forks, and be closed by somebody.
    with _told(path), contextlib.closing(_connect(path)) as db, _transaction(db):
        db.executemany("INSERT INTO delivery (key, task_id, received_at) VALUES (?, ?, ?)", rows)
        db.execute("DELETE FROM delivery WHERE id <= (SELECT max(id) FROM delivery) - ?", (KEPT_ON_DISK,))


_APPLICATION_ID = 0x57414E43
_SCHEMA = (
    "CREATE TABLE delivery (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, task_id TEXT NOT NULL, "
    "received_at REAL NOT NULL)"
)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _make_ours(db, path)
        # A delivery that a power cut takes is found by polling; the end of a process takes none.
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def _make_ours(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID:
        return
    with _transaction(db):
        # Another process may have been faster.
        if db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION_ID:
            return
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CallbackError(f"{path} is a database, but no mailbox of wanasync; choose another file")
        db.execute(_SCHEMA)
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute("PRAGMA journal_mode = WAL")


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise CallbackError(f"the mailbox {path} is out of order: {error}") from error


def opened(mailbox: Mailbox | str | os.PathLike[str] | None) -> Mailbox:
    if mailbox is None:
        return LocalMailbox()
    if isinstance(mailbox, str | os.PathLike):
        return FileMailbox(mailbox)
    return mailbox

"""Making or finding the database: is it there, is it ours, is it whole?"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from pathlib import Path
from typing import Any

from wanasync.edges.durable import make_directory, sync_directory
from wanasync.edges.journal.migrations import APPLICATION_ID, MIGRATIONS
from wanasync.errors import JournalError

__all__ = [
    "FAILURES",
    "check_ours",
    "check_whole",
    "connect_to_read",
    "connect_to_write",
    "make_folder",
    "migrate",
    "reason",
]

FAILURES = (sqlite3.Error, OSError, UnicodeDecodeError, MemoryError)
"""What comes of a broken or hostile database: the last two of a definition in it that is not UTF-8, which Python would
tell in its error, and of a size in it that nobody has memory for."""

_BUSY_SECONDS = 10.0
_STATEMENTS = 512
"""Kept ready: some come with one to fifty rows of values."""
_CHECKED_BYTES = 64 * 2**20


def make_folder(folder: Path) -> None:
    """Make the folder of the journal, and the batch's directory above it: durably, as the journal lies in them."""
    _refuse_link(folder)
    make_directory(folder)
    # Whoever made them may have been killed before they were synced.
    for place in (folder.parent, folder.parent.absolute().parent):
        sync_directory(place)


def connect_to_write(path: Path) -> sqlite3.Connection:
    db = _connect(path, "mode=rwc")
    try:
        # Before anything is set that is written into the file: it may be another program's.
        check_ours(db, path, read_only=False)
        _set_up(db)
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: sqlite3.Connection) -> None:
    # Where write-ahead logging can't be had (some network drives), SQLite stays with its rollback journal, which is
    # as durable and slower.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    # On macOS only this makes a sync reach the disk; elsewhere it does nothing.
    db.execute("PRAGMA fullfsync = ON")
    db.execute("PRAGMA checkpoint_fullfsync = ON")
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    db.execute("PRAGMA journal_size_limit = 67108864")
    db.execute("PRAGMA cache_size = -16384")


def connect_to_read(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        directory = str(path.parent.parent)
        raise JournalError("there is no journal here; nothing was run with this directory", directory)
    db = _connect(path, "mode=ro")
    try:
        db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        db.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise
        # A finished run on a read-only drive: SQLite can't make its shared-memory file there, and needs none.
        return _connect(path, "immutable=1")
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path, options: str) -> sqlite3.Connection:
    for reached in (path.parent, path):
        _refuse_link(reached)
    address = f"{path.absolute().as_uri()}?{options}"
    # Transactions are ours to begin. One thread at a time uses it: the writer's, or the one that opens and closes.
    db = sqlite3.connect(
        address,
        uri=True,
        isolation_level=None,
        timeout=_BUSY_SECONDS,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )
    # What SQLite advises for files that a stranger may have made: no functions with side effects from the schema, and
    # each page looked at before its cells are used.
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db


def _refuse_link(path: Path) -> None:
    """An unpacked archive can hold a symbolic link, which may lead to any file of the user's."""
    if path.is_symlink():
        raise JournalError("is a symbolic link, and a journal is never reached through one", str(path))


def check_ours(db: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    """Raises `JournalError` for a database that is another program's, or in a format this version can't work with."""
    where = str(path)
    application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
    is_empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if is_empty and read_only:
        raise JournalError("the journal is empty: the run that began it never got to work", where)
    if application != APPLICATION_ID and not (is_empty and application == 0):
        raise JournalError("is a database, but not a journal of wanasync; choose another directory", where)
    known = len(MIGRATIONS)
    if version > known:
        raise JournalError(f"was written by a newer wanasync (format {version}, this one knows {known}); update", where)
    if not is_empty and _schema(db) != _schema_of(version):
        raise JournalError(
            "is marked as a journal of wanasync, but is not built like one; choose another directory", where
        )
    if version < known and read_only:
        raise JournalError("was written by an older wanasync; run the batch once to bring it up", where)


def _schema(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """All that the database defines. A trigger or a view in it would be somebody else's program, run by our queries."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
    # Statistics are what `ANALYZE` leaves, which any tool may have run.
    return [row for row in rows if row[1] not in ("sqlite_stat1", "sqlite_stat4")]


@functools.cache
def _schema_of(version: int) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        for migration in MIGRATIONS[:version]:
            migration(db)
        return _schema(db)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the database to the present format, within the caller's transaction."""
    for migration in MIGRATIONS[_pragma(db, "user_version") :]:
        migration(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def check_whole(db: sqlite3.Connection, path: Path) -> None:
    """A damaged journal should be found now, not when it is asked whether something was paid for.

    Large ones are not read through: it would hold up every start.
    """
    if path.stat().st_size > _CHECKED_BYTES:
        return
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(f"malformed: {found}")


def reason(error: Exception) -> str:
    """What to tell the user of an error of the database or the disk."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error) if isinstance(error, sqlite3.Error) else "malformed"
    if "not a database" in text or "malformed" in text:
        return (
            f"it is damaged ({text}); restore it from a copy. Moving it away starts the batch anew, "
            "which would pay again for what it recorded"
        )
    return text

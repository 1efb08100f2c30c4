"""The database's format, version by version."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable

from wanasync.edges.journal.schema import STATES

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID = 0x77616E61
"""Tells our databases from others' ("wana")."""

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
        bytes INTEGER,
        sha256 BLOB,
        error_code TEXT,
        error_message TEXT,
        updated_at REAL
    )
    """,
    # Of finished videos that are not saved yet. In their rows of progress they would leave holes of their size behind.
    """
    CREATE TABLE link (
        seq INTEGER PRIMARY KEY,
        links TEXT NOT NULL,             -- JSON array
        deadline REAL
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


def _create(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    db.executemany("INSERT INTO state VALUES (?, ?)", [(code, state.value) for code, state in STATES.items()])
    db.executemany("INSERT INTO tally VALUES (?, 0, 0, 0, 0)", [(code,) for code in STATES])
    db.execute("INSERT INTO meta VALUES ('journal_id', ?)", (secrets.token_hex(16),))


def _keep_attempts(db: sqlite3.Connection) -> None:
    # Tasks that failed and were followed by another one for the same item.
    db.execute(
        """
        CREATE TABLE attempt (
            seq INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            task_id TEXT NOT NULL,
            submitted_at REAL,
            error_code TEXT,
            error_message TEXT,
            failed_at REAL,
            PRIMARY KEY (seq, attempt)
        ) WITHOUT ROWID
        """
    )


# What a column can't say by its type is told in a shorter way: a million rows of 130 bytes become 90. From here on
# item.request may be packed too (a BLOB, see packing.py), and an empty item.file stands for the name that the row's
# number and its prompt make, which has no entry in name.
_SHORT_ROWS = (
    "CREATE TABLE dictionary (number INTEGER PRIMARY KEY, words BLOB NOT NULL)",
    "DROP INDEX progress_unsaved",
    "ALTER TABLE progress RENAME TO long_progress",
    """
    CREATE TABLE progress (
        seq INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,          -- see the table state
        attempt INTEGER NOT NULL,
        task_id TEXT,                    -- a leading space stands for task-unified-
        submitted_at INTEGER,            -- unix milliseconds
        updated_after INTEGER,           -- milliseconds since submitted_at; unix milliseconds where that is NULL
        estimated_time REAL,
        credits_reserved,                -- INTEGER: millionths; REAL: credits
        credits_used,
        bytes INTEGER,
        sha256 BLOB,
        error_code TEXT,
        error_message TEXT
    )
    """,
    """
    INSERT INTO progress
    SELECT
        seq, state, attempt,
        CASE WHEN substr(task_id, 1, 13) = 'task-unified-' THEN ' ' || substr(task_id, 14) ELSE task_id END,
        CAST(round(submitted_at * 1000) AS INTEGER),
        CAST(round(updated_at * 1000) AS INTEGER) - coalesce(CAST(round(submitted_at * 1000) AS INTEGER), 0),
        estimated_time, credits_reserved, credits_used, bytes, sha256, error_code, error_message
    FROM long_progress
    """,
    "DROP TABLE long_progress",
    "CREATE INDEX progress_unsaved ON progress(state) WHERE state <> 4",
)


def _shorten(db: sqlite3.Connection) -> None:
    for statement in _SHORT_ROWS:
        db.execute(statement)


def _sample_pace(db: sqlite3.Connection) -> None:
    # What a running batch tells now and then of its pace: for those who look on, and for nobody else.
    db.execute(
        """
        CREATE TABLE pace_sample (
            at REAL PRIMARY KEY,
            run REAL NOT NULL,           -- when the run began
            accepted INTEGER NOT NULL,
            refused INTEGER NOT NULL,
            unknown INTEGER NOT NULL,
            saved INTEGER NOT NULL,
            following INTEGER NOT NULL,
            saving INTEGER NOT NULL,
            paused_until REAL,
            why TEXT NOT NULL,
            requests INTEGER,
            per REAL,
            concurrent INTEGER,
            credits_reserved REAL NOT NULL,
            credits_used REAL NOT NULL
        ) WITHOUT ROWID
        """
    )


# Most of an item follows from its request and its row's number: 180 bytes become 130. Requests lie together, by the
# dozen, which packs better than each by itself. An item has a row of its own in item only where something can't be
# told that way; NULL stands for what can. From here on progress.task_id may be packed too (a BLOB, see task_ids.py).
_TOGETHER = (
    """
    CREATE TABLE pack (
        first INTEGER PRIMARY KEY,       -- row of the first; the next pack's first ends it
        requests NOT NULL                -- canonical JSON, a line each; a BLOB is packed
    )
    """,
    # Several items may share a hash: their keys tell.
    """
    CREATE TABLE key (
        hash INTEGER NOT NULL,           -- the upper half of the item's key
        seq INTEGER NOT NULL,
        PRIMARY KEY (hash, seq)
    ) WITHOUT ROWID
    """,
    "INSERT INTO key SELECT key >> 32, seq FROM item ORDER BY 1, 2",
    "ALTER TABLE item RENAME TO long_item",
    """
    CREATE TABLE item (
        seq INTEGER PRIMARY KEY,
        key INTEGER,                     -- NULL: its id's, or else its content's
        idx INTEGER,                     -- place in the list, from 0; NULL: seq - 1
        item_id TEXT,
        request,                         -- NULL: in its pack; a BLOB is packed
        file TEXT                        -- relative to the directory above .wanasync; NULL: as seq and prompt make it
    )
    """,
    "INSERT INTO item SELECT seq, key, nullif(idx, seq - 1), item_id, request, nullif(file, '') FROM long_item",
    "DROP TABLE long_item",
)


def _lay_together(db: sqlite3.Connection) -> None:
    for statement in _TOGETHER:
        db.execute(statement)


# Each brings a database from its place in the tuple to the next version.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _create,
    _keep_attempts,
    _shorten,
    _sample_pace,
    _lay_together,
)

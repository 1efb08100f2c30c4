"""Which batch of a database it is, and who works on it: held by a lock that the server drops with its connection."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Sequence
from uuid import UUID

import psycopg
from attrs import define

from wanasync.edges.journal.schema import CODES, PLANNED
from wanasync.edges.postgres.database import Connection, Database, fetch
from wanasync.edges.postgres.migrations import bring_up
from wanasync.errors import JournalError
from wanasync.rules.lifecycle import PAID_STATES, SETTLED_STATES

__all__ = [
    "END_FORMER",
    "HOLDERS",
    "LOCK_CLASS",
    "Identity",
    "application",
    "hold",
    "holder",
    "identify",
    "is_known",
    "try_to_hold",
    "under_way",
]

LOCK_CLASS = 0x77616E
"""First half of the advisory locks on batches; the second is the batch's number."""

HOLDERS = """
SELECT writer.name FROM pg_locks JOIN wanasync.writer USING (pid)
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND classid = %s AND objid = %s AND granted AND writer.batch = objid::integer ORDER BY writer.name
"""
END_FORMER = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE application_name = %s AND pid <> pg_backend_pid() AND usename = current_user
"""


@define
class Identity:
    """Which batch, and which of those who work on it."""

    batch: int
    journal_id: str
    last_seq: int
    writer: UUID
    name: str


async def identify(
    connection: Connection, database: Database, batch: str, writer: UUID, *, read_only: bool
) -> Identity:
    asked = "SELECT id, journal_id, last_seq FROM wanasync.batch WHERE name = %s"
    if not read_only:
        await bring_up(connection, database.label)
        # Looked for first: a number is used up by each try to insert.
        made = "INSERT INTO wanasync.batch (name, journal_id) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        if not await fetch(connection, asked, batch):
            await connection.execute(made, (batch, secrets.token_hex(16)))
    try:
        rows = await fetch(connection, asked, batch)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        rows = []
    if not rows:
        raise JournalError(f"there is no batch {batch!r} here", database.label)
    ((number, journal_id, last_seq),) = rows
    return Identity(number, journal_id, last_seq, writer, _own_name())


async def is_known(database: Database, batch: str) -> bool:
    """Whether the database has a batch of this name. Raises `JournalError`."""
    there = "SELECT to_regclass('wanasync.batch') IS NOT NULL"
    if await database.fetch(there) != [(True,)]:
        return False
    return bool(await database.fetch("SELECT 1 FROM wanasync.batch WHERE name = %s", batch))


_GOING_ON = ", ".join(str(CODES[state]) for state in sorted(PAID_STATES - SETTLED_STATES, key=CODES.__getitem__))
# The codes stand in the text, so that the planner sees which indexes hold those rows.
_UNDER_WAY = f"""
SELECT batch.name, array_agg(seq ORDER BY seq)
FROM wanasync.batch CROSS JOIN LATERAL (
    SELECT seq FROM wanasync.progress WHERE batch = batch.id AND state IN ({_GOING_ON})
    UNION ALL
    SELECT seq FROM wanasync.progress WHERE batch = batch.id AND state = {PLANNED} AND claim IS NOT NULL
) AS progress
WHERE batch.name = ANY(%s) GROUP BY batch.name
"""  # noqa: S608 - constants only


async def under_way(database: Database, batches: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The rows of each batch that were sent once and have not come to an end. Raises `JournalError`."""
    return {name: tuple(rows) for name, rows in await database.fetch(_UNDER_WAY, list(batches))}


async def hold(connection: Connection, me: Identity, label: str, *, shared: bool) -> None:
    if not await try_to_hold(connection, me.batch, shared=shared):
        name = await holder(connection, me.batch)
        raise JournalError(f"in use by {name}; wait for it to end, or name another batch", label)
    # Those whose processes ended without a word.
    gone = "DELETE FROM wanasync.writer WHERE seen_at < now() - interval '7 days'"
    made = "INSERT INTO wanasync.writer (id, batch, name, pid) VALUES (%s, %s, %s, pg_backend_pid())"
    await connection.execute(gone)
    await connection.execute(made, (me.writer, me.batch, me.name))


async def try_to_hold(connection: Connection, batch: int, *, shared: bool) -> bool:
    question = f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}(%s, %s)"
    ((is_ours,),) = await fetch(connection, question, LOCK_CLASS, batch)
    return bool(is_ours)


async def holder(connection: Connection, batch: int) -> str:
    names = await fetch(connection, HOLDERS, LOCK_CLASS, batch)
    return ", ".join(name for (name,) in names) or "another process"


def application(writer: UUID) -> str:
    return f"wanasync {writer}"


def _own_name() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"

"""The schema `wanasync`, brought up to date file by file: `NNN_what.sql`, in their order, each once."""

from __future__ import annotations

import re
from importlib.resources import files

import psycopg
from psycopg import sql

from wanasync.edges.postgres.database import Connection, Database
from wanasync.errors import JournalError

__all__ = ["bring_up", "migrate"]

_LOCK = 0x77616E61
"""Of those who migrate, one at a time."""


async def migrate(database: Database, *, role: str | None = None) -> int:
    """Make the tables, or bring them up; the version they are at then.

    `role` is granted what journals need and no more: it can't change a table, and can't remove what was paid for.
    Raises `JournalError`, also where the user of the database may not do this.
    """
    try:
        async with await database.connect("wanasync migrate") as connection:
            version = await bring_up(connection, database.label)
            if role is not None:
                await _grant(connection, role)
            return version
    except psycopg.Error as error:
        raise database.error("could not be set up", error) from error


async def bring_up(connection: Connection, label: str) -> int:
    """Apply what is missing, within the connection's rights; the version after that."""
    known = _known()
    if await _version(connection) < len(known):
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            await _apply(connection, known)
    version = await _version(connection)
    if version > len(known):
        words = f"was set up by a newer wanasync (version {version}, this one knows {len(known)}); update"
        raise JournalError(words, label)
    return version


async def _apply(connection: Connection, known: list[str]) -> None:
    version = await _version(connection)
    if not version:
        # Asked for instead of IF NOT EXISTS, which needs the right to create one even where it is there.
        if not await _holds(connection, "SELECT 1 FROM pg_namespace WHERE nspname = 'wanasync'"):
            await connection.execute("CREATE SCHEMA wanasync")
        await connection.execute("CREATE TABLE wanasync.migration (version integer PRIMARY KEY, at timestamptz)")
    for number, text in enumerate(known[version:], version + 1):
        await connection.execute(text.encode())
        await connection.execute("INSERT INTO wanasync.migration VALUES (%s, now())", (number,))


async def _version(connection: Connection) -> int:
    """0 where there is nothing yet."""
    # From the tables of the catalogue: a function would answer from memory, which waiting for a lock does not renew.
    tables = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'wanasync'"
    if not await _holds(connection, f"{tables} AND relname = 'migration'"):
        return 0
    row = await (await connection.execute("SELECT coalesce(max(version), 0) FROM wanasync.migration")).fetchone()
    return int(row[0]) if row else 0


async def _holds(connection: Connection, question: str) -> bool:
    row = await (await connection.execute(question.encode())).fetchone()
    return bool(row and row[0])


def _known() -> list[str]:
    """The files' texts, in their order, which must be without a gap."""
    found = sorted(entry.name for entry in files(__name__).iterdir() if re.fullmatch(r"\d{3}_\w+\.sql", entry.name))
    if [int(name[:3]) for name in found] != list(range(1, len(found) + 1)):
        raise JournalError(f"the migrations are not numbered 1 to {len(found)}: {', '.join(found)}")
    return [files(__name__).joinpath(name).read_text("utf-8") for name in found]


_GRANTS = (
    "GRANT USAGE ON SCHEMA wanasync TO {role}",
    "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA wanasync TO {role}",
    "REVOKE INSERT, UPDATE ON wanasync.migration, wanasync.state FROM {role}",
    "GRANT DELETE ON wanasync.writer, wanasync.pace_sample, wanasync.pace_task TO {role}",
)


async def _grant(connection: Connection, role: str) -> None:
    async with connection.transaction():
        for statement in _GRANTS:
            await connection.execute(sql.SQL(statement).format(role=sql.Identifier(role)))

"""The cluster's own tables: the engine's, and the mailbox. They lie in a schema beside the journals'."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wanasync import ConfigError, JournalError, PostgresJournal

__all__ = ["SCHEMA", "TASK", "connection_info", "label", "set_up"]

SCHEMA = "wanasync_queue"
TASK = "wanasync.chunk"

_LOCK = 0x77616E62
"""Of those who set up, one at a time."""
_MAILBOX = """
CREATE TABLE delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    task_id text NOT NULL,
    received_at double precision NOT NULL
)
"""
# What we added since, by the names under which it counts as taken.
_STEPS = {
    "wanasync_sweep": """
CREATE TABLE batch (name text PRIMARY KEY, place text NOT NULL);
INSERT INTO batch SELECT DISTINCT ON (args->>'batch') args->>'batch', args->>'to'
    FROM procrastinate_jobs WHERE task_name = 'wanasync.chunk' ORDER BY args->>'batch', id DESC;
CREATE TABLE sweep (id integer PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO sweep VALUES (1, '-infinity');
"""
}
_GRANTS = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON {schema}.migration FROM {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
)
_NETWORK = {
    # A server that is gone without a word is noticed by these; all may be given in the DSN.
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


# The server notices as soon that we are: what our connection has locked is others' then.
_NOTICE = ("-c tcp_keepalives_idle=5", "-c tcp_keepalives_interval=2", "-c tcp_keepalives_count=3")

# A table that was filled a moment ago has no statistics: for each job that is taken, the server would look at all of
# them and sort them, which an index has in order.
_BY_INDEX = ("-c enable_sort=off",)


def connection_info(dsn: str) -> str:
    """The address with our schema to look for tables in. Raises `ConfigError`."""
    given = _parts(dsn)
    options = f"{' '.join((*_NOTICE, *_BY_INDEX))} {given.get('options') or ''} -c search_path={SCHEMA}"
    return make_conninfo("", **(_NETWORK | given | {"options": options, "application_name": "wanasync cluster"}))


def label(dsn: str) -> str:
    """Where it is, without who asks and with which password."""
    given = _parts(dsn)
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{given.get('host') or 'localhost'}{port}/{given.get('dbname') or ''}"


def _parts(dsn: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.ProgrammingError as error:
        # Its message is not passed on: it quotes what is wrong, which may be the password.
        raise ConfigError("is no address of a PostgreSQL database", "database") from error.with_traceback(None)


async def set_up(dsn: str, *, role: str | None = None) -> None:
    """Make all tables, the journals' and the cluster's, or bring them up to date. Stop the workers for the latter.

    `role` is granted what workers and web backends need, and no more. Raises `JournalError`, also where the user of the
    database may not do this.
    """
    await PostgresJournal(dsn).migrate(role=role)
    try:
        async with await psycopg.AsyncConnection.connect(connection_info(dsn)) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            await _bring_up(connection)
            if role is not None:
                names = {"schema": sql.Identifier(SCHEMA), "role": sql.Identifier(role)}
                for statement in _GRANTS:
                    await connection.execute(sql.SQL(statement).format(**names))
    except psycopg.Error as error:
        words = " ".join(str(error).split())
        raise JournalError(f"the queue could not be set up: {words}", label(dsn)) from error


async def _bring_up(connection: psycopg.AsyncConnection[Any]) -> None:
    found = await connection.execute("SELECT to_regclass('migration') IS NOT NULL")
    is_there = await found.fetchone()
    steps = _engine_migrations() | _STEPS
    if is_there and is_there[0]:
        rows = await (await connection.execute("SELECT name FROM migration")).fetchall()
        missing = {name: text for name, text in steps.items() if (name,) not in rows}
        for text in missing.values():
            await connection.execute(text.encode())
    else:
        missing = steps
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
        await connection.execute("CREATE TABLE migration (name text PRIMARY KEY)")
        await connection.execute(_MAILBOX.encode())
        # The whole as it is today; its single steps count as taken.
        await connection.execute(SchemaManager.get_schema().encode())
        for text in _STEPS.values():
            await connection.execute(text.encode())
    async with connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO migration VALUES (%s)", [(name,) for name in missing])


def _engine_migrations() -> dict[str, str]:
    """The engine's steps from version to version, in their order."""
    folder = files("procrastinate.sql").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {name: folder.joinpath(name).read_text("utf-8") for name in names}

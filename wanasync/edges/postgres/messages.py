"""Several statements in one message, which the server carries out once all of it has arrived.

With its values beside the text, as libpq sends it otherwise, a statement is a row of messages, and between two of them
the server waits without a limit, whatever the transaction has locked: no setting of an idle transaction applies there.
Who is cut off or frozen between whole sentences is idle to the server: `idle_in_transaction_session_timeout` ends that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncClientCursor

from wanasync.edges.postgres.database import Connection

__all__ = ["BEGIN", "COMMIT", "Statement", "send"]

Statement = tuple[str, Sequence[Any]]

BEGIN: Statement = ("BEGIN", ())
COMMIT: Statement = ("COMMIT", ())


async def send(connection: Connection, *statements: Statement) -> list[list[tuple[Any, ...]]]:
    """The rows that each statement gives, none for one that gives no rows. The values are written into the text."""
    text = ";\n".join(query for query, _ in statements)
    async with AsyncClientCursor(connection) as cursor:
        await cursor.execute(text.encode(), [value for _, values in statements for value in values])
        results = [await _rows(cursor)]
        while cursor.nextset():
            results.append(await _rows(cursor))
    return results


async def _rows(cursor: AsyncClientCursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return await cursor.fetchall() if cursor.description else []

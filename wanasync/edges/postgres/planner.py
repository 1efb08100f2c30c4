"""Planning a list in the database: looked up and written for thousands of items at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import Factory, define

from wanasync.edges.journal.planning import Planning
from wanasync.edges.journal.schema import PLANNED, key_number
from wanasync.edges.postgres.accounts import enter
from wanasync.edges.postgres.database import Connection, fetch
from wanasync.edges.postgres.facts import Facts, Listed, Missing, foreseen
from wanasync.edges.postgres.holding import Identity
from wanasync.edges.postgres.rows import ADD_ITEMS, ADD_PROGRESS, FIND, FIND_NAMES, FIND_ROW, item_values, read_row
from wanasync.edges.postgres.writer import keep_attempts, write_rows
from wanasync.errors import RequestValidationError
from wanasync.rules.claims import Row
from wanasync.rules.records import ItemRecord, PlannedItem

__all__ = ["Planner", "check_writable"]

_MOST_REPETITIONS = 10_000


@define
class Planner:
    """One pass over a list. `directory` is where videos lie that no item may overwrite."""

    _me: Identity
    _directory: Path | None
    listed: Listed = Factory(Listed)
    _repetitions: dict[int, int] = Factory(dict)

    async def plan(self, items: Sequence[PlannedItem], connection: Connection) -> tuple[list[ItemRecord], Planning]:
        """The items' records, and what is to be remembered of them once it is committed: this may be done again."""
        # Held to the end of the transaction: rows are numbered by one process at a time.
        numbered = "SELECT last_seq FROM wanasync.batch WHERE id = %s FOR NO KEY UPDATE"
        ((last_seq,),) = await fetch(connection, numbered, self._me.batch)
        known = Facts(self._me.journal_id, last_seq, self._repetitions, self.listed, self._directory)
        missing: Missing | None = foreseen(items, self._repetitions)
        while missing is not None:
            await self._look_up(connection, known, missing)
            known.forget()
            try:
                planning = Planning(known, items)
                # It looks for files in the way, and a directory may be slow.
                records = await asyncio.to_thread(planning.run)
                missing = None
            except Missing as more:
                missing = more
        await self._write_plan(connection, known, planning.added)
        return records, planning

    def remember(self, planning: Planning) -> None:
        self.listed.add(planning.listed)
        self._repetitions.update(planning.repetitions)
        if len(self._repetitions) > _MOST_REPETITIONS:
            self._repetitions.clear()

    async def _look_up(self, connection: Connection, known: Facts, missing: Missing) -> None:
        me = self._me
        if missing.keys:
            known.by_key.update(dict.fromkeys(missing.keys))
            for row in await fetch(connection, FIND, list(missing.keys), me.batch):
                record = read_row(row, me.journal_id).record
                known.by_key[key_number(record.key)] = known.by_row[record.seq] = record
        for seq in missing.rows:
            (row,) = await fetch(connection, FIND_ROW, me.batch, seq)
            known.by_row[seq] = read_row(row, me.journal_id).record
        if missing.names:
            known.owners.update(dict.fromkeys(missing.names))
            known.owners.update(await fetch(connection, FIND_NAMES, list(missing.names), me.batch))

    async def _write_plan(self, connection: Connection, known: Facts, added: Sequence[ItemRecord]) -> None:
        batch = self._me.batch
        await _copy(connection, ADD_ITEMS, (item_values(batch, record) for record in added))
        await _copy(connection, ADD_PROGRESS, ((batch, record.seq, PLANNED, record.attempt) for record in added))
        for before, after in known.changed:
            await self._change(connection, before, after)
        if known.changed:
            await enter(connection, batch, known.changed)
        if known.claims:
            await connection.execute(_CLAIM_NAMES, (batch, list(known.claims), list(known.claims.values())))
        if added:
            counted = "UPDATE wanasync.batch SET last_seq = %s WHERE id = %s"
            await connection.execute(counted, (added[-1].seq, batch))

    async def _change(self, connection: Connection, before: ItemRecord, after: ItemRecord) -> None:
        batch = self._me.batch
        changed = "UPDATE wanasync.item SET idx = %s, request = %s, file = %s WHERE batch = %s AND seq = %s"
        await connection.execute(changed, (after.index, after.request_json, after.file, batch, after.seq))
        if after.attempt != before.attempt and before.task_id is not None:
            await keep_attempts(connection, batch, [(before, None)])
        if (after.state, after.attempt) != (before.state, before.attempt):
            await write_rows(connection, batch, self._me.writer, [Row(after)])


_CLAIM_NAMES = """
INSERT INTO wanasync.name SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[])
ON CONFLICT (batch, hash) DO UPDATE SET seq = excluded.seq
"""


async def _copy(connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            await copy.write_row(row)


def check_writable(items: Sequence[PlannedItem]) -> None:
    for item in items:
        if item.item_id is not None and "\0" in item.item_id:
            raise RequestValidationError("id", item.item_id, "must be without NUL, which PostgreSQL can't keep")

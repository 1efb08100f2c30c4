"""Planning a list in the database: looked up and written for thousands of items at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import Factory, define

from wanasync.edges.journal.planning import Planning
from wanasync.edges.journal.schema import PLANNED, key_number
from wanasync.edges.postgres.accounts import enter
from wanasync.edges.postgres.database import Connection, fetch
from wanasync.edges.postgres.facts import Facts, Listed, Missing, foreseen
from wanasync.edges.postgres.holding import Identity
from wanasync.edges.postgres.messages import Statement, send
from wanasync.edges.postgres.rows import (
    ADD_ITEMS,
    ADD_PROGRESS,
    FIND,
    FIND_FILES,
    FIND_NAMES,
    FIND_ROW,
    item_line,
    read_row,
)
from wanasync.edges.postgres.writer import keeping, writing
from wanasync.errors import RequestValidationError
from wanasync.rules.claims import Row
from wanasync.rules.naming import leading_number, name_key
from wanasync.rules.records import ItemRecord, PlannedItem
from wanasync.rules.sieve import Sieve

__all__ = ["Plan", "Planner", "check_writable"]

TURN_WITHIN = 10.0
"""Seconds for which one who plans waits for another who does; a piece of a list takes a fraction of one."""
_MOST_REPETITIONS = 10_000
_LINES = 500


@define
class Plan:
    """What a chunk came to, and what is to be remembered of it once it is committed: it may be planned again.

    `version` is the batch's row after it, where everything of the batch is known by then.
    """

    records: list[ItemRecord]
    planning: Planning
    version: str | None


@define
class Planner:
    """One pass over a list. `directory` is where videos lie that no item may overwrite.

    Of a batch that was empty when the list came, and that nobody else has planned anything of since, it knows without
    asking what is not there.
    """

    _me: Identity
    _directory: Path | None
    listed: Listed = Factory(Listed)
    _repetitions: dict[int, int] = Factory(dict)
    _seen: Sieve = Factory(Sieve)
    _version: str | None = None

    async def plan(self, items: Sequence[PlannedItem], connection: Connection) -> Plan:
        # One that is frozen within a COPY is not idle to the server, which waits for it for ever; so would we.
        await connection.execute(f"SET LOCAL lock_timeout = {TURN_WITHIN * 1000:.0f}".encode())
        # Held to the end of the transaction: rows are numbered by one process at a time.
        numbered = "SELECT last_seq, xmin::text FROM wanasync.batch WHERE id = %s FOR NO KEY UPDATE"
        ((last_seq, version),) = await fetch(connection, numbered, self._me.batch)
        knows_all = last_seq == 0 or version == self._version
        known = Facts(self._me.journal_id, last_seq, self._repetitions, self.listed, self._directory)
        missing: Missing | None = foreseen(items, self._repetitions)
        while missing is not None:
            await self._look_up(connection, known, missing, self._seen if knows_all else None)
            known.forget()
            try:
                planning = Planning(known, items)
                # Where it looks for files in the way, that may be slow.
                looks = self._directory is not None
                records = await asyncio.to_thread(planning.run) if looks else planning.run()
                missing = None
            except Missing as more:
                missing = more
        after = await self._write_plan(connection, known, planning.added) or version
        return Plan(records, planning, after if knows_all else None)

    def remember(self, plan: Plan) -> None:
        self.listed.add(plan.planning.listed)
        self._repetitions.update(plan.planning.repetitions)
        if len(self._repetitions) > _MOST_REPETITIONS:
            self._repetitions.clear()
        self._version = plan.version
        if plan.version is not None:
            added = plan.planning.added
            self._seen.add(key_number(record.key) for record in added)
            self._seen.add(name_key(record.file) for record in added)
            self._seen.add(plan.planning.claims)

    async def _look_up(self, connection: Connection, known: Facts, missing: Missing, seen: Sieve | None) -> None:
        me = self._me
        known.by_key.update(dict.fromkeys(missing.keys))
        keys = list(missing.keys) if seen is None else seen.held(missing.keys)
        if keys:
            for row in await fetch(connection, FIND, keys, me.batch):
                record = read_row(row, me.journal_id).record
                known.by_key[key_number(record.key)] = known.by_row[record.seq] = record
        for seq in missing.rows:
            (row,) = await fetch(connection, FIND_ROW, me.batch, seq)
            known.by_row[seq] = read_row(row, me.journal_id).record
        known.owners.update(dict.fromkeys(missing.names))
        names = missing.names if seen is None else seen.held(missing.names)
        if names:
            known.owners.update(await self._owners(connection, names, known.last_seq))

    async def _owners(self, connection: Connection, names: Sequence[int], last_seq: int) -> dict[int, int]:
        """Whose files have these names: as is written down, or as the row itself says."""
        owners = dict(await fetch(connection, FIND_NAMES, list(names), self._me.batch))
        numbered = [(name, seq) for name in names if name not in owners and (seq := leading_number(name)) is not None]
        rows = {seq for _, seq in numbered if 0 < seq <= last_seq}
        files = dict(await fetch(connection, FIND_FILES, list(rows), self._me.batch)) if rows else {}
        owners.update((name, seq) for name, seq in numbered if seq in files and name_key(files[seq]) == name)
        return owners

    async def _write_plan(self, connection: Connection, known: Facts, added: Sequence[ItemRecord]) -> str | None:
        """The version of the batch's row after that; None where nothing is new."""
        batch = self._me.batch
        last_seq = known.last_seq + len(added)
        if added:
            await _copy(connection, ADD_ITEMS, (item_line(batch, record) for record in added))
            await connection.execute(ADD_PROGRESS, (batch, PLANNED, known.last_seq + 1, last_seq))
        for before, after in known.changed:
            await self._change(connection, before, after)
        if known.changed:
            await enter(connection, batch, known.changed)
        if known.claims:
            await connection.execute(_CLAIM_NAMES, (batch, list(known.claims), list(known.claims.values())))
        if not (added or known.changed or known.claims):
            return None
        counted = "UPDATE wanasync.batch SET last_seq = %s WHERE id = %s RETURNING xmin::text"
        ((version,),) = await fetch(connection, counted, last_seq, batch)
        return str(version)

    async def _change(self, connection: Connection, before: ItemRecord, after: ItemRecord) -> None:
        batch = self._me.batch
        changed = "UPDATE wanasync.item SET idx = %s, request = %s, file = %s WHERE batch = %s AND seq = %s"
        await connection.execute(changed, (after.index, after.request_json, after.file, batch, after.seq))
        written: list[Statement] = []
        if after.attempt != before.attempt and before.task_id is not None:
            written += keeping(batch, [(before, None)])
        if (after.state, after.attempt) != (before.state, before.attempt):
            written += writing(batch, self._me.writer, [Row(after)])
        if written:
            await send(connection, *written)


_CLAIM_NAMES = """
INSERT INTO wanasync.name SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[])
ON CONFLICT (batch, hash) DO UPDATE SET seq = excluded.seq
"""


async def _copy(connection: Connection, statement: str, lines: Iterator[str]) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        # The server takes one block in while the next is made.
        while block := "".join(itertools.islice(lines, _LINES)):
            await copy.write(block)


def check_writable(items: Sequence[PlannedItem]) -> None:
    for item in items:
        if item.item_id is not None and "\0" in item.item_id:
            raise RequestValidationError("id", item.item_id, "must be without NUL, which PostgreSQL can't keep")

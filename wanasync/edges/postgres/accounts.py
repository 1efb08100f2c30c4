"""The ledgers of batches that have a budget or a limit, as they lie in their table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wanasync.edges.journal.schema import CODES
from wanasync.edges.postgres.database import Connection, fetch
from wanasync.edges.postgres.rows import read_row, slice_query
from wanasync.rules.budget import PRICES
from wanasync.rules.ledger import Ledger, Terms
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord

__all__ = ["LOCK_LEDGER", "SAVE_LEDGER", "TERMS", "allow", "enter", "ledger_values", "read_ledger"]

_COLUMNS = "budget, limit_given, stopped"
TERMS = f"SELECT {_COLUMNS} FROM wanasync.ledger WHERE batch = %s"  # noqa: S608 - constants only
LOCK_LEDGER = f"SELECT {_COLUMNS}, state FROM wanasync.ledger WHERE batch = %s FOR UPDATE"  # noqa: S608
SAVE_LEDGER = """
INSERT INTO wanasync.ledger (batch, budget, limit_given, stopped, state) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (batch) DO UPDATE SET budget = excluded.budget, limit_given = excluded.limit_given,
    stopped = excluded.stopped, state = excluded.state
"""
# Whoever writes items holds a lock on some of their rows, and looks for a ledger after that: so those who saw none
# have ended once this lock is had, and the others wait for it.
_STOP_WRITERS = "LOCK TABLE wanasync.progress IN EXCLUSIVE MODE"
_HELD = (ItemState.SUBMITTING, ItemState.RESUBMITTING, ItemState.UNKNOWN)
_COMMITTED = """
SELECT coalesce(sum(coalesce(credits_used, credits_reserved)), 0) FROM wanasync.progress
WHERE batch = %s AND state = ANY(%s)
"""
_SLICE = 500


def read_ledger(rows: Sequence[tuple[Any, ...]]) -> Ledger | None:
    """What `LOCK_LEDGER` has found."""
    if not rows:
        return None
    ((*terms, state),) = rows
    return Ledger.from_json(Terms(*terms), state)


def ledger_values(batch: int, ledger: Ledger) -> tuple[Any, ...]:
    terms = ledger.terms
    return batch, terms.budget, terms.limit, terms.stopped, ledger.to_json()


async def enter(connection: Connection, batch: int, steps: Iterable[tuple[ItemRecord, ItemRecord]]) -> None:
    """Enter steps of items, each as it was and as it is, into the batch's ledger, if it has one."""
    ledger = read_ledger(await fetch(connection, LOCK_LEDGER, batch))
    if ledger is None:
        return
    for before, after in steps:
        ledger.move(before, after)
    await connection.execute(SAVE_LEDGER, ledger_values(batch, ledger))


async def allow(
    connection: Connection, batch: int, journal_id: str, budget: float | None, limit: int | None
) -> Terms | None:
    """Set what may be spent on a batch; the terms from now on, None where there never were any."""
    ledger = read_ledger(await fetch(connection, LOCK_LEDGER, batch))
    if ledger is None and budget is None and limit is None:
        return None
    if ledger is None:
        await connection.execute(_STOP_WRITERS)
        # Another may have made it while we waited.
        found = read_ledger(await fetch(connection, LOCK_LEDGER, batch))
        ledger = found or await _begin(connection, batch, journal_id)
    ledger.allow(budget, limit)
    await connection.execute(SAVE_LEDGER, ledger_values(batch, ledger))
    return ledger.terms


async def _begin(connection: Connection, batch: int, journal_id: str) -> Ledger:
    """The account of what the batch has cost so far."""
    ledger = Ledger()
    for (text,) in await fetch(
        connection, "SELECT value FROM wanasync.meta WHERE batch = %s AND name = %s", batch, PRICES
    ):
        ledger.recall_prices(text)
    paid = [CODES[state] for state in (ItemState.ACCEPTED, ItemState.READY, ItemState.SAVED, ItemState.EXPIRED)]
    ((ledger.spent,),) = await fetch(connection, _COMMITTED, batch, paid)
    for state in _HELD:
        after = 0
        while rows := await fetch(connection, slice_query(state), batch, after, _SLICE):
            records = [read_row(row, journal_id).record for row in rows]
            for record in records:
                ledger.add(record)
            after = records[-1].seq
    return ledger

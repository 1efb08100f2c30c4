"""What a transaction under way has decided and not written yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from attrs import Factory, define

from wanasync.edges.journal.schema import (
    ADD_UP,
    CODES,
    DROP_LINKS,
    KEEP_LINKS,
    PROGRESS,
    TALLY,
    link_values,
    progress_values,
)
from wanasync.edges.journal.statements import put
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord

__all__ = ["Pending"]

Sums = dict[ItemState, list[float]]


@define(eq=False)
class Pending:
    """Items' steps, and what they change in the sums over all items."""

    _progress: dict[int, tuple[Any, ...]] = Factory(dict)
    _links: dict[int, tuple[Any, ...] | None] = Factory(dict)
    _sums: Sums = Factory(dict)

    def add(self, before: ItemRecord, after: ItemRecord) -> None:
        """The item that was `before` is `after`."""
        self._progress[after.seq] = progress_values(after)
        if after.links != before.links or after.link_deadline != before.link_deadline:
            self._links[after.seq] = link_values(after) if after.links else None
        self.count(before, -1)
        self.count(after, +1)

    def count(self, record: ItemRecord, sign: int = 1) -> None:
        sums = self._sums.get(record.state)
        if sums is None:
            sums = self._sums[record.state] = [0, 0, 0, 0]
        sums[0] += sign
        if record.credits_reserved:
            sums[1] += sign * record.credits_reserved
        if record.credits_used:
            sums[2] += sign * record.credits_used
        if committed := record.committed:
            sums[3] += sign * committed

    def counted(self) -> Mapping[ItemState, list[float]]:
        """The sums so far, to `recount` where what follows is taken back."""
        return {state: [*sums] for state, sums in self._sums.items()}

    def recount(self, sums: Mapping[ItemState, list[float]]) -> None:
        self._sums = dict(sums)

    def write(self, db: sqlite3.Connection) -> None:
        """Write the steps, so that queries see them."""
        if not self._progress:
            return
        progress, self._progress = self._progress, {}
        links, self._links = self._links, {}
        put(db, PROGRESS, [*progress.values()])
        put(db, KEEP_LINKS, [values for values in links.values() if values is not None])
        put(db, DROP_LINKS, [(seq,) for seq, values in links.items() if values is None], ")")

    def write_all(self, db: sqlite3.Connection) -> None:
        self.write(db)
        put(db, TALLY, [(CODES[state], *sums) for state, sums in self._sums.items()], ADD_UP)

    def clear(self) -> None:
        self._progress.clear()
        self._links.clear()
        self._sums.clear()

"""What planning a chunk of a list asks of the database, fetched for many items at once.

Planning is sync code that looks things up as it goes. Here it finds them in memory; where something was not foreseen it
is told to stop, what it missed is fetched, and it begins anew. It writes nothing until it is through.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from attrs import Factory, define, field

from wanasync.edges.journal.schema import key_number
from wanasync.rules.marks import Marks
from wanasync.rules.naming import file_name, name_key
from wanasync.rules.records import ItemRecord, PlannedItem, item_key

__all__ = ["Facts", "Listed", "Missing", "foreseen"]

_AHEAD = 64
"""Repetitions of one content that are looked up at once, where the first ones are taken."""


class Missing(Exception):  # noqa: N818 - not an error: it asks for something
    """Some facts are needed that were not fetched: items by key or by row, and owners of file names by hash."""

    def __init__(self, *, keys: Sequence[int] = (), rows: Sequence[int] = (), names: Sequence[int] = ()) -> None:
        super().__init__(keys, rows, names)
        self.keys: Sequence[int] = keys
        self.rows: Sequence[int] = rows
        self.names: Sequence[int] = names


@define
class Listed:
    """Which rows came in a list since the journal was opened."""

    _marks: Marks = Factory(Marks)
    _all: bool = False

    def __contains__(self, seq: int) -> bool:
        return self._all or seq in self._marks

    def add(self, rows: Iterable[int]) -> None:
        for seq in rows:
            self._marks.add(seq)

    def add_all(self) -> None:
        self._all = True


@define
class Facts:
    """What is known of the database while one chunk is planned, and what planning wants changed."""

    journal_id: str
    last_seq: int
    repetitions: dict[int, int]
    listed: Listed
    directory: Path | None
    """Where the videos go, if that is a directory which holds files already."""
    by_key: dict[int, ItemRecord | None] = field(factory=dict)
    by_row: dict[int, ItemRecord] = field(factory=dict)
    owners: dict[int, int | None] = field(factory=dict)
    changed: list[tuple[ItemRecord, ItemRecord]] = field(factory=list)
    claims: dict[int, int] = field(factory=dict)

    def forget(self) -> None:
        """Begin anew, with what was fetched."""
        self.changed.clear()
        self.claims.clear()

    # What planning asks

    def find(self, keys: Sequence[int]) -> dict[int, ItemRecord]:
        missing = [key for key in keys if key not in self.by_key]
        if missing:
            raise Missing(keys=missing)
        return {key: record for key in keys if (record := self.by_key[key]) is not None}

    def find_row(self, seq: int) -> ItemRecord:
        if seq not in self.by_row:
            raise Missing(rows=[seq])
        return self.by_row[seq]

    def name_owners(self, hashes: Sequence[int]) -> dict[int, int]:
        missing = [name for name in hashes if name not in self.owners]
        if missing:
            raise Missing(names=missing)
        return {name: seq for name in hashes if (seq := self.owners[name]) is not None}

    def is_listed(self, seq: int) -> bool:
        return seq in self.listed

    def is_strange(self, name: str) -> bool:
        return self.directory is not None and os.path.lexists(self.directory / name)

    # What it wants

    def add(self, records: Sequence[ItemRecord], made: Sequence[tuple[str, str | None]]) -> None:
        """Nothing to remember: `Planning.added` has them."""

    def change(self, before: ItemRecord, after: ItemRecord) -> None:
        self.changed.append((before, after))

    def claim_names(self, owners: Mapping[int, int]) -> None:
        self.claims.update(owners)


def foreseen(items: Sequence[PlannedItem], repetitions: Mapping[int, int]) -> Missing:
    """What planning these items will ask for, as far as can be told beforehand."""
    wishes = [name_key(file_name(item.request.prompt, item.index, item.item_id, item.file)) for item in items]
    keys = {key_number(item.key) for item in items}
    keys.update(_repeated(items, repetitions))
    return Missing(keys=list(keys), names=wishes)


def _repeated(items: Sequence[PlannedItem], repetitions: Mapping[int, int]) -> Iterable[int]:
    """The keys under which items of equal content may stand."""
    counts = Counter(item.key for item in items if item.item_id is None)
    again = {key for key, count in counts.items() if count > 1 or key_number(key) in repetitions}
    for item in {item.key: item for item in items if item.key in again}.values() if again else ():
        first = repetitions.get(key_number(item.key), 1) + 1
        for occurrence in range(first, first + counts[item.key] + _AHEAD):
            yield key_number(item_key(item.request, None, occurrence))

"""Matching a list with what the journal knows, and finding each new video a name."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from wanasync.edges.journal.schema import key_number
from wanasync.errors import RequestValidationError
from wanasync.rules.lifecycle import PAID_STATES, ItemState
from wanasync.rules.naming import file_name, lasting_name, name_key, numbered, wanted_name
from wanasync.rules.records import ItemRecord, PlannedItem, identity_of, item_key, keep_at_hand, replanned

__all__ = ["Known", "Planning"]


class Known(Protocol):
    """What planning asks of the journal, and writes to it."""

    journal_id: str
    last_seq: int
    repetitions: dict[int, int]

    def find(self, keys: Sequence[int]) -> dict[int, ItemRecord]: ...
    def find_row(self, seq: int) -> ItemRecord: ...
    def name_owners(self, hashes: Sequence[int]) -> dict[int, int]: ...
    def is_listed(self, seq: int) -> bool: ...
    def is_strange(self, name: str) -> bool: ...
    def add(self, records: Sequence[ItemRecord], made: Sequence[tuple[str, str | None]]) -> None: ...
    def change(self, before: ItemRecord, after: ItemRecord) -> None: ...
    def claim_names(self, owners: Mapping[int, int]) -> None: ...


class Planning:
    """Plans one chunk of a list: finds what the journal knows of it, and names and writes the rest.

    Looks things up for the whole chunk at once, and writes at the end; in between it remembers what it has decided.
    """

    def __init__(self, store: Known, items: Sequence[PlannedItem]) -> None:
        self._store = store
        self._items = items
        self._known = store.find([key_number(item.key) for item in items])
        self._owners = self._look_up_names()
        self.claims: dict[int, int] = {}
        self._taken: set[int] = set()
        self.added: list[ItemRecord] = []
        # Of each that was added: the key and the file that follow from its id, its request and its row's number.
        self._made: list[tuple[str, str | None]] = []
        self.listed: list[int] = []
        self.repetitions: dict[int, int] = {}

    def _look_up_names(self) -> dict[int, int | None]:
        new = [item for item in self._items if key_number(item.key) not in self._known]
        hashes = [name_key(_wish(item)) for item in new]
        owners: dict[int, int | None] = dict.fromkeys(hashes)
        owners.update(self._store.name_owners(hashes))
        return owners

    def run(self) -> list[ItemRecord]:
        records = [self._place(item) for item in self._items]
        self._store.add(self.added, self._made)
        self._store.claim_names(self.claims)
        return records

    def _place(self, item: PlannedItem) -> ItemRecord:
        key = self._key(item)
        self._taken.add(key)
        known = self._known.get(key)
        record = self._add(item, key) if known is None else self._meet_again(known, item)
        self.listed.append(record.seq)
        return record

    def _key(self, item: PlannedItem) -> int:
        """The item's own key: another one for each repetition of the same content."""
        key = key_number(item.key)
        if not self._is_taken(key):
            return key
        if item.item_id is not None:
            raise RequestValidationError("id", item.item_id, "stands for more than one item of the list")
        occurrence = self.repetitions.get(key) or self._store.repetitions.get(key, 1)
        while True:
            occurrence += 1
            repeated = key_number(item_key(item.request, None, occurrence))
            self._known.update(self._store.find([repeated]))
            if not self._is_taken(repeated):
                self.repetitions[key] = occurrence
                return repeated

    def _is_taken(self, key: int) -> bool:
        return key in self._taken or (key in self._known and self._store.is_listed(self._known[key].seq))

    def _add(self, item: PlannedItem, key: int) -> ItemRecord:
        seq = self._store.last_seq + len(self.added) + 1
        file = self._name(item, seq)
        record = ItemRecord(
            self._store.journal_id, f"{key:016x}", seq, item.index, item.item_id, item.request_json, file
        )
        made = lasting_name(item.request.prompt, seq - 1) if item.item_id is None else None
        if item.file is None and file == made:
            # Its number says so; an entry beside it would be as long as the rest of what is new in it.
            del self.claims[name_key(file)]
        self.added.append(record)
        self._made.append((item.key, made))
        keep_at_hand(item.request_json, item.request)
        return record

    def _meet_again(self, known: ItemRecord, item: PlannedItem) -> ItemRecord:
        record = known if item.index == known.index else attrs.evolve(known, index=item.index)
        if item.request_json != known.request_json:
            record = _with_request(record, item)
        if item.file is not None and record.state is not ItemState.SAVED and wanted_name(item.file) != record.file:
            record = attrs.evolve(record, file=self._name(item, record.seq))
        if record != known:
            self._store.change(known, record)
        return record

    # Names

    def _name(self, item: PlannedItem, seq: int) -> str:
        name = _wish(item)
        if item.file is not None:
            self._make_way(name, item)
        elif not self._is_free(name):
            self._check_wish(name, item)
            name = self._free_name(name)
        self._claim(name, seq)
        return name

    def _check_wish(self, name: str, item: PlannedItem) -> None:
        """A template that gives two items of this list one name is wrong; what an earlier list had is made way for."""
        owner = self._owner_row(name) if item.wish is not None else None
        if owner is not None and (key_number(owner.key) in self._taken or self._store.is_listed(owner.seq)):
            reason = (
                f"is what the template makes of {_label(item)} and of {_label(owner)}; add {{index}} or {{id}} to it"
            )
            raise RequestValidationError("name", name, reason)

    def _claim(self, name: str, seq: int) -> None:
        name_hash = name_key(name)
        self._owners[name_hash] = self.claims[name_hash] = seq

    def _is_free(self, name: str) -> bool:
        return self._owner(name) is None and not self._store.is_strange(name)

    def _free_name(self, name: str) -> str:
        tries = (numbered(name, number) for number in itertools.count(2))
        return next(filter(self._is_free, tries))

    def _owner(self, name: str) -> int | None:
        name_hash = name_key(name)
        if name_hash not in self._owners:
            self._owners[name_hash] = self._store.name_owners([name_hash]).get(name_hash)
        return self._owners[name_hash]

    def _make_way(self, name: str, item: PlannedItem) -> None:
        """See that a wanted name can be had. Raises `RequestValidationError` where it can't."""
        owner = self._owner_row(name)
        if owner is not None:
            self._dispossess(owner, name, item)
        elif self._store.is_strange(name):
            reason = f"is wanted by {_label(item)}, but such a file is there already and is not this batch's"
            raise RequestValidationError("file", item.file, reason)

    def _dispossess(self, owner: ItemRecord, name: str, item: PlannedItem) -> None:
        key = key_number(owner.key)
        if key in self._taken or self._store.is_listed(owner.seq):
            reason = f"is wanted by {_label(item)}, and is the file of {_label(owner)} too; each video needs its own"
            raise RequestValidationError("file", item.file, reason)
        if owner.state in PAID_STATES:
            reason = (
                f"is wanted by {_label(item)}, and is the file of {_label(owner)} of an earlier run ({owner.state})"
            )
            raise RequestValidationError("file", item.file, reason)
        # An earlier line that was never paid for, corrected since: it must not hold on to its name.
        moved = attrs.evolve(owner, file=self._free_name(name))
        self._store.change(owner, moved)
        self._claim(moved.file, owner.seq)
        if key in self._known:
            self._known[key] = moved

    def _owner_row(self, name: str) -> ItemRecord | None:
        seq = self._owner(name)
        if seq is None:
            return None
        new = seq - self._store.last_seq - 1
        owner = self.added[new] if new >= 0 else self._store.find_row(seq)
        # An item that was given another name since is still written down beside its first one.
        return owner if name_key(owner.file) == name_key(name) else None


def _wish(item: PlannedItem) -> str:
    if item.file is None and item.wish is not None:
        return item.wish
    return file_name(item.request.prompt, item.index, item.item_id, item.file)


def _with_request(record: ItemRecord, item: PlannedItem) -> ItemRecord:
    if identity_of(item.request_json) != identity_of(record.request_json):
        return replanned(record, item.request_json)
    if record.submitted_at is None and record.state is ItemState.PLANNED:
        return attrs.evolve(record, request_json=item.request_json)
    # Only the callback's address is another, and the first one has been told to the provider.
    return record


def _label(item: PlannedItem | ItemRecord) -> str:
    return f"item {item.item_id!r}" if item.item_id is not None else f"item {item.index + 1}"

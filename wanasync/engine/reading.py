"""Reading a batch's list: lazily, in pieces, and without losing what came before an error of the list's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import attrs

from wanasync.edges.journal.contract import BatchJournal
from wanasync.edges.lists import RequestList
from wanasync.models import BatchItem, VideoRequest, as_request
from wanasync.rules.known_list import KnownList
from wanasync.rules.records import ItemRecord, PlannedItem
from wanasync.rules.templates import NameTemplate

__all__ = [
    "LIST",
    "Requests",
    "ahead",
    "as_planned",
    "chunks",
    "fingerprint",
    "known_list",
    "missing_files",
    "planned_items",
]

LIST = "list"
"""Under which name the journal keeps the list that it knows as a whole."""

T = TypeVar("T")

Requests = Iterable[str | VideoRequest | BatchItem] | AsyncIterable[str | VideoRequest | BatchItem]


def as_planned(
    index: int, entry: str | VideoRequest | BatchItem, template: NameTemplate | None = None, now: float = 0.0
) -> PlannedItem:
    """An entry of the list as the journal takes it, named after `template`. Raises `RequestValidationError`."""
    if isinstance(entry, BatchItem):
        item = PlannedItem(index, as_request(entry.request), entry.id, entry.file)
    else:
        item = PlannedItem(index, as_request(entry))
    if template is None or item.file is not None:
        return item
    return attrs.evolve(item, wish=template.name(item.request, index, item.item_id or item.key, now))


async def fingerprint(requests: Requests) -> str | None:
    """What tells the list again; None for one that only reading can tell."""
    return await asyncio.to_thread(requests.fingerprint) if isinstance(requests, RequestList) else None


async def known_list(journal: BatchJournal, mark: str | None) -> KnownList | None:
    """What the journal keeps of the list with this fingerprint; None where it has other rows too, or lacks some."""
    known = KnownList.from_json(await journal.get_meta(LIST))
    if known is None or known.fingerprint != mark:
        return None
    rows = sum((await journal.counts()).values())
    return known if rows == known.rows else None


def missing_files(directory: Path, records: list[ItemRecord]) -> set[str]:
    """Keys of saved items whose file is gone or has another size than was saved."""
    # By names alone: a `Path` for each of a million files takes longer than asking the disk for it.
    return {record.key for record in records if size_of(f"{directory}/{record.file}") != record.bytes}


def size_of(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


async def chunks(requests: Requests, size: int, start: int = 0) -> AsyncIterator[list[str | VideoRequest | BatchItem]]:
    """The list in pieces, from entry `start` (from 0) on.

    An async list is passed on entry by entry: its next one may be long in coming.
    """
    if isinstance(requests, AsyncIterable):
        async for entry in requests:
            yield [entry]
        return
    entries = iter(requests)
    broken: list[Exception] = []
    while chunk := list(_until_broken(islice(entries, size), broken)):
        if len(chunk) > start:
            yield chunk[start:]
        start = max(start - len(chunk), 0)
        await asyncio.sleep(0)
    if broken:
        raise broken[0]


def _until_broken(entries: Iterator[T], broken: list[Exception]) -> Iterator[T]:
    """The entries before an error of the list's own, which goes into `broken`: they are to be planned first."""
    try:
        yield from entries
    except Exception as error:  # noqa: BLE001 — raised by the caller, later
        broken.append(error)


async def planned_items(requests: Requests, size: int) -> AsyncGenerator[list[PlannedItem], None]:
    """The list as the journal takes it, in pieces. Raises `RequestValidationError` for an entry that is no request."""
    index = 0
    piece: list[PlannedItem] = []
    async for entries in chunks(requests, _SLICE):
        piece += [as_planned(place, entry) for place, entry in enumerate(entries, index)]
        index += len(entries)
        if len(piece) >= size or isinstance(requests, AsyncIterable):
            yield piece
            piece = []
    if piece:
        yield piece


_SLICE = 250
"""Entries between two looks at what else is to be done: a few milliseconds."""


async def ahead(pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same pieces; the next one is made while the caller waits for what becomes of this one."""
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        while (piece := await coming) is not None:
            coming = asyncio.ensure_future(anext(pieces, None))
            yield piece
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await pieces.aclose()

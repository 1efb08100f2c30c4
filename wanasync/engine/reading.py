"""Reading a batch's list: lazily, in pieces, and without losing what came before an error of the list's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from wanasync.models import BatchItem, VideoRequest, as_request
from wanasync.rules.records import ItemRecord, PlannedItem

__all__ = ["Requests", "as_planned", "chunks", "missing_files"]

T = TypeVar("T")

Requests = Iterable[str | VideoRequest | BatchItem] | AsyncIterable[str | VideoRequest | BatchItem]


def as_planned(index: int, entry: str | VideoRequest | BatchItem) -> PlannedItem:
    """An entry of the list as the journal takes it. Raises `RequestValidationError`."""
    if isinstance(entry, BatchItem):
        return PlannedItem(index, as_request(entry.request), entry.id, entry.file)
    return PlannedItem(index, as_request(entry))


def missing_files(directory: Path, records: list[ItemRecord]) -> set[str]:
    """Keys of saved items whose file is gone or has another size than was saved."""
    return {record.key for record in records if size_of(directory / record.file) != record.bytes}


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


async def chunks(requests: Requests, size: int) -> AsyncIterator[list[str | VideoRequest | BatchItem]]:
    """The list in pieces. An async list is passed on entry by entry: its next one may be long in coming."""
    if isinstance(requests, AsyncIterable):
        async for entry in requests:
            yield [entry]
        return
    entries = iter(requests)
    broken: list[Exception] = []
    while chunk := list(_until_broken(islice(entries, size), broken)):
        yield chunk
        await asyncio.sleep(0)
    if broken:
        raise broken[0]


def _until_broken(entries: Iterator[T], broken: list[Exception]) -> Iterator[T]:
    """The entries before an error of the list's own, which goes into `broken`: they are to be planned first."""
    try:
        yield from entries
    except Exception as error:  # noqa: BLE001 — raised by the caller, later
        broken.append(error)

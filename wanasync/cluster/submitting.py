"""Handing a list in: its items into the journal, references to them into the queue."""

from __future__ import annotations

import contextlib
import gc
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from attrs import define

from wanasync import PostgresJournal, RequestList, SharedList
from wanasync.cluster.engine import Chunk, Queue, release

__all__ = ["CHUNK", "Submitted", "submit"]

CHUNK = 100
"""Items in a chunk at most."""


@define
class Submitted:
    """What became of a list: its items, how many of them were new, and the chunks that were handed in.

    `released` are chunks that go on, since the batch's budget or limit was raised.
    """

    items: int = 0
    added: int = 0
    chunks: int = 0
    released: int = 0


async def submit(
    requests: RequestList,
    to: str,
    batch: str,
    queue: Queue,
    journal: PostgresJournal,
    *,
    size: int = CHUNK,
    budget: float | None = None,
    limit: int | None = None,
) -> Submitted:
    """Hand a list in. The same call again hands in what is new, and what nobody has in hand though it isn't settled.

    `to` is the directory, as workers see it, or a URL in an object store. `budget` (credits) and `limit` (submissions)
    are for all workers together, see `SharedList.allow`; a batch that had reached them goes on. Raises `JournalError`,
    and `RequestValidationError` for ids and files that clash.
    """
    covered = Covered(await queue.chunks(batch))
    made = Submitted()
    with _rarely_collecting():
        async with SharedList(to, journal=journal) as items:
            if await items.allow(budget=budget, limit=limit) is not None:
                made.released = await release(queue, batch)
            async with contextlib.aclosing(items.load(requests)) as pieces:
                async for loaded in pieces:
                    made.items += loaded.items
                    made.added += loaded.added
                    fresh = [row for row in loaded.rows if row not in covered]
                    chunks = ranges_as_chunks(fresh, to, batch, size)
                    await queue.put(chunks)
                    made.chunks += len(chunks)
    return made


@contextlib.contextmanager
def _rarely_collecting() -> Iterator[None]:
    """Records come and go by the million, and none refers to itself: looking for cycles takes a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 100_000) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def hand_in(rows: Iterable[int], to: str, batch: str, queue: Queue, *, size: int = CHUNK) -> int:
    """Hand in these rows, where nobody has them in hand; how many chunks they make."""
    covered = Covered(await queue.chunks(batch))
    chunks = ranges_as_chunks([row for row in rows if row not in covered], to, batch, size)
    await queue.put(chunks)
    return len(chunks)


class Covered:
    """The rows that chunks refer to; chunks may overlap."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        ordered = sorted(chunks, key=lambda chunk: chunk.first)
        self._firsts = [chunk.first for chunk in ordered]
        # How far any of the chunks up to this one reaches.
        self._reach = list(accumulate((chunk.last for chunk in ordered), max))

    def __contains__(self, row: int) -> bool:
        place = bisect_right(self._firsts, row) - 1
        return place >= 0 and self._reach[place] >= row


def ranges_as_chunks(rows: Iterable[int], to: str, batch: str, size: int) -> list[Chunk]:
    return [Chunk(batch, to, first, last) for first, last in ranges(rows, size)]


def ranges(rows: Iterable[int], size: int) -> Iterator[tuple[int, int]]:
    """The rows as ranges of at most `size` that have no others between them, both ends included."""
    first = last = None
    for row in sorted(set(rows)):
        if first is None or last is None:
            first = last = row
        elif row == last + 1 and row - first < size:
            last = row
        else:
            yield first, last
            first = last = row
    if first is not None and last is not None:
        yield first, last

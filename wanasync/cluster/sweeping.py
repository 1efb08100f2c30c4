"""What was begun and belongs to nobody: found now and then, and handed in anew.

A worker that was frozen writes its late answers down, and then gives back what others have ended meanwhile. One that
is killed in between leaves paid tasks that no chunk refers to; so does one that dies between any two such steps. The
journal knows of all of them, whatever became of the chunks.

Only what was submitted once is swept up: its owner has handed it in, and wants it. Rows that are merely planned may be
those of a list that is being handed in right now, or whose handing in was broken off; to go on with it is the owner's
to say, by handing it in again. Chunks that overlap cost time, never money.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from wanasync import PostgresJournal
from wanasync.cluster.engine import Queue
from wanasync.cluster.submitting import CHUNK, Covered, ranges_as_chunks

__all__ = ["sweep"]

logger: logging.Logger = logging.getLogger("wanasync.cluster")


async def sweep(queue: Queue, journal: Callable[[str], PostgresJournal], every: float) -> int:
    """Hand in what was begun and has no chunk; how many chunks that took. Nothing, if somebody did so lately.

    `every` is for how many seconds one sweep does for all workers. Raises `JournalError`.
    """
    async with queue.sweeping(every) as is_ours:
        return await _sweep(queue, journal) if is_ours else 0


async def _sweep(queue: Queue, journal: Callable[[str], PostgresJournal]) -> int:
    places = await queue.places()
    if not places:
        return 0
    # The chunks first: a row whose chunk ends between the two looks has ended with it.
    covered = {batch: Covered(chunks) for batch, chunks in (await queue.all_chunks()).items()}
    under_way = await journal(next(iter(places))).under_way(list(places))
    handed = 0
    for batch, rows in under_way.items():
        strays = [row for row in rows if batch not in covered or row not in covered[batch]]
        chunks = ranges_as_chunks(strays, places[batch], batch, CHUNK)
        if chunks:
            logger.warning("batch %s: %d items that nobody has in hand are handed in anew", batch, len(strays))
            await queue.put(chunks)
        handed += len(chunks)
    return handed

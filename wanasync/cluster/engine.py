"""What the cluster asks of the engine that shares work out, in words that any engine can satisfy.

Work is shared out by *chunks*: some rows of one batch. A chunk is a reference and no state; where each item stands is
in the journal, and whether its submission may go out is decided by a claim there. So an engine may hand a chunk out
twice, forget that it did, or take it back from a worker that is alive: that costs time, never money.

A worker *holds* a chunk from the moment it takes it until all its items have come to an end: submitted, followed and
saved by the same session. Holding one costs a coroutine, so that a worker may hold thousands of tasks at once, and
what bounds it is how many of its items are not submitted yet, not how many chunks it holds. The holding is the lease:
when its worker is taken for dead, the chunk goes to another, which finds in the journal what is under way at the
provider and goes on following it. There is no second hand-over to go wrong, for following or for saving.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import blake2b
from typing import Protocol

from attrs import frozen

__all__ = ["SAVE", "WORK", "Chunk", "Held", "Queue", "parked", "release"]

WORK = "wanasync"
"""The lane of chunks for workers that submit."""
SAVE = "wanasync-save"
"""The lane of chunks whose videos are made, for workers that save."""


def parked(batch: str) -> str:
    """The lane of chunks that nobody works on while the budget or limit of their batch is reached."""
    return f"wanasync-parked-{blake2b(batch.encode(), digest_size=8).hexdigest()}"


@frozen
class Chunk:
    """The rows `first` to `last` of the journal of `batch`, whose videos go `to` a directory or an object store."""

    batch: str
    to: str
    first: int
    last: int


@frozen
class Held:
    """A chunk in the hands of a worker; `job` is what the engine calls it, `holder` the worker it knows us as."""

    chunk: Chunk
    job: int
    holder: int


class Queue(Protocol):
    """The engine, as one worker or one submitter sees it. Methods raise `JournalError` once patience is lost."""

    async def put(self, chunks: Sequence[Chunk]) -> None:
        """Hand chunks in, to be worked off in their order."""

    async def chunks(self, batch: str) -> list[Chunk]:
        """The chunks of a batch that wait or are held by somebody."""

    async def all_chunks(self) -> Mapping[str, Sequence[Chunk]]:
        """The same of all batches, by their names."""

    async def places(self) -> Mapping[str, str]:
        """Every batch that was ever handed in, and where its videos were to go the last time."""

    async def take(self, lanes: Iterable[str]) -> Held | None:
        """Hold the next chunk of these lanes; None where there is none."""

    async def wait(self, seconds: float) -> None:
        """Until chunks were handed in, or so many seconds have passed."""

    async def done(self, held: Held) -> None:
        """The chunk has come to its end; nothing is left of it. For one we hold no longer, nothing happens."""

    async def give_back(self, held: Held, *, after: float = 0.0, lane: str | None = None) -> None:
        """Somebody is to take it again, `after` so many seconds, in its lane or another.

        One we hold no longer is handed in anew, unless it waits: whoever took it over may have ended it by now.
        """

    async def beat(self) -> bool:
        """Tell that we are alive. False where we were silent for so long that all we held may be others' by now."""

    async def rescue(self) -> int:
        """Hand out anew what workers hold that are silent; how many chunks that were."""

    def sweeping(self, every: float) -> AbstractAsyncContextManager[bool]:
        """Whether it is ours to sweep: nobody is at it, or has done it in so many seconds. An error undoes that."""


async def release(queue: Queue, batch: str) -> int:
    """Give what was parked back to those who work; how many chunks that were."""
    released = 0
    while (held := await queue.take([parked(batch)])) is not None:
        await queue.give_back(held, lane=WORK)
        released += 1
    return released

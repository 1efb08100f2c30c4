"""A worker: takes chunks from the queue, and works them off in one session.

It takes the next chunk while few of its items wait to be submitted, so that several workers share a batch evenly and
each may hold as many tasks under way as the provider allows. It tells that it is alive, hands out anew what the silent
have held, and starts over with empty hands when it was silent itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from wanasync import Destination, JournalError, OutcomeState, PostgresJournal, SharedBatch, WanError, WanSession
from wanasync.cluster.engine import SAVE, WORK, Chunk, Held, Queue, parked, release
from wanasync.cluster.sweeping import sweep

__all__ = ["Worker"]

logger: logging.Logger = logging.getLogger("wanasync.cluster")

AHEAD = 200
"""A worker takes no further chunk while so many of its items wait to be submitted …"""
MOST = 50_000
"""… or so many are in its hands at all."""
LOOK_EVERY = 5.0
"""Seconds between two looks for chunks, where no notification comes."""
ROOM_EVERY = 0.1
LATER = 60.0
"""Seconds after which a chunk is tried again that somebody else works on, or whose batch is broken here."""
SWEEP_EVERY = 60.0
"""Seconds between two looks, of all workers together, for what was begun and nobody has in hand."""
IDLE = 60.0
"""Seconds after which a batch that nothing is done for is closed."""

LANES: dict[str, tuple[str, ...]] = {"saved": (WORK, SAVE), "made": (WORK,)}


class Worker:
    """Works off what is in the queue until it is drained, in one event loop.

    `journal` gives the journal of a batch by its name. `until` is `saved`, or `made` for one that leaves saving to
    others; `lanes` are those it takes chunks of (by default both, or without the saver's lane). `to` replaces the
    directory that batches were submitted with, where it is mounted elsewhere here; `state` is the directory in which
    videos pass through on their way to an object store, by default the working one. `run` returns after `drain`, and
    raises what makes working on impossible: a refused key, an empty account, a full disk, a lost database.
    """

    def __init__(
        self,
        wan: WanSession,
        queue: Queue,
        journal: Callable[[str], PostgresJournal],
        *,
        until: str = "saved",
        lanes: Iterable[str] | None = None,
        to: Path | None = None,
        state: Path | None = None,
        beat_every: float = 10.0,
        sweep_every: float = SWEEP_EVERY,
        retry_failed: int = 0,
        ahead: int = AHEAD,
    ) -> None:
        self._wan = wan
        self._queue = queue
        self._journal = journal
        self._until = until
        self._lanes = tuple(LANES[until] if lanes is None else lanes)
        self._to = to
        self._state = state
        self._beat_every = beat_every
        self._sweep_every = sweep_every
        self._retry_failed = retry_failed
        self._ahead = ahead
        self._batches: dict[tuple[str, Destination], SharedBatch] = {}
        self._idle_since: dict[tuple[str, Destination], float] = {}
        self._opening = asyncio.Lock()
        self._chunks: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._error: WanError | None = None
        self.ended: int = 0
        """Chunks that have come to their end here."""

    def drain(self, error: WanError | None = None) -> None:
        """Take nothing more, finish the POSTs on the wire, give back what is held. `run` raises `error`, if any."""
        self._error = self._error or error
        self._drained.set()

    async def run(self) -> None:
        """Work until drained. See the class for what is raised."""
        await self._queue.beat()
        lanes = [asyncio.create_task(lane) for lane in self._lanes_of_work()]
        drained = asyncio.create_task(self._drained.wait())
        try:
            ended, _ = await asyncio.wait([*lanes, drained], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._drained.set()
            for task in (*lanes, drained):
                task.cancel()
            await asyncio.gather(*lanes, drained, return_exceptions=True)
            await self._leave_batches()
            await asyncio.gather(*self._chunks, return_exceptions=True)
        for task in ended:
            task.result()
        if self._error is not None:
            raise self._error

    def _lanes_of_work(self) -> tuple[Coroutine[Any, Any, None], ...]:
        return self._feed(), self._keep_alive(), self._rescue(), self._sweep()

    async def _leave_batches(self) -> None:
        """Leave the batches, which lets their chunks be given back; one that is being opened, too."""
        async with self._opening:
            batches, self._batches = list(self._batches.values()), {}
        await asyncio.gather(*(batch.close() for batch in batches), return_exceptions=True)

    # Taking chunks

    async def _feed(self) -> None:
        while True:
            if not self._has_room():
                await asyncio.sleep(ROOM_EVERY)
                continue
            held = await self._queue.take(self._lanes)
            if held is None:
                await self._queue.wait(LOOK_EVERY)
                continue
            self._begin(self._work_off(held))
            await asyncio.sleep(0)

    def _begin(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(step)
        self._chunks.add(task)
        task.add_done_callback(self._chunks.discard)

    def _has_room(self) -> bool:
        batches = self._batches.values()
        # A chunk whose batch is being opened is not counted by any yet.
        if self._opening.locked():
            return False
        return sum(b.waiting for b in batches) < self._ahead and sum(b.in_hand for b in batches) < MOST

    async def _work_off(self, held: Held) -> None:
        chunk = held.chunk
        try:
            batch = await self._batch(chunk.batch, self._destination(chunk))
            told = await batch.work_off(chunk.first, chunk.last)
            is_spent = await batch.is_spent()
        except Exception as error:  # noqa: BLE001 - whatever it is, the chunk must not stay with us
            logger.warning("batch %s, rows %d to %d: %s", chunk.batch, chunk.first, chunk.last, error)
            await self._forget(chunk.batch)
            await self._queue.give_back(held, after=0.0 if self._drained.is_set() else LATER)
            return
        if batch.stop_error is not None and not is_spent:
            self.drain(batch.stop_error)
        if not told[OutcomeState.PENDING] + told[OutcomeState.NOT_STARTED]:
            await self._queue.done(held)
            self.ended += 1
        elif self._drained.is_set() or (batch.stopped is not None and not is_spent):
            await self._queue.give_back(held)
        elif not told[OutcomeState.PENDING]:
            await (self._park(held, batch) if is_spent else self._queue.give_back(held))
        elif self._until == "made" and SAVE not in self._lanes:
            await self._queue.give_back(held, lane=SAVE)
        else:
            await self._queue.give_back(held, after=LATER)

    async def _park(self, held: Held, batch: SharedBatch) -> None:
        """Lay the chunk by until the batch's owner raises what may be spent; who just did has not seen it there yet."""
        await self._queue.give_back(held, lane=parked(held.chunk.batch))
        # A batch that was left meanwhile can't be asked; then it is the next to hand a list in who releases it.
        with contextlib.suppress(JournalError):
            if not await batch.is_spent():
                await release(self._queue, held.chunk.batch)

    # Batches

    def _destination(self, chunk: Chunk) -> Destination:
        """Where the videos of a chunk go, and what they pass through here."""
        there = Destination.of(chunk.to)
        if there.url is None:
            return there if self._to is None else Destination(self._to)
        return there if self._state is None else Destination(self._state / there.directory.name, there.url)

    async def _batch(self, name: str, to: Destination) -> SharedBatch:
        async with self._opening:
            batch = self._batches.get((name, to))
            if batch is None:
                if self._drained.is_set():
                    raise JournalError("this worker takes nothing more")
                await asyncio.to_thread(to.directory.mkdir, parents=True, exist_ok=True)
                batch = self._wan.shared_batch(
                    to, journal=self._journal(name), until=self._until, retry_failed=self._retry_failed
                )
                self._batches[name, to] = await batch.__aenter__()
            return batch

    async def _forget(self, name: str) -> None:
        for place in [place for place in self._batches if place[0] == name]:
            batch = self._batches.pop(place, None)
            if batch is not None:
                await batch.close()

    async def _close_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        for place, batch in list(self._batches.items()):
            if batch.in_hand or batch.waiting:
                self._idle_since.pop(place, None)
            elif now - self._idle_since.setdefault(place, now) > IDLE:
                del self._idle_since[place]
                self._batches.pop(place, None)
                await batch.close()

    # Being alive

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._beat_every)
            if not await self._queue.beat():
                logger.warning("silent for so long that others have what this worker held: starting over")
                # Beside this: POSTs on the wire take their time, and we are to be heard meanwhile.
                self._begin(self._leave_batches())
            await self._close_idle()

    async def _rescue(self) -> None:
        while True:
            await self._queue.rescue()
            await asyncio.sleep(self._beat_every)

    async def _sweep(self) -> None:
        while True:
            try:
                await sweep(self._queue, self._journal, self._sweep_every)
            except JournalError as error:
                logger.warning("what nobody has in hand was not looked for: %s", error)
            await asyncio.sleep(self._sweep_every)

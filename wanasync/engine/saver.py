"""The download queue of one session: the video whose link dies first is fetched first.

There is no worker: `save` runs in its caller's task. Thousands may wait for their first turn at once (after an outage
all finished videos come together), so that wait is one future, entered before anything else is set up. A download
between two attempts holds no place, so a host that is down does not keep the others waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from attrs import define

from wanasync import events
from wanasync.config import Config
from wanasync.edges.download import DeadLinkError, Existing, TransferError, fetch
from wanasync.edges.objects import Slot, UploadError
from wanasync.edges.retrying import full_jitter, retry
from wanasync.edges.transport import Transport
from wanasync.engine.announcer import Emit
from wanasync.errors import (
    APIConnectionError,
    DownloadError,
    LinkExpiredError,
    NotFoundError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
)
from wanasync.models import DownloadStatistics, SavedVideo, TaskSnapshot
from wanasync.rules.links import death_of

__all__ = ["MAX_RENEWALS", "Saver", "is_passing"]

logger: logging.Logger = logging.getLogger("wanasync.saver")

MAX_RENEWALS = 2
"""Fresh links asked for in a row for one video; one that gives bytes starts the count anew."""

_RETRY_BASE = 0.5
_RETRY_CAP = 60.0

_MEANS_PROGRESS = 2**16
"""Bytes an attempt must have added for not being counted as a failed one. A host that gives a few at a time is not
followed for ever."""


@define(eq=False)
class _Job:
    """One video on its way to the disk.

    `link` is the newest one; `renewals` counts those asked for in a row. It either waits for its `turn`, or holds a
    place (`placed`), or is between two attempts; `leash` is set once it had its first turn.
    """

    snapshot: TaskSnapshot
    target: Path
    deadline: float
    existing: Existing
    link: str | None
    slot: Slot | None = None
    renewals: int = 0
    placed: bool = False
    turn: asyncio.Future[bool] | None = None
    leash: asyncio.Timeout | None = None

    @property
    def due(self) -> float:
        """When its link dies, by what is known: the caller's deadline, or earlier if the link says so."""
        return min(self.deadline, death_of(self.link or "") or self.deadline)


class Saver:
    """Saves finished videos, `config.max_downloads` at a time. One per session; `close` it before the transport.

    `renew(task_id)` asks the provider for the task anew, for a fresh link. `clock` gives unix seconds.
    """

    def __init__(
        self,
        transport: Transport,
        renew: Callable[[str], Awaitable[TaskSnapshot]],
        config: Config,
        *,
        clock: Callable[[], float],
        emit: Emit | None = None,
    ) -> None:
        self._transport = transport
        self._renew = renew
        self._config = config
        self._clock = clock
        self._emit = emit
        self._queue: list[tuple[float, int, asyncio.Future[bool]]] = []
        self._numbers = itertools.count()
        self._jobs: set[_Job] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._active = 0
        self._saved = 0
        self._failed = 0
        self._bytes = 0
        self._resumed_bytes = 0
        self._links_renewed = 0

    async def save(
        self,
        snapshot: TaskSnapshot,
        target: Path,
        *,
        deadline: float,
        existing: Existing = Existing.REFUSE,
        slot: Slot | None = None,
    ) -> SavedVideo:
        """Fetch the video of a completed task to `target`, and from there into the `slot` of an object store.

        `deadline` is when the link dies (unix seconds): it orders the queue, unless the link itself names an earlier
        time, and past it the video is still tried.
        Raises `LinkExpiredError` where the link is dead and asking anew gave no living one, and `DownloadError` for
        the rest: at once where the disk is at fault, after `config.download_attempts` in a row without progress where
        the network is; an `APIError` where the provider refuses to be asked for a fresh link. What was received stays
        beside the target for the next call, also on cancellation.
        """
        job = _Job(snapshot, target, deadline, existing, snapshot.links[0] if snapshot.links else None, slot)
        if self._closed:
            raise self._stopped(job)
        self._enter(job)
        came = began = self._clock()
        try:
            await self._take_place(job)
            if self._emit is not None:
                began = self._clock()
                waited = max(began - came, 0.0)
                self._emit(events.SaveStarted(at=began, task_id=snapshot.id, path=target, waited=waited))
            video = await self._leashed(job)
        except Exception as error:
            self._failed += 1
            self._tell_failure(job, error)
            raise
        except asyncio.CancelledError:
            self._tell_failure(job, None)
            raise
        finally:
            self._leave(job)
        if self._emit is not None:
            now = self._clock()
            self._emit(events.VideoSaved(at=now, video=video, seconds=max(now - began, 0.0)))
        self._saved += 1
        self._bytes += video.bytes
        self._resumed_bytes += video.resumed_from
        return video

    def _tell_failure(self, job: _Job, error: Exception | None) -> None:
        if self._emit is not None:
            self._emit(events.SaveFailed(at=self._clock(), task_id=job.snapshot.id, path=job.target, error=error))

    def statistics(self) -> DownloadStatistics:
        return DownloadStatistics(
            waiting=len(self._jobs) - self._active,
            active=self._active,
            saved=self._saved,
            failed=self._failed,
            bytes=self._bytes,
            resumed_bytes=self._resumed_bytes,
            links_renewed=self._links_renewed,
        )

    async def close(self) -> None:
        """End every `save` with a `DownloadError`; their parts stay."""
        if not self._closed:
            self._closed = True
            for job in self._jobs:
                self._stop(job)
        await self._idle.wait()

    def _enter(self, job: _Job) -> None:
        self._jobs.add(job)
        self._idle.clear()

    def _leave(self, job: _Job) -> None:
        self._leave_place(job)
        self._jobs.discard(job)
        if not self._jobs:
            self._idle.set()

    def _stop(self, job: _Job) -> None:
        if job.leash is not None:
            job.leash.reschedule(asyncio.get_running_loop().time())
        elif job.turn is not None and not job.turn.done():
            job.turn.set_result(False)

    async def _leashed(self, job: _Job) -> SavedVideo:
        """What ends a job when the queue is closed: a timeout that has none until then."""
        if self._closed:
            raise self._stopped(job)
        job.leash = asyncio.timeout(None)
        try:
            async with job.leash:
                return await self._persist(job)
        except TimeoutError as error:
            if not job.leash.expired():
                raise
            raise self._stopped(job) from error

    def _stopped(self, job: _Job) -> DownloadError:
        return DownloadError(
            f"{job.target} was not saved: the session was closed; what was received is kept",
            job.snapshot.id,
            job.link,
            str(job.target),
        )

    # --- one video --------------------------------------------------------------------------------------------------

    async def _persist(self, job: _Job) -> SavedVideo:
        try:
            return await retry(
                lambda: self._advance(job),
                attempts=self._config.download_attempts,
                retry_on=(TransferError, APIConnectionError),
                wait=full_jitter(_RETRY_BASE, _RETRY_CAP),
                on_retry=lambda error, seconds: _log_retry(job, error, seconds),
            )
        except (TransferError, APIConnectionError) as error:
            raise self._given_up(job, error) from error

    def _given_up(self, job: _Job, error: Exception) -> DownloadError | LinkExpiredError:
        if self._clock() > job.deadline and not isinstance(error, UploadError):
            return LinkExpiredError(f"its link is past its time, and {error}", job.snapshot.id, job.link)
        verb = "uploaded" if isinstance(error, UploadError) else "fetched"
        return DownloadError(f"{job.target} could not be {verb}: {error}", job.snapshot.id, job.link, str(job.target))

    async def _advance(self, job: _Job) -> SavedVideo:
        """Fetch while it gets on: whether it stops for good is for the counted retries around this."""
        while True:
            link = job.link or await self._renewed(job, None)
            try:
                return await self._fetch(job, link)
            except DeadLinkError as error:
                if await self._renewed(job, error) == link:
                    # Perhaps the host only hiccuped: the same link again, but not at once.
                    raise TransferError(str(error)) from error
            except TransferError as error:
                if error.gained < _MEANS_PROGRESS:
                    raise
                job.renewals = 0
                logger.debug("task %s: %s; going on after %d bytes more", job.snapshot.id, error, error.gained)

    async def _fetch(self, job: _Job, link: str) -> SavedVideo:
        if not job.placed:
            await self._take_place(job)
        try:
            found = await job.slot.find(job.snapshot.id, job.target) if job.slot else None
            if found is not None:
                return found
            video = await fetch(
                self._transport,
                link,
                job.target,
                task_id=job.snapshot.id,
                credits=job.snapshot.credits_used,
                existing=job.existing,
                clock=self._clock,
            )
            return await job.slot.put(video) if job.slot else video
        finally:
            self._leave_place(job)

    async def _renewed(self, job: _Job, death: DeadLinkError | None) -> str:
        """A fresh link from the provider. Raises `LinkExpiredError` where there is none to be had."""
        if job.renewals >= MAX_RENEWALS:
            raise LinkExpiredError(f"{death or 'it has no link'}", job.snapshot.id, job.link) from death
        try:
            snapshot = await self._renew(job.snapshot.id)
        except NotFoundError as error:
            raise LinkExpiredError(f"{death or 'it had no link'}; {error}", job.snapshot.id, job.link) from error
        except (ServerError, RateLimitError) as error:
            raise TransferError(f"no fresh link: {error}", retry_after=error.retry_after) from error
        except ResponseFormatError as error:
            raise TransferError(f"no fresh link: {error}") from error
        if not snapshot.links:
            raise LinkExpiredError(
                f"{death or 'it had no link'}; a query gave none", job.snapshot.id, job.link
            ) from death
        job.renewals += 1
        self._links_renewed += 1
        if self._emit is not None:
            self._emit(events.LinkRenewed(at=self._clock(), task_id=job.snapshot.id, path=job.target))
        job.link = snapshot.links[0]
        return job.link

    # --- the queue --------------------------------------------------------------------------------------------------

    async def _take_place(self, job: _Job) -> None:
        """Wait for one of the places for active downloads, given in order of deadlines."""
        if self._active < self._config.max_downloads:
            self._active += 1
        elif not await self._turn(job):
            raise self._stopped(job)
        job.placed = True

    async def _turn(self, job: _Job) -> bool:
        """Wait to be given a place, which comes with its count in `_active`; False where the queue is closed."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        job.turn = turn
        heapq.heappush(self._queue, (job.due, next(self._numbers), turn))
        try:
            return await turn
        except asyncio.CancelledError:
            # Cancelled in the moment between being given the place and taking it.
            if turn.done() and not turn.cancelled() and turn.result():
                self._pass_on()
            raise
        finally:
            job.turn = None

    def _leave_place(self, job: _Job) -> None:
        if job.placed:
            job.placed = False
            self._pass_on()

    def _pass_on(self) -> None:
        """Give a place to the next in the queue. Those who went away meanwhile are still in the heap; they drop out."""
        while self._queue:
            _, _, turn = heapq.heappop(self._queue)
            if not turn.done():
                turn.set_result(True)
                return
        self._active -= 1


def is_passing(error: Exception) -> bool:
    """Whether the network was at fault, so that the same call may save the video later."""
    return isinstance(error.__cause__, TransferError | APIConnectionError)


def _log_retry(job: _Job, error: Exception, seconds: float) -> None:
    logger.info("task %s: %s; trying again in %.1f s", job.snapshot.id, error, seconds)

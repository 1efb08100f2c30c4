"""A handle on one task."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable

from attrs import define, field

from wanasync import events
from wanasync.engine.announcer import Emit
from wanasync.engine.placing import Place, free_place
from wanasync.engine.poller import Listener, Poller
from wanasync.engine.saver import Saver
from wanasync.errors import TaskFailedError, TaskTimeoutError, WanError
from wanasync.models import SavedVideo, TaskSnapshot, TaskStatus
from wanasync.rules.naming import safe_stem

__all__ = ["Task"]

LOOKS_IN_QUEUE, MIN_LOOK_INTERVAL = 4, 0.5
"""A task that may be in the queue is looked at so often within a timeout, and at most once in so many seconds."""


@define(eq=False)
class Following:
    """What a handle needs of its session."""

    poller: Poller
    saver: Saver
    query: Callable[[str], Awaitable[TaskSnapshot]]
    check: Callable[[], None]
    clock: Callable[[], float]
    link_lifetime: float
    emit: Emit | None = None


@define(eq=False)
class Task:
    """A task at the provider. Made by `WanSession.submit` and `WanSession.attach`.

    Dropping the handle, or cancelling what it waits for, leaves the task going: no host offers a way to cancel one,
    whatever its `can_cancel` says. `id` is all that is needed to go on later.
    """

    id: str
    snapshot: TaskSnapshot | None = None
    _following: Following = field(kw_only=True, repr=False)
    _submitted_at: float | None = field(default=None, kw_only=True, repr=False)

    @property
    def status(self) -> TaskStatus:
        """As last seen; UNKNOWN before the first look."""
        return self.snapshot.status if self.snapshot else TaskStatus.UNKNOWN

    @property
    def progress(self) -> int | None:
        """Per cent, as last seen; None before the first look. May fall."""
        return self.snapshot.progress if self.snapshot else None

    async def refresh(self) -> TaskSnapshot:
        """Look now. Raises `APIError` (`NotFoundError` for an id the provider doesn't know) or `APIConnectionError`."""
        self._following.check()
        self.snapshot = await self._following.query(self.id)
        return self.snapshot

    async def updates(self) -> AsyncGenerator[TaskSnapshot, None]:
        """Each change of status, progress or links, until nothing more will come.

        A failed task ends the iteration with its last snapshot. Raises `TaskError` where the task is lost, as
        `TaskFailedError` where it is completed without a link for good, and `AuthenticationError` where the key is
        refused. Failing polls are repeated and never raised.
        """
        self._following.check()
        if self.snapshot and self.snapshot.is_final:
            yield self.snapshot
            return
        heard: asyncio.Queue[TaskSnapshot | WanError] = asyncio.Queue()
        listener = heard.put_nowait
        self._follow(listener)
        news: TaskSnapshot | WanError | None = None
        try:
            while True:
                news = await heard.get()
                if isinstance(news, WanError):
                    raise news
                self.snapshot = news
                yield news
                if news.is_final:
                    return
        finally:
            self._unfollow(listener, news)

    def _follow(self, listener: Listener) -> None:
        following = self._following
        estimate = self.snapshot.estimated_time if self.snapshot else None
        following.poller.follow(self.id, listener, submitted_at=self._submitted_at, estimated_time=estimate)
        if following.emit is not None:
            following.emit(events.WaitStarted(at=following.clock(), task_id=self.id))

    def _unfollow(self, listener: Listener, last: TaskSnapshot | WanError | None) -> None:
        following = self._following
        following.poller.unfollow(self.id, listener)
        if following.emit is not None:
            following.emit(wait_ended(following.clock(), self.id, last))

    async def wait(self, timeout: float | None = None, *, count_queue: bool = False) -> TaskSnapshot:
        """Until the video is made: the completed snapshot, with links.

        `timeout` is in seconds, and for the making: it doesn't run while looks find the task pending, in the provider's
        queue, and begins with the first look that finds it past that. A pending task is looked at four times a
        `timeout` to tell; looks that fail leave the time running.

        NOTE: so a task that never leaves the queue is waited for without end, and so is one at a host that says
        "pending" until all is done. With `count_queue` all time counts: it ends after `timeout` seconds in any case.

        Raises `TaskFailedError`, `TaskTimeoutError`, and what `updates` raises. The task goes on after a timeout or a
        cancellation.
        """
        try:
            snapshot = await (self._end() if timeout is None else self._end_within(timeout, count_queue=count_queue))
        except asyncio.CancelledError as error:
            error.add_note(f"task {self.id} goes on at the provider; attach() to wait again")
            raise
        if snapshot.status is not TaskStatus.COMPLETED:
            raise failed(snapshot)
        return snapshot

    async def _end(self, saw: Callable[[TaskSnapshot], None] | None = None) -> TaskSnapshot:
        """The last of `updates`; `saw` is called with the others. The caller's task sleeps through those."""
        self._following.check()
        if self.snapshot and self.snapshot.is_final:
            return self.snapshot
        end: asyncio.Future[TaskSnapshot] = asyncio.get_running_loop().create_future()
        last: TaskSnapshot | WanError | None = None

        def hear(news: TaskSnapshot | WanError) -> None:
            nonlocal last
            if end.done():
                return
            last = news
            if isinstance(news, WanError):
                end.set_exception(news)
                return
            self.snapshot = news
            if news.is_final:
                end.set_result(news)
            elif saw is not None:
                saw(news)

        self._follow(hear)
        try:
            return await end
        finally:
            self._unfollow(hear, last)

    async def _end_within(self, timeout: float, *, count_queue: bool) -> TaskSnapshot:
        try:
            async with asyncio.timeout(timeout) as limit:
                return await (self._end() if count_queue else self._end_but_for_queue(_Patience(limit, timeout)))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TaskTimeoutError(
                f"not finished after {timeout:g} s; it goes on at the provider, attach() to wait again",
                self.id,
                self.snapshot,
            ) from error

    async def _end_but_for_queue(self, patience: _Patience) -> TaskSnapshot:
        patience.begin(self.snapshot)
        looking = asyncio.create_task(self._look_while_queued(patience), name=f"wanasync queue of {self.id}")
        try:
            return await self._end(patience.saw)
        finally:
            looking.cancel()

    async def _look_while_queued(self, patience: _Patience) -> None:
        """The poller looks near the end, and tells changes only: that a task is pending still is for us to find out."""
        while patience.queued:
            await asyncio.sleep(patience.until_next_look)
            if not patience.queued:
                return
            with contextlib.suppress(WanError):
                snapshot = await self._following.query(self.id)
                patience.saw(snapshot)
                # What has ended, the poller is to see at once.
                self._following.poller.deliver(snapshot)

    async def save(
        self,
        to: str | os.PathLike[str],
        *,
        state: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        count_queue: bool = False,
    ) -> SavedVideo:
        """Wait for the video, as `wait` does, and save it: streamed, checked, synced, under its name only when whole.

        `to` is a file that must not exist yet, or a directory; or a URL in an object store (``s3://bucket/cat.mp4``,
        ``s3://bucket/prefix/``), which the video reaches by way of the directory `state` (see `Destination`).

        Raises `DownloadError` (the link is kept in it), `LinkExpiredError`, and what `wait` raises; `timeout` (seconds)
        and `count_queue` are `wait`'s.
        """
        snapshot = await self.wait(timeout, count_queue=count_queue)
        # The id is the provider's, and may hold what leads out of the directory.
        return await self._save(snapshot, await free_place(to, safe_stem(self.id, "video"), state))

    async def save_at(self, place: Place, *, timeout: float | None, count_queue: bool) -> SavedVideo:
        """As `save`, to a place that was found free before the task was."""
        return await self._save(await self.wait(timeout, count_queue=count_queue), place)

    async def _save(self, snapshot: TaskSnapshot, place: Place) -> SavedVideo:
        following = self._following
        made = self._submitted_at or snapshot.created or following.clock()
        return await following.saver.save(
            snapshot,
            place.target(self.id),
            deadline=made + following.link_lifetime,
            existing=place.existing,
            slot=place.slot,
        )


@define
class _Patience:
    """Puts the end of a wait off while its task is in the provider's queue, as far as looks tell."""

    limit: asyncio.Timeout
    seconds: float
    queued: bool = field(default=False, init=False)

    @property
    def until_next_look(self) -> float:
        return max(self.seconds / LOOKS_IN_QUEUE, MIN_LOOK_INTERVAL)

    def begin(self, snapshot: TaskSnapshot | None) -> None:
        self.queued = snapshot is None or _is_queued(snapshot)

    def saw(self, snapshot: TaskSnapshot) -> None:
        """Any look at a task that was in the queue so far: the time begins with it."""
        if self.queued and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + self.seconds)
        self.queued = self.queued and _is_queued(snapshot)


def _is_queued(snapshot: TaskSnapshot) -> bool:
    return snapshot.status is TaskStatus.PENDING and not snapshot.progress


def wait_ended(now: float, task_id: str, news: TaskSnapshot | WanError | None) -> events.WaitEnded:
    """What to tell where `news` was the last that a follower of the task has heard."""
    if isinstance(news, WanError):
        return events.WaitEnded(at=now, task_id=task_id, error=news)
    return events.WaitEnded(at=now, task_id=task_id, snapshot=news if news is not None and news.is_final else None)


def failed(snapshot: TaskSnapshot) -> TaskFailedError:
    """The error for a task that ended without a video, in the provider's words."""
    failure = snapshot.failure
    words = failure.message or failure.code if failure else None
    code = f" [{failure.code}]" if failure and failure.code and failure.message else ""
    return TaskFailedError(f"{snapshot.status}: {words or 'the provider gives no reason'}{code}", snapshot.id, failure)

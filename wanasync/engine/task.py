"""A handle on one task."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from attrs import define, field

from wanasync.edges.targets import free_target
from wanasync.engine.poller import Poller
from wanasync.engine.saver import Saver
from wanasync.errors import TaskFailedError, TaskTimeoutError, WanError
from wanasync.models import SavedVideo, TaskSnapshot, TaskStatus
from wanasync.rules.naming import safe_stem

__all__ = ["Task"]


@define(eq=False)
class Following:
    """What a handle needs of its session."""

    poller: Poller
    saver: Saver
    query: Callable[[str], Awaitable[TaskSnapshot]]
    check: Callable[[], None]
    clock: Callable[[], float]
    link_lifetime: float


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

        A failed task ends the iteration with its last snapshot. Raises `TaskError` where the task is lost,
        `ResponseFormatError` where it is completed without a link for good, `AuthenticationError` where the key is
        refused. Failing polls are repeated and never raised.
        """
        self._following.check()
        if self.snapshot and self.snapshot.is_final:
            yield self.snapshot
            return
        heard: asyncio.Queue[TaskSnapshot | WanError] = asyncio.Queue()
        poller = self._following.poller
        estimate = self.snapshot.estimated_time if self.snapshot else None
        listener = heard.put_nowait
        poller.follow(self.id, listener, submitted_at=self._submitted_at, estimated_time=estimate)
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
            poller.unfollow(self.id, listener)

    async def wait(self, timeout: float | None = None) -> TaskSnapshot:
        """Until the video is made: the completed snapshot, with links.

        Raises `TaskFailedError`, `TaskTimeoutError` after `timeout` seconds, and what `updates` raises. The task goes
        on after a timeout or a cancellation.
        """
        try:
            async with asyncio.timeout(timeout) as limit:
                snapshot = await self._last_update()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TaskTimeoutError(
                f"not finished after {timeout:g} s; it goes on at the provider, attach() to wait again",
                self.id,
                self.snapshot,
            ) from error
        except asyncio.CancelledError as error:
            error.add_note(f"task {self.id} goes on at the provider; attach() to wait again")
            raise
        if snapshot.status is not TaskStatus.COMPLETED:
            raise failed(snapshot)
        return snapshot

    async def _last_update(self) -> TaskSnapshot:
        async with aclosing(self.updates()) as updates:
            async for snapshot in updates:
                if snapshot.is_final:
                    return snapshot
        raise AssertionError("updates() ends with a final snapshot or raises")

    async def save(self, to: str | os.PathLike[str], *, timeout: float | None = None) -> SavedVideo:
        """Wait for the video, as `wait` does, and save it: streamed, checked, synced, under its name only when whole.

        `to` is a file that must not exist yet, or a directory. Raises `DownloadError` (the link is kept in it),
        `LinkExpiredError`, and what `wait` raises; `timeout` (seconds) is for the waiting.
        """
        snapshot = await self.wait(timeout)
        # The id is the provider's, and may hold what leads out of the directory.
        target = await asyncio.to_thread(free_target, to, safe_stem(self.id, "video"))
        following = self._following
        made = self._submitted_at or snapshot.created or following.clock()
        return await following.saver.save(snapshot, target, deadline=made + following.link_lifetime)


def failed(snapshot: TaskSnapshot) -> TaskFailedError:
    """The error for a task that ended without a video, in the provider's words."""
    failure = snapshot.failure
    words = failure.message or failure.code if failure else None
    code = f" [{failure.code}]" if failure and failure.code and failure.message else ""
    return TaskFailedError(f"{snapshot.status}: {words or 'the provider gives no reason'}{code}", snapshot.id, failure)

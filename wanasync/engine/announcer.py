"""Tells a session's listeners what happens: sync ones at once, each async one beside the work, in order.

Nothing here may hold the work up or grow without end: an async listener has a bounded queue and a task of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from wanasync.events import EVENTS_HELD, LISTENER_SECONDS, Event, EventsDropped, Listener

__all__ = ["Announcer", "Emit", "as_listeners"]

logger: logging.Logger = logging.getLogger("wanasync.events")

Emit = Callable[[Event], None]


def as_listeners(on_event: Listener | Iterable[Listener] | None) -> tuple[Listener, ...]:
    """One listener, several or none. Raises TypeError for what is none."""
    if on_event is None:
        return ()
    listeners = (on_event,) if callable(on_event) else tuple(on_event)
    for listener in listeners:
        if not callable(listener):
            raise TypeError(f"on_event takes functions of one event, not {listener!r}")
    return listeners


class Announcer:
    """Calls the `listeners` with each event. To be made, called and closed on the session's loop."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._told = tuple(_Told(listener) for listener in listeners)

    def __call__(self, event: Event) -> None:
        for told in self._told:
            told.tell(event)

    async def close(self, asked_by: asyncio.Task[Any] | None = None) -> None:
        """Wait for async listeners, `LISTENER_SECONDS` at most, then cancel them, who hear nothing from then on.

        `asked_by` is the task that waits for this, where that is not the current one.
        """
        asked_by = asked_by or asyncio.current_task()
        # One that closes the session itself would wait for itself.
        others = {work: told for told in self._told if (work := told.work()) not in (None, asked_by)}
        if others:
            await asyncio.wait(others, timeout=LISTENER_SECONDS)
        for told in self._told:
            told.end(asked_by)
        if late := [work for work in others if not work.done()]:
            await asyncio.wait(late, timeout=LISTENER_SECONDS)


class _Told:
    """One listener. The events of an async one wait in a queue; while there are any, a task awaits it for each."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._is_async = _is_async(listener)
        self._queue: deque[Event | Awaitable[None]] = deque()
        self._dropped = 0
        self._dropped_at = 0.0
        self._work: asyncio.Task[None] | None = None
        self._ended = False
        # Else it would run in the context of whoever happened to wake it.
        self._context = contextvars.copy_context()

    def tell(self, event: Event) -> None:
        if self._is_async:
            self._put(event, event.at)
            return
        try:
            result = self._listener(event)
        except Exception as error:  # noqa: BLE001 — a listener's fault must not cost a paid task
            self._report(error)
            return
        if result is not None and inspect.isawaitable(result):
            # It is async, and can't be seen to be: a lambda. What it has given is awaited as it is.
            self._is_async = True
            self._put(result, event.at)

    def work(self) -> asyncio.Task[None] | None:
        """The task that awaits the listener, while there is anything to tell."""
        return None if self._work is None or self._work.done() else self._work

    def end(self, asked_by: asyncio.Task[Any] | None) -> None:
        self._ended = True
        if (work := self.work()) is not None and work is not asked_by:
            untold = len(self._queue) + self._dropped
            logger.warning("on_event: %r was too slow: %d last events are lost to it", self._listener, untold)
            work.cancel()

    def _put(self, event: Event | Awaitable[None], at: float) -> None:
        if self._ended:
            return
        if len(self._queue) >= EVENTS_HELD:
            self._dropped, self._dropped_at = self._dropped + 1, at
            return
        self._queue.append(event)
        if self.work() is None:
            loop = asyncio.get_running_loop()
            self._work = loop.create_task(self._tell_all(), name="wanasync listener", context=self._context)

    async def _tell_all(self) -> None:
        while self._queue:
            event = self._queue.popleft()
            if self._dropped:
                self._queue.append(EventsDropped(at=self._dropped_at, count=self._dropped))
                self._dropped = 0
            await self._tell_one(event)
            # One that never waits would keep the loop for itself.
            await asyncio.sleep(0)

    async def _tell_one(self, event: Event | Awaitable[None]) -> None:
        try:
            result = self._listener(event) if isinstance(event, Event) else event
            if result is not None:
                await result
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            self._report(error)
        except Exception as error:  # noqa: BLE001
            self._report(error)

    def _report(self, error: BaseException) -> None:
        message = f"on_event: {self._listener!r} raised"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


def _is_async(listener: Listener) -> bool:
    return inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())

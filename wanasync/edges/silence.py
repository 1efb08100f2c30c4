"""How long requests may hear nothing, with one timer for all.

aiohttp's own read timeout sets up and takes down a timer for each request and again for each part of a reply, which is
some 5 % of what a request costs. Here all requests of a session share one that comes by now and then.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from attrs import define

__all__ = ["SilenceLimit"]

LOOKS = 8
"""Looks at the requests in the time that a silence may take; so it is cut off up to an eighth late."""


@define
class _Request:
    """When it was last heard, by the loop's clock; and the state of its task's cancellation before."""

    heard: float
    cancelling: int
    cut: bool = False


class SilenceLimit:
    """Raises TimeoutError out of `with limit:` where nothing was heard for `seconds`. Shared by tasks of one loop.

    The time begins with `begin`, and anew with each `heard`; both are of the running task's request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._requests: dict[asyncio.Task[Any] | None, _Request] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        self._requests[task] = _Request(loop.time(), task.cancelling() if task else 0)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop)

    def heard(self) -> None:
        request = self._requests.get(asyncio.current_task())
        if request is not None:
            request.heard = asyncio.get_running_loop().time()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        since = loop.time() - self._seconds
        for task, request in self._requests.items():
            if request.heard <= since and not request.cut and task is not None:
                # As asyncio.timeout does it; __exit__ tells this cancellation from a caller's own.
                request.cut = True
                task.cancel()
        self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop) if self._requests else None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        request = self._requests.pop(task, None)
        if request is None or not request.cut or task is None:
            return
        if task.uncancel() <= request.cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

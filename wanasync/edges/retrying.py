"""One retry loop for everything that may be tried again, on the event loop's clock. The only home of backoff.

Only backoff's wait generators are used: its decorators measure `max_time` on the wall clock, so that they can't be
tested on virtual time, and stand on asyncio functions that are about to go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import backoff

__all__ = ["full_jitter", "retry"]

T = TypeVar("T")


def full_jitter(base: float, cap: float) -> Iterator[float]:
    """Waits in seconds, without end: uniform between 0 and a bound that doubles from `base` up to `cap`.

    The whole range is drawn from, so that many clients cut off at once don't come back at once.
    """
    bounds = backoff.expo(base=2, factor=base, max_value=cap)
    next(bounds)  # backoff's generators give nothing before the first send
    for bound in bounds:
        yield backoff.full_jitter(bound)


async def retry(
    operation: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    retry_on: type[Exception] | tuple[type[Exception], ...],
    wait: Iterator[float],
    on_retry: Callable[[Exception, float], None] | None = None,
) -> T:
    """Await `operation()` until it succeeds, at most `attempts` times; then its last error leaves as it came.

    Waits `wait`'s next value between two attempts, or longer where the error says so (`retry_after`, seconds).
    `on_retry(error, seconds)` is told before each wait.
    """
    for left in range(attempts - 1, -1, -1):
        try:
            return await operation()
        except retry_on as error:
            if not left:
                raise
            seconds = max(next(wait), getattr(error, "retry_after", None) or 0.0)
            if on_retry is not None:
                on_retry(error, seconds)
        await asyncio.sleep(seconds)
    raise ValueError(f"attempts must be at least 1, not {attempts}")

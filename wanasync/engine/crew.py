"""Tasks that work off what is due, as many at once as there is room for.

A task goes on with what is due by the time its work has ended: a task for each piece of work would cost as much as the
work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from attrs import define

__all__ = ["Crew", "report"]

T = TypeVar("T")


@define(eq=False)
class _Hand(Generic[T]):
    """What one task of the crew is at: nothing before its turn, and between two pieces of work."""

    work: T | None


class Crew(Generic[T]):
    """Works on one event loop; `what` is what faults are told of.

    `take(now)` gives the next piece of work, None where there is none at this time of `clock`; it is asked only while
    less is under way than `limit()`. `do` carries a piece out, and `done` is told when that has ended, however it did.
    """

    def __init__(
        self,
        what: str,
        take: Callable[[float], T | None],
        do: Callable[[T], Awaitable[None]],
        done: Callable[[T], None],
        *,
        limit: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._what = what
        self._take = take
        self._do = do
        self._done = done
        self._limit = limit
        self._clock = clock
        self._hands: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._timer: asyncio.TimerHandle | None = None
        self._turn_is_due = False
        self._closed = False

    def wake(self) -> None:
        """Take a turn soon: something changed that may let work begin. Work that ends takes a turn anyway."""
        if not (self._turn_is_due or self._closed or self._busy >= self._limit()):
            self._turn_is_due = True
            self._start(None)

    def come_back(self, wait: float) -> None:
        """Take a turn in `wait` seconds. A timer that goes off too early costs one turn, a new one each time more."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + wait:
                return
            self._timer.cancel()
        self._timer = loop.call_later(wait, self._timer_went_off)

    async def close(self) -> None:
        """Begin nothing more, and cancel what is under way."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for hand in self._hands:
            hand.cancel()
        # Should this wait be cancelled, what it waits for is cancelled already.
        await asyncio.gather(*self._hands, return_exceptions=True)

    def _timer_went_off(self) -> None:
        self._timer = None
        work = self._turn()
        if work is not None:
            self._start(work)

    def _turn(self) -> T | None:
        """Begin what may begin: each in a task of its own, but for the first, which is for the caller to carry out."""
        self._turn_is_due = False
        first = None
        now = self._clock()
        while not self._closed and self._busy < self._limit() and (work := self._take(now)) is not None:
            self._busy += 1
            if first is None:
                first = work
            else:
                self._start(work)
        return first

    def _start(self, work: T | None) -> None:
        hand = _Hand(work)
        task = asyncio.create_task(self._work_on(hand))
        self._hands.add(task)
        task.add_done_callback(partial(self._hand_ended, hand))

    async def _work_on(self, hand: _Hand[T]) -> None:
        while True:
            work = hand.work = self._turn() if hand.work is None else hand.work
            if work is None:
                return
            try:
                await self._do(work)
            except Exception as error:  # noqa: BLE001 - a fault of one piece of work is not the others'
                report(f"{self._what} failed", error)
            self._work_ended(hand, work)

    def _work_ended(self, hand: _Hand[T], work: T) -> None:
        hand.work = None
        self._busy -= 1
        self._done(work)

    def _hand_ended(self, hand: _Hand[T], task: asyncio.Task[None]) -> None:
        self._hands.discard(task)
        if not task.cancelled():
            return
        # Under us, by whoever runs what is waited for.
        if hand.work is not None:
            self._work_ended(hand, hand.work)
        self._turn_is_due = False
        self.wake()


def report(message: str, error: BaseException) -> None:
    """Tell the loop's exception handler of a fault that must not end what goes on."""
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})

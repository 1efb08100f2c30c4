"""The emulator's clock: it may run faster than the loop's, and may be pushed forward."""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Unix seconds that follow the running loop's clock, `speed` times as fast.

    Everything that waits does so on one heap and one loop timer, so a hundred thousand alarms cost no tasks, and
    `advance` reaches those that are waiting already. Under a virtual-time loop it is virtual too.
    """

    def __init__(self, *, speed: float = 1.0, epoch: float | None = None) -> None:
        self.speed = speed
        self._epoch = time.time() if epoch is None else epoch
        self._skipped = 0.0
        self._alarms: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._sleepers: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._origin = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to run, at the epoch, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._origin = self._loop.time()
        self._arm()

    def stop(self) -> None:
        """Stand still; alarms that are left never ring, and who sleeps is cancelled."""
        stopped_at = self.now()
        self._alarms.clear()
        self._disarm()
        for sleeper in self._sleepers:
            sleeper.cancel()  # its handler's connection may be gone, and with it all that would end the handler
        self._loop, self._epoch, self._skipped = None, stopped_at, 0.0

    def now(self) -> float:
        """Unix seconds."""
        if self._loop is None:
            return self._epoch + self._skipped
        return self._epoch + self._skipped + (self._loop.time() - self._origin) * self.speed

    def advance(self, seconds: float) -> None:
        """Push the clock forward; what falls due meanwhile rings before this returns, in order."""
        if seconds < 0:
            raise ValueError(f"a clock only goes forward, not by {seconds!r} s")
        self._skipped += seconds
        self._ring()

    def call_at(self, when: float, alarm: Callable[[], object]) -> None:
        """Call `alarm` at `when` (unix seconds of this clock), or in the loop's next turn if that has passed."""
        heapq.heappush(self._alarms, (when, next(self._order), alarm))
        if self._alarms[0][2] is alarm:
            self._arm()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this clock."""
        if seconds <= 0:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_at(self.now() + seconds, functools.partial(_wake, woken))
        self._sleepers.add(woken)
        try:
            await woken
        finally:
            self._sleepers.discard(woken)

    def loop_seconds(self, seconds: float) -> float:
        """How long `seconds` of this clock take on the loop's."""
        return seconds / self.speed

    def _ring(self) -> None:
        # A timer may fire a clock tick early; what is due within a microsecond counts as due.
        while self._alarms and self._alarms[0][0] <= self.now() + 1e-6:
            heapq.heappop(self._alarms)[2]()
        self._arm()

    def _arm(self) -> None:
        self._disarm()
        if self._alarms and self._loop is not None:
            wait = max(0.0, self._alarms[0][0] - self.now())
            self._timer = self._loop.call_later(wait / self.speed, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)

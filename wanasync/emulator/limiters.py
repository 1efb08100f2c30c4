"""Limits a provider may set on submissions. Pure: `now` (unix seconds) and the tasks under way are passed in.

Each kind answers one question, `wait(now, load)`: 0.0 if a submission may pass, else the seconds until one could.
What passes is booked with `take(now)`. A limiter belongs to one emulator; its numbers may be changed while it runs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from attrs import define, field, frozen

__all__ = [
    "AllOf",
    "ConcurrentTasks",
    "FixedWindow",
    "Hint",
    "Limiter",
    "Load",
    "Scheduled",
    "SharedKey",
    "SlidingWindow",
    "TokenBucket",
]


class Load(Protocol):
    """The tasks under way, as a limiter sees them."""

    def under_way(self, now: float) -> int:
        """How many tasks have not ended."""
        ...

    def next_end(self, now: float) -> float | None:
        """When the first of them will end, where that is known."""
        ...


class Limiter(Protocol):
    """What the emulator asks before it accepts a submission."""

    def wait(self, now: float, load: Load, /) -> float:
        """0.0 if a submission may pass, else seconds until one could."""
        ...

    def take(self, now: float) -> None:
        """Book one submission."""
        ...


@define
class FixedWindow:
    """`limit` submissions per window of `per` seconds; all slots come back at once when the window turns.

    `anchor` is any instant (unix seconds) at which a window turns; without it the first submission opens one.
    """

    limit: int
    per: float = 60.0
    anchor: float | None = None
    _window: int = field(default=0, init=False)
    _taken: int = field(default=0, init=False)

    def wait(self, now: float, _load: Load, /) -> float:
        self._turn(now)
        return 0.0 if self._taken < self.limit else self._turns_at() - now

    def take(self, now: float) -> None:
        self._turn(now)
        self._taken += 1

    def _turns_at(self) -> float:
        return (self.anchor or 0.0) + (self._window + 1) * self.per

    def _turn(self, now: float) -> None:
        if self.anchor is None:
            self.anchor = now
        window = math.floor((now - self.anchor) / self.per)
        # Rounding may put the very instant of turning into the old window, which would announce a wait of 0.
        if self.anchor + (window + 1) * self.per <= now:
            window += 1
        if window != self._window:
            self._window, self._taken = window, 0


@define
class SlidingWindow:
    """Never more than `limit` submissions in any `per` seconds."""

    limit: int
    per: float = 60.0
    _taken: deque[float] = field(factory=deque, init=False)

    def wait(self, now: float, _load: Load, /) -> float:
        while self._taken and self._taken[0] + self.per <= now:
            self._taken.popleft()
        if len(self._taken) < self.limit:
            return 0.0
        if not self.limit:
            return self.per
        return self._taken[len(self._taken) - self.limit] + self.per - now

    def take(self, now: float) -> None:
        self._taken.append(now)


@define
class TokenBucket:
    """`rate` tokens a second flow into a bucket of `burst`; a submission takes one. It starts full."""

    rate: float
    burst: int = 1
    _tokens: float = field(init=False)
    _filled_at: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = float(self.burst)

    def wait(self, now: float, _load: Load, /) -> float:
        self._fill(now)
        # The tolerance keeps a client that waits exactly as told from being refused over a rounding error.
        return 0.0 if self._tokens >= 1 - 1e-6 else (1 - self._tokens) / self.rate

    def take(self, now: float) -> None:
        self._fill(now)
        self._tokens -= 1

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(float(self.burst), self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now


@define
class ConcurrentTasks:
    """At most `limit` tasks under way, however fast they are submitted."""

    limit: int

    def wait(self, now: float, load: Load, /) -> float:
        if load.under_way(now) < self.limit:
            return 0.0
        end = load.next_end(now)
        return 1.0 if end is None or math.isinf(end) else max(end - now, 0.001)

    def take(self, now: float) -> None:
        """Nothing to book: the load itself is the count."""


class AllOf:
    """Several limits at once: a submission passes if it passes each of them."""

    def __init__(self, *limiters: Limiter) -> None:
        self.limiters = limiters

    def wait(self, now: float, load: Load, /) -> float:
        return max((limiter.wait(now, load) for limiter in self.limiters), default=0.0)

    def take(self, now: float) -> None:
        for limiter in self.limiters:
            limiter.take(now)


class Scheduled:
    """Limits that change while the provider runs: `Scheduled((0, FixedWindow(60)), (600, FixedWindow(30)))`.

    Times are seconds since the first submission.
    """

    def __init__(self, *plan: tuple[float, Limiter]) -> None:
        if not plan:
            raise ValueError("a schedule needs at least one (seconds, limiter)")
        self.plan: Sequence[tuple[float, Limiter]] = sorted(plan, key=lambda step: step[0])
        self._began: float | None = None

    def wait(self, now: float, load: Load, /) -> float:
        return self._current(now).wait(now, load)

    def take(self, now: float) -> None:
        self._current(now).take(now)

    def _current(self, now: float) -> Limiter:
        if self._began is None:
            self._began = now
        begun = [limiter for after, limiter in self.plan if now - self._began >= after]
        return begun[-1] if begun else self.plan[0][1]


class SharedKey:
    """A limit that another client uses too: from the first submission on it sends `rate` submissions a second.

    The other client's are not tasks of this emulator, so only limits of rate feel them. `taken` counts what it got.
    """

    def __init__(self, limiter: Limiter, *, rate: float) -> None:
        self.limiter = limiter
        self.rate = rate
        self.taken: int = 0
        self._next: float | None = None

    def wait(self, now: float, load: Load, /) -> float:
        self._let_the_other_send(now, load)
        return self.limiter.wait(now, load)

    def take(self, now: float) -> None:
        self.limiter.take(now)

    def _let_the_other_send(self, now: float, load: Load) -> None:
        at = now if self._next is None else self._next
        while at <= now:
            if self.limiter.wait(at, load) <= 0:
                self.limiter.take(at)
                self.taken += 1
            at += 1 / self.rate
        self._next = at


@frozen
class Hint:
    """How a 429 says when to come back.

    `where`: "text" (in `fallback_suggestion`, as the provider's document has it), "header" (`Retry-After` in
    seconds), "date" (`Retry-After` as an HTTP date), "both" (text and header) or "none". `seconds` is a fixed
    figure, such as the document's 60; without it the true wait is told, times `factor`, in whole seconds.
    """

    where: str = "text"
    seconds: float | None = None
    factor: float = 1.0

    def __attrs_post_init__(self) -> None:
        if self.where not in ("text", "header", "date", "both", "none"):
            raise ValueError(f"a hint is text, header, date, both or none, not {self.where!r}")

    def told(self, wait: float) -> int:
        """Whole seconds to tell a client that has to wait `wait` seconds."""
        return max(1, math.ceil(self.seconds if self.seconds is not None else wait * self.factor))

"""The lane that looks go through: how many a second, when none, and when no look can succeed any more.

It is the looks' own. A 429 on a look pauses looks only, and a pause of submissions leaves them alone. `now` is any one
clock in seconds; `asked_at` is when the look in question began.
"""

from __future__ import annotations

from random import Random

from attrs import define, field

__all__ = ["PollBudget", "PollLane"]

PAUSE_BASE, PAUSE_CAP = 5.0, 60.0
OUTAGE_FAILURES = 5
KEY_REFUSALS = 3


@define
class PollBudget:
    """A token bucket: `rate` a second, a second's worth at once. A refusal halves the rate, looks win it back."""

    rate: float
    _current: float = field(init=False)
    _tokens: float = field(init=False)
    _at: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._current = self.rate
        self._tokens = self._burst

    @property
    def _burst(self) -> float:
        return max(self._current, 1.0)

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 when there is one."""
        if self._tokens < 1.0:
            self._refill(now)
        # A hair under one token is one: waiting for a rounding error would spin.
        missing = 1.0 - self._tokens
        return missing / self._current if missing > 1e-6 else 0.0

    def take(self, now: float) -> None:
        self._refill(now)
        self._tokens -= 1.0

    def refused(self) -> None:
        self._current = max(self._current / 2, min(self.rate, 0.2))
        self._tokens = min(self._tokens, 1.0)

    def passed(self) -> None:
        if self._current < self.rate:
            self._current = min(self._current * 1.02, self.rate)

    def _refill(self, now: float) -> None:
        gone = max(now - self._at, 0.0) if self._at is not None else 0.0
        self._at = now
        self._tokens = min(self._tokens + gone * self._current, self._burst)


@define
class PollLane:
    """Admits looks: `per_second`, `in_flight` at once; pauses for all where the provider asks for it or is down.

    After a pause one look goes alone; the others follow when it has passed. What comes back of looks that were
    asked before the pause began belongs to the same trouble and changes nothing.
    """

    per_second: float
    in_flight: int
    rng: Random
    last_passed: float = field(default=float("-inf"), init=False)
    _budget: PollBudget = field(init=False)
    _paused_until: float = field(default=float("-inf"), init=False)
    _probing: bool = field(default=False, init=False)
    _throttles: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    _key_refusals: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._budget = PollBudget(self.per_second)

    @property
    def failures(self) -> int:
        """How many looks in a row have failed, of those that may be told apart: not echoes of one trouble."""
        return self._throttles + self._failures + self._key_refusals

    def limit(self) -> int:
        """How many looks may be under way now."""
        return 1 if self._probing else self.in_flight

    def wait(self, now: float) -> float:
        """Seconds until the next look may begin."""
        wait = self._budget.wait(now)
        return wait if now >= self._paused_until else max(self._paused_until - now, wait)

    def paused_for(self, now: float) -> float:
        return max(self._paused_until - now, 0.0)

    def begin(self, now: float) -> None:
        self._budget.take(now)

    def passed(self, asked_at: float, now: float) -> None:
        """A look was answered: about its task, whatever the answer was."""
        self.last_passed = now
        if not self._is_echo(asked_at):
            self._probing = False
            self._throttles = self._failures = self._key_refusals = 0
            self._budget.passed()

    def throttled(self, asked_at: float, now: float, retry_after: float | None) -> bool:
        """A 429: pause as long as it says. True where it is the first of its kind, not an echo."""
        if self._is_echo(asked_at):
            return False
        self._throttles += 1
        self._budget.refused()
        self._pause(now, retry_after if retry_after is not None else self._growing(self._throttles, PAUSE_BASE))
        return True

    def failed(self, asked_at: float, now: float, retry_after: float | None = None) -> None:
        """A look failed for a reason that may be everybody's: connection, 5xx, unreadable reply."""
        if self._is_echo(asked_at):
            return
        self._failures += 1
        if retry_after is not None:
            self._pause(now, retry_after)
        elif self._failures >= OUTAGE_FAILURES:
            self._pause(now, self.rng.uniform(0.5, 1.0) * self._growing(self._failures - OUTAGE_FAILURES + 1, 1.0))

    def key_refused(self, asked_at: float, now: float) -> bool:
        """A 401. True when it has lasted over three looks in a row: a gateway may say so once by mistake."""
        if self._is_echo(asked_at):
            return False
        self._key_refusals += 1
        self._pause(now, 2.0 * self._key_refusals)
        return self._key_refusals >= KEY_REFUSALS

    def _is_echo(self, asked_at: float) -> bool:
        return asked_at < self._paused_until

    def _growing(self, times: int, base: float) -> float:
        return min(PAUSE_CAP, base * 2.0 ** min(times - 1, 10))

    def _pause(self, now: float, seconds: float) -> None:
        self._paused_until = max(self._paused_until, now + seconds)
        self._probing = True

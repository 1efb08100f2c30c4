"""When to look at a task again.

A look costs the provider (its gateway asks upstream at each query of an unfinished task), a late look costs us: the
task is done and nobody knows. With a *price* of c seconds a look, the best moment is when the time that the task has
spent done and unnoticed since the last look is expected to reach c:

    L(wait) = integral from 0 to wait of P(done by age + s | not done at age) ds = c

Under a hazard h this is the interval sqrt(2c / h), dense where tasks finish and sparse where they don't. Looking at
exponentially growing intervals does the opposite; at the same number of looks it notices 4 to 6 times later.

Progress sharpens the belief once it has proved to foretell the end (`rules.progress`), both ways: it brings looks
forward and puts them off. Only bringing them forward saves no looks (7.8 s late at 4 looks a task against 2.7 s, with
linear progress), and blind trust in it is a disaster where it lies. So a share of the belief, as large as the share
of tasks that progress was wrong about, stays with the durations alone: with it, a look is never put off beyond what
it would be worth without progress at a price of c ÷ that share.

Ages, waits and prices are seconds.
"""

from __future__ import annotations

from random import Random

from attrs import define, field

from wanasync.rules.durations import DurationModel, Lognormal, wait_until_worth
from wanasync.rules.progress import Evidence, ProgressMap

__all__ = ["DEFAULT_ESTIMATE", "PollingPolicy", "Price"]

DEFAULT_ESTIMATE = 120.0
"""Used where the provider gives no estimate; typical generations take 1 to 5 minutes."""
BASE_PRICE = 1.0
MIN_WAIT, MAX_WAIT = 1.0, 60.0
MAX_FIRST_WAIT = 1200.0
PROBES, PROBE_AGE = 3, 150.0
"""As long as no task has ended, so many are looked at this early: an estimate may be wrong by an hour."""
STALE_AGE, STALE_FACTOR, STALE_WAIT = 1200.0, 5.0, 600.0
FIRST_SIGHT = 0.35
"""The price of a first look where progress is trusted: it buys the sight of it as well (tried: 0.2 to 1)."""
LOST_CALLBACKS, MIN_LOST_CALLBACKS = 0.1, 0.001
"""The share of tasks that is taken to end untold by a callback, at first and at least."""
LATEST_CALLBACK = 20.0
"""Seconds from a task's end to its callback at most: a provider tries for 17 s."""
SPREAD = 0.2
MIN_ESTIMATE, MAX_ESTIMATE = 1.0, 7200.0
"""What can be meant as an estimate: 0 and -1 stand for none, and tens of thousands are milliseconds."""
GUESSED_FIRST, GUESSED_WAIT, GUESSED_SHARE = 10.0, 5.0, 0.25
"""Where nothing tells how long tasks take here, neither an estimate nor one that has ended, waits grow with the age:
seconds until the first look at most; seconds, and share of the age, that the next look is at most put off by."""


@define
class Price:
    """The price of a look: what it costs to notice late, weighed against what the provider lets us ask."""

    base: float = BASE_PRICE
    value: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.value = self.base

    def raised(self) -> None:
        """A look was refused with a 429, or the budget of looks was exceeded."""
        self.value = min(self.value * 1.5, self.base * 100)

    def paid(self) -> None:
        """A look was made: a raised price comes down by 1 %."""
        if self.value > self.base:
            self.value = max(self.value * 0.99, self.base)


@define
class PollingPolicy:
    """Answers when to look first and when to look next, and learns from what the looks find.

    With `callbacks` looks are a safety net: an end goes unnoticed only where its callback is lost, so that a look is
    the dearer the fewer are, 10 times at first. Later than when all but one of 1,000 tasks have ended it saves none.
    """

    callbacks: bool = False
    price: Price = field(factory=Price)
    durations: DurationModel = field(factory=DurationModel)
    progress: ProgressMap = field(factory=ProgressMap)
    _belief: Lognormal = field(init=False)
    _lost: float = field(default=LOST_CALLBACKS, init=False)
    _ended: int = field(default=0, init=False)
    _reference: float = field(default=DEFAULT_ESTIMATE, init=False)
    _first_waits: dict[float, float] = field(factory=dict, init=False)
    _first_price: float = field(default=0.0, init=False)
    _is_told: bool = field(default=False, init=False)
    _guessing: bool = field(default=False, init=False)
    _probes: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._belief = self.durations.belief()

    def estimate(self, given: float | None) -> float:
        """The estimate to reckon with: the provider's, else the last one it gave for another task."""
        if given is None or not MIN_ESTIMATE <= given <= MAX_ESTIMATE:
            self._guessing = self._guessing or not (self._is_told or self.durations.learned)
            return self._reference
        self._is_told, self._guessing = True, False
        # Floats of replies are objects of their own: tasks with equal estimates are to share one.
        if given != self._reference:
            self._reference = given
        return self._reference

    def first_wait(self, estimate: float) -> float:
        """How long after its submission a task is first looked at."""
        price = self._effective_price()
        if not 0.97 < price / (self._first_price or price * 2) < 1.03 or len(self._first_waits) > 256:
            self._first_waits.clear()
            self._first_price = price
        known = self._first_waits.get(estimate)
        if known is None:
            known = self._first_waits[estimate] = self._first_wait(self._belief.scaled(estimate), price)
        return min(known, GUESSED_FIRST) if self._guessing and not self.callbacks else known

    def probe_age(self, estimate: float) -> float | None:
        """The age for the first look at a task that is to put its estimate to the test; None for nearly all."""
        is_proved = self.callbacks or self.durations.learned or self._probes >= PROBES
        if is_proved or self.first_wait(estimate) <= PROBE_AGE:
            return None
        self._probes += 1
        return PROBE_AGE

    def _first_wait(self, duration: Lognormal, price: float) -> float:
        if self.progress.is_trusted(self._belief):
            price *= FIRST_SIGHT
        wait = wait_until_worth(duration, 0.0, price)
        if self.callbacks:
            wait = min(wait, duration.p999)
        return min(max(wait, MIN_WAIT), MAX_FIRST_WAIT)

    def saw(self, evidence: Evidence, progress: int | None, age: float) -> Evidence:
        """What is known of a task's progress after a look that saw `progress` (per cent) at `age`."""
        return self.progress.saw(evidence, progress, age)

    def next_wait(self, age: float, estimate: float, evidence: Evidence, rng: Random) -> float:
        """How long after a look at `age` that found the task unfinished it is looked at again."""
        duration = self._belief.scaled(estimate)
        if age > max(STALE_AGE, STALE_FACTOR * duration.p99):
            return STALE_WAIT * rng.uniform(0.95, 1.05)
        # Only ever earlier: tasks submitted together come apart, and none is later than it is worth. The price is
        # spread and not the wait, so that a long wait for an end that is well known stays exact.
        price = self._effective_price() * rng.uniform(1 - SPREAD, 1.0)
        wait = wait_until_worth(self.progress.foretold(evidence, duration) or duration, age, price)
        longest = min(MAX_WAIT * LOST_CALLBACKS / self._lost, STALE_WAIT) if self.callbacks else MAX_WAIT
        if self._guessing and not self.callbacks:
            longest = min(longest, max(GUESSED_WAIT, GUESSED_SHARE * age))
        return min(max(wait, MIN_WAIT), longest)

    def finished(
        self, after: float, by: float, estimate: float, evidence: Evidence, *, told: bool, completed: bool = True
    ) -> None:
        """A task was unfinished at age `after` and final at `by`; `told` when a callback said so first."""
        if told:
            after = max(after, by - LATEST_CALLBACK)
        self.progress.learn(evidence, after, by, self._belief.scaled(estimate), completed=completed)
        self.durations.observe(after / estimate, by / estimate)
        self._belief = self.durations.belief()
        self._guessing = False
        self._first_waits.clear()
        self._ended += 1
        self._lost = max(self._lost + (1 - told - self._lost) / min(self._ended + 4, 20), MIN_LOST_CALLBACKS)

    def expected_seconds(self) -> float | None:
        """The median duration learned so far, for a task with the last estimate given."""
        return self._belief.median * self._reference if self.durations.learned else None

    def _effective_price(self) -> float:
        return self.price.value / self._lost if self.callbacks else self.price.value

"""When to look at a task again.

A look costs the provider (its gateway asks upstream at each query of an unfinished task), a late look costs us: the
task is done and nobody knows. With a *price* of c seconds a look, the best moment is when the time that the task has
spent done and unnoticed since the last look is expected to reach c:

    L(wait) = integral from 0 to wait of P(done by age + s | not done at age) ds = c

Under a hazard h this is the interval sqrt(2c / h), dense where tasks finish and sparse where they don't. Looking at
exponentially growing intervals does the opposite; at the same number of looks it notices 4 to 6 times later.

The durations are taken as lognormal and relative to the provider's `estimated_time`, which counts as four
observations; each finished task teaches the interval between the last look that found it unfinished and the one
that found it final. Ages, waits and prices are seconds.
"""

from __future__ import annotations

import math
from random import Random

from attrs import define, field, frozen

__all__ = [
    "DEFAULT_ESTIMATE",
    "DurationModel",
    "Lognormal",
    "Mark",
    "PollingPolicy",
    "Price",
    "ProgressMap",
    "wait_until_worth",
]

DEFAULT_ESTIMATE = 120.0
"""Used where the provider gives no estimate; typical generations take 1 to 5 minutes."""
BASE_PRICE = 1.0
MIN_WAIT, MAX_WAIT = 1.0, 60.0
MAX_FIRST_WAIT = 1200.0
STALE_AGE, STALE_FACTOR, STALE_WAIT = 1200.0, 5.0, 600.0
MIN_RATIO, MAX_RATIO = 1e-3, 1e4
TAIL_SURVIVAL, TAIL_SHARE = 1e-4, 0.08
Z_99 = 2.3263478740408408
SQRT_2 = math.sqrt(2.0)
SQRT_TAU = math.sqrt(2.0 * math.pi)


@frozen
class Lognormal:
    """Durations whose logarithm is normal with mean `mu` and deviation `sigma`."""

    mu: float
    sigma: float

    @property
    def median(self) -> float:
        return math.exp(self.mu)

    @property
    def p99(self) -> float:
        return math.exp(self.mu + Z_99 * self.sigma)

    def scaled(self, factor: float) -> Lognormal:
        return Lognormal(self.mu + math.log(factor), self.sigma)

    def survival(self, age: float) -> float:
        """P(longer than `age`)."""
        return 0.5 * math.erfc((math.log(age) - self.mu) / (self.sigma * SQRT_2)) if age > 0 else 1.0

    def beyond(self, age: float) -> float:
        """The integral of the survival from `age` on; from 0 it is the mean."""
        mean = math.exp(self.mu + self.sigma**2 / 2)
        if age <= 0:
            return mean
        z = (math.log(age) - self.mu) / (self.sigma * SQRT_2)
        return 0.5 * (mean * math.erfc(z - self.sigma / SQRT_2) - age * math.erfc(z))

    def log_within(self, after: float, by: float) -> tuple[float, float]:
        """Mean and variance of the logarithm of a duration known to lie between `after` and `by`."""
        low = (math.log(after) - self.mu) / self.sigma if after > 0 else -math.inf
        high = (math.log(by) - self.mu) / self.sigma
        mean, variance = _normal_within(low, high)
        return self.mu + self.sigma * mean, self.sigma**2 * variance

    def sharpened(self, other: Lognormal) -> Lognormal:
        """Both beliefs about one task together, each weighed by its precision."""
        mine, its = self.sigma**-2, other.sigma**-2
        return Lognormal((self.mu * mine + other.mu * its) / (mine + its), (mine + its) ** -0.5)


def _normal_within(low: float, high: float) -> tuple[float, float]:
    """Mean and variance of a standard normal between `low` and `high`."""
    mass = 0.5 * (math.erfc(low / SQRT_2) - math.erfc(high / SQRT_2))
    if mass < 1e-9:
        # Far out in a tail the formula below loses all digits; there the density hugs the edge towards 0.
        return (low if low > 0 else high), 0.0
    at_low, at_high = _density(low), _density(high)
    mean = (at_low - at_high) / mass
    edges = (low * at_low if at_low else 0.0) - (high * at_high if at_high else 0.0)
    return mean, min(max(1.0 + edges / mass - mean * mean, 0.0), 1.0)


def _density(z: float) -> float:
    return math.exp(-0.5 * z * z) / SQRT_TAU if abs(z) < 38 else 0.0


def wait_until_worth(duration: Lognormal, age: float, price: float) -> float:
    """How long after `age`, at which the task was not done, its expected unnoticed time reaches `price`.

    Newton's method from the right: the expected unnoticed time is convex in the wait, so it falls straight to the
    root. A hundredth is exact enough, the wait is jittered by more.
    """
    alive = duration.survival(age)
    if alive < TAIL_SURVIVAL:
        return TAIL_SHARE * age
    remaining = duration.beyond(age) / alive
    wait = remaining + price
    for _ in range(40):
        unnoticed = wait - remaining + duration.beyond(age + wait) / alive
        slope = 1.0 - duration.survival(age + wait) / alive
        if slope <= 0.0:
            break
        step = (unnoticed - price) / slope
        wait -= step
        if step <= 0.01 * wait:
            break
    return max(wait, 0.0)


@define
class DurationModel:
    """What is believed of the ratio of durations to their estimates; learns from each finished task.

    A duration known to an interval only teaches its expectation within it, under the belief so far, so that an
    early failure or a task found finished long afterwards doesn't pass for a duration that was seen.
    """

    prior_weight: float = 4.0
    prior_sigma: float = 0.4
    memory: float = 500.0
    """Tasks that are remembered: beyond, older ones fade, since providers get faster and slower."""
    min_sigma: float = 0.03
    learned: int = field(default=0, init=False)
    _weight: float = field(init=False)
    _mean: float = field(default=0.0, init=False)
    _squares: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._weight = self.prior_weight
        self._squares = self.prior_weight * self.prior_sigma**2

    def belief(self) -> Lognormal:
        return Lognormal(self._mean, max(math.sqrt(self._squares / self._weight), self.min_sigma))

    def observe(self, after: float, by: float) -> None:
        """A task's duration, divided by its estimate, lay between `after` and `by`."""
        if not MIN_RATIO < by < MAX_RATIO:
            return  # a clock that was wrong, not a duration
        value, variance = self.belief().log_within(min(max(after, 0.0), by * 0.9999), by)
        if self._weight >= self.memory:
            fade = (self.memory - 1) / self._weight
            self._weight *= fade
            self._squares *= fade
        self._weight += 1
        delta = value - self._mean
        self._mean += delta / self._weight
        self._squares += delta * (value - self._mean) + variance
        self.learned += 1


@frozen
class Mark:
    """A look that found a task unfinished: its `progress` (per cent) at its `age`."""

    progress: int
    age: float


@define
class ProgressMap:
    """Which share of its duration a task has behind it at each progress; learned, since hosts draw it as they like.

    It is believed only while it predicts well: after `min_tasks` tasks, with predictions that were off by less than
    `max_error` (root mean square). Reading a curved progress as linear would be far worse than not reading it.
    """

    min_tasks: int = 20
    max_error: float = 0.15
    bin_width: int = 5
    _bins: dict[int, tuple[int, float]] = field(factory=dict, init=False)
    _judged: int = field(default=0, init=False)
    _error: float = field(default=0.0, init=False)

    def learn(self, mark: Mark, duration: float) -> None:
        share = min(mark.age / duration, 1.0)
        known = self._look_up(mark.progress)
        if known is not None:
            self._judged += 1
            self._error += ((share - known) ** 2 - self._error) / min(self._judged, 100)
        count, mean = self._bins.get(self._bin(mark.progress), (0, 0.0))
        count = min(count + 1, 100)
        self._bins[self._bin(mark.progress)] = count, mean + (share - mean) / count

    def predict(self, mark: Mark) -> Lognormal | None:
        """The task's duration as its progress tells it, or None while the map is not to be trusted."""
        if self._judged < self.min_tasks or self._error >= self.max_error**2:
            return None
        share = self._look_up(mark.progress)
        if share is None or share <= 0.0 or mark.age <= 0.0:
            return None
        return Lognormal(math.log(mark.age / share), max(math.sqrt(self._error) / share, 0.01))

    def _look_up(self, progress: int) -> float | None:
        known = self._bins.get(self._bin(progress))
        return known[1] if known else None

    def _bin(self, progress: int) -> int:
        return progress // self.bin_width


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
        self.value = max(self.value * 0.99, self.base)


@define
class PollingPolicy:
    """Answers when to look first and when to look next, and learns from what the looks find.

    With `callbacks` looks are a safety net and 10 times as dear; once callbacks have proved to come first, 100
    times. A trusted progress may put a look off to when it would be worth `put_off` times its price without it; at 1
    it only brings looks forward.
    """

    callbacks: bool = False
    put_off: float = 1.0
    price: Price = field(factory=Price)
    durations: DurationModel = field(factory=DurationModel)
    progress: ProgressMap = field(factory=ProgressMap)
    _belief: Lognormal = field(init=False)
    _told: float = field(default=0.0, init=False)
    _reference: float = field(default=DEFAULT_ESTIMATE, init=False)
    _first_waits: dict[float, float] = field(factory=dict, init=False)
    _first_price: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._belief = self.durations.belief()

    def estimate(self, given: float | None) -> float:
        """The estimate to reckon with: the provider's, else the last one it gave for another task."""
        if given is None or not MIN_WAIT <= given <= 86_400:
            return self._reference
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
            wait = wait_until_worth(self._belief.scaled(estimate), 0.0, price)
            known = self._first_waits[estimate] = min(max(wait, MIN_WAIT), MAX_FIRST_WAIT)
        return known

    def next_wait(self, age: float, estimate: float, progress: int | None, rng: Random) -> float:
        """How long after a look at `age` that found the task unfinished it is looked at again."""
        duration = self._belief.scaled(estimate)
        if age > max(STALE_AGE, STALE_FACTOR * duration.p99):
            return STALE_WAIT * rng.uniform(0.95, 1.05)
        wait = self._worth(duration, age, progress)
        # Only ever earlier: tasks submitted together come apart, and none is later than it is worth.
        longest = STALE_WAIT if self._callbacks_are_proved() else MAX_WAIT
        return min(max(wait * rng.uniform(0.9, 1.0), MIN_WAIT), longest)

    def _worth(self, duration: Lognormal, age: float, progress: int | None) -> float:
        price = self._effective_price()
        told = self.progress.predict(Mark(progress, age)) if progress else None
        if told is None:
            return wait_until_worth(duration, age, price)
        # Progress may be wrong for this one task, so what it says has a bound.
        latest = wait_until_worth(duration, age, price * self.put_off)
        return min(latest, wait_until_worth(duration.sharpened(told), age, price))

    def finished(self, after: float, by: float, estimate: float, mark: Mark | None, *, told: bool) -> None:
        """A task was unfinished at age `after` and final at `by`; `told` when a callback said so first."""
        self.durations.observe(after / estimate, by / estimate)
        self._belief = self.durations.belief()
        self._first_waits.clear()
        if mark is not None:
            self.progress.learn(mark, max((after + by) / 2, mark.age))
        self._told += (told - self._told) * 0.2

    def expected_seconds(self) -> float | None:
        """The median duration learned so far, for a task with the last estimate given."""
        return self._belief.median * self._reference if self.durations.learned else None

    def _effective_price(self) -> float:
        if not self.callbacks:
            return self.price.value
        return self.price.value * (100.0 if self._callbacks_are_proved() else 10.0)

    def _callbacks_are_proved(self) -> bool:
        return self.callbacks and self._told > 0.8

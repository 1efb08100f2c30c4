"""What is believed of how long tasks take, and when it is worth looking at one.

The durations are taken as lognormal and relative to the provider's `estimated_time`, which counts as four
observations; each finished task teaches the interval between the last look that found it unfinished and the one
that found it final. Ages, waits and prices are seconds.
"""

from __future__ import annotations

import math
from typing import Protocol

from attrs import define, field, frozen

__all__ = ["DurationModel", "Durations", "Lognormal", "Mixture", "wait_until_worth"]

MIN_RATIO, MAX_RATIO = 1e-3, 1e4
TAIL_SURVIVAL, TAIL_SHARE = 1e-4, 0.08
Z_99, Z_999 = 2.3263478740408408, 3.0902323061678132
SQRT_2 = math.sqrt(2.0)
SQRT_TAU = math.sqrt(2.0 * math.pi)


class Durations(Protocol):
    """A distribution of durations."""

    def tail(self, age: float, /) -> tuple[float, float]:
        """P(longer than `age`), and its integral from `age` on; from 0 that is the mean."""


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

    @property
    def p999(self) -> float:
        return math.exp(self.mu + Z_999 * self.sigma)

    def scaled(self, factor: float) -> Lognormal:
        return Lognormal(self.mu + math.log(factor), self.sigma)

    def survival(self, age: float) -> float:
        """P(longer than `age`)."""
        return self.tail(age)[0]

    def tail(self, age: float) -> tuple[float, float]:
        """P(longer than `age`), and its integral from `age` on; from 0 that is the mean."""
        mean = math.exp(self.mu + self.sigma * self.sigma / 2)
        if age <= 0:
            return 1.0, mean
        z = (math.log(age) - self.mu) / (self.sigma * SQRT_2)
        survival = 0.5 * math.erfc(z)
        return survival, 0.5 * mean * math.erfc(z - self.sigma / SQRT_2) - age * survival

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


@frozen
class Mixture:
    """Durations that are as in `likely`, but for a share of `doubt` as in `otherwise`."""

    likely: Durations
    otherwise: Durations
    doubt: float

    def survival(self, age: float) -> float:
        """P(longer than `age`)."""
        return self.tail(age)[0]

    def tail(self, age: float) -> tuple[float, float]:
        """P(longer than `age`), and its integral from `age` on."""
        (survival, beyond), (survival_otherwise, beyond_otherwise) = self.likely.tail(age), self.otherwise.tail(age)
        return (
            survival + self.doubt * (survival_otherwise - survival),
            beyond + self.doubt * (beyond_otherwise - beyond),
        )


def wait_until_worth(duration: Durations, age: float, price: float) -> float:
    """How long after `age`, at which the task was not done, its expected unnoticed time reaches `price`.

    Newton's method from the right: the expected unnoticed time is convex in the wait, so it falls straight to the
    root. A hundredth is exact enough, the wait is jittered by more.
    """
    alive, beyond_now = duration.tail(age)
    if alive < TAIL_SURVIVAL:
        return TAIL_SHARE * age
    remaining = beyond_now / alive
    wait = remaining + price
    for _ in range(40):
        survival, beyond = duration.tail(age + wait)
        unnoticed = wait - remaining + beyond / alive
        slope = 1.0 - survival / alive
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

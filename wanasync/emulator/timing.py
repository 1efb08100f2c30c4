"""How long the emulated provider takes, and what progress it shows meanwhile. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Protocol, runtime_checkable

from attrs import frozen

__all__ = ["Durations", "LogNormal", "Uniform", "coarse", "linear", "slow_start", "timing"]


class Durations(Protocol):
    """Draws the seconds one task takes."""

    def __call__(self, rng: Random, /) -> float: ...


@runtime_checkable
class _HasMedian(Protocol):
    @property
    def median(self) -> float: ...


@frozen
class Uniform:
    """Anything between `low` and `high` seconds."""

    low: float
    high: float

    def __call__(self, rng: Random) -> float:
        return rng.uniform(self.low, self.high)

    @property
    def median(self) -> float:
        return (self.low + self.high) / 2


@frozen
class LogNormal:
    """Half of the tasks take less than `median` seconds; `sigma` is the spread of the logarithm, usually 0.2 to 0.6."""

    median: float = 120.0
    sigma: float = 0.35

    def __call__(self, rng: Random) -> float:
        return rng.lognormvariate(math.log(self.median), self.sigma)


def timing(durations: float | tuple[float, float] | Durations) -> Durations:
    """A number of seconds, a (low, high) pair or anything that draws, as something that draws."""
    if isinstance(durations, int | float):
        return Uniform(float(durations), float(durations))
    if isinstance(durations, tuple):
        return Uniform(*durations)
    return durations


def estimate(durations: Durations) -> int:
    """What the provider would announce as `estimated_time`, in seconds; 120 (its document's example) if unknown."""
    return max(1, round(durations.median)) if isinstance(durations, _HasMedian) else 120


Progress = Callable[[float], float]
"""Maps the share of a task's time that has passed, 0 to 1, to the share it claims to have done."""


def linear(share: float) -> float:
    """Says how much of its time has passed."""
    return share


def slow_start(share: float) -> float:
    """Stays low for long: a reader that takes it for linear expects the end far too late."""
    return share**2


def coarse(share: float) -> float:
    """Moves in steps of a tenth."""
    return math.floor(share * 10) / 10

"""What people do about rate limits otherwise, for comparison with the pacer in the same simulation.

Each plays the part of the pacer in `tests.helpers.pacing_simulation`: it is asked when the next submission may go and
told what came of each. As in the programs they stand for, 100 connections are the most that are open at once.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from typing import Protocol, cast

from attrs import define, field

from tests.helpers import pacing_simulation as sim
from wanasync.rules.pacing import Pacer

__all__ = ["STRATEGIES", "Gather", "Limiter", "Semaphore", "measure"]

MOST_ON_WIRE = 100
LONGEST_BACKOFF = 60.0


class Strategy(Protocol):
    def earliest(self, now: float) -> float: ...
    def send(self, now: float) -> int: ...
    def accepted(self, number: int, now: float, task_id: str) -> None: ...
    def throttled(self, number: int, now: float, hint: float | None, *, firm: bool) -> None: ...
    def finished(self, task_id: str, now: float) -> None: ...


@define
class Gather:
    """`asyncio.gather` over all items; each that is refused sleeps by itself, with full jitter up to 60 s."""

    items: int
    rng: random.Random
    _numbers: itertools.count[int] = field(factory=itertools.count)
    _attempts: dict[int, int] = field(factory=dict)
    _asleep: list[tuple[float, int]] = field(factory=list)

    def earliest(self, now: float) -> float:
        if len(self._attempts) >= MOST_ON_WIRE:
            return math.inf
        if self._may_begin():
            return now
        return self._asleep[0][0] if self._asleep else math.inf

    def _may_begin(self) -> bool:
        return self.items > 0

    def send(self, now: float) -> int:
        number, attempts = next(self._numbers), 0
        if self._asleep and self._asleep[0][0] <= now:
            attempts = heapq.heappop(self._asleep)[1]
        else:
            self.items -= 1
        self._attempts[number] = attempts + 1
        return number

    def accepted(self, number: int, now: float, task_id: str) -> None:
        del self._attempts[number]

    def throttled(self, number: int, now: float, hint: float | None, *, firm: bool) -> None:
        attempts = self._attempts.pop(number)
        backoff = self.rng.uniform(0, min(2.0 ** min(attempts, 10), LONGEST_BACKOFF))
        heapq.heappush(self._asleep, (now + backoff, attempts))

    def finished(self, task_id: str, now: float) -> None:
        pass


@define
class Semaphore(Gather):
    """The same inside `asyncio.Semaphore(size)`, held from the submission to the finished video."""

    size: int = field(default=20, kw_only=True)
    _held: int = 0

    def _may_begin(self) -> bool:
        return self.items > 0 and self._held < self.size

    def send(self, now: float) -> int:
        before = self.items
        number = Gather.send(self, now)
        self._held += before - self.items
        return number

    def finished(self, task_id: str, now: float) -> None:
        self._held -= 1


@define
class Limiter(Gather):
    """Gather behind a limiter that was told "60 in 60 s": a leaky bucket, as aiolimiter's, with its full burst."""

    requests: int = field(default=60, kw_only=True)
    per: float = field(default=60.0, kw_only=True)
    _level: float = 0.0
    _at: float = 0.0

    def earliest(self, now: float) -> float:
        at = Gather.earliest(self, now)
        self._level = max(self._level - (now - self._at) * self.requests / self.per, 0.0)
        self._at = now
        over = self._level + 1 - self.requests
        return max(at, now + over * self.per / self.requests) if over > 1e-9 else at

    def send(self, now: float) -> int:
        self._level += 1
        return Gather.send(self, now)


STRATEGIES = {
    "gather with backoff": Gather,
    "semaphore of 20": Semaphore,
    "limiter told 60 / min": Limiter,
}


def measure(strategy: type[Gather], scenario: sim.Scenario, seed: int) -> sim.Measured:
    """As `sim.measure` does for the pacer: same limiter, same durations."""
    rng = random.Random(seed)
    durations = [rng.uniform(scenario.shortest, scenario.longest) for _ in range(scenario.tasks)]
    ideal_last, ideal_end = sim.ideal(scenario.limiter(random.Random(seed)), durations)
    client = cast(Pacer, strategy(scenario.tasks, random.Random(seed + 1)))
    run = sim._Run(scenario, scenario.limiter(random.Random(seed)), durations, rng, client)
    run.run()
    last = run.accepted_at[-1]
    end = max(at + duration for at, duration in zip(run.accepted_at, durations, strict=True))
    return sim.Measured(
        ideal_last / last if ideal_last else None,
        ideal_end / end,
        len(run.refused_at),
        last,
        tuple(run.accepted_at),
        tuple(run.refused_at),
        client,
    )

"""A provider and its clients in virtual time: how well does the pacer use a limit that it doesn't know?

Discrete events instead of a loop: 2,000 submissions over half an hour of virtual time take well under a second. The
limiters are written independently of the pacer's rules. `ideal` plays the same limiter with full knowledge.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from attrs import define, field, frozen

from wanasync.models import Limits
from wanasync.rules.pacing import Pacer, PaceRecord

__all__ = [
    "HINTS",
    "Bucket",
    "Changing",
    "Concurrent",
    "FixedWindow",
    "Flaky",
    "Limiter",
    "Measured",
    "Scenario",
    "Shared",
    "SlidingWindow",
    "Together",
    "ideal",
    "measure",
]


class Limiter(Protocol):
    """What a provider does to a submission that arrives at `now` while `running` tasks are unfinished."""

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        """`now` if a submission would pass, else when one would, given when the running tasks end."""

    def accept(self, now: float) -> None: ...

    def refuse(self, now: float) -> None: ...


@define
class FixedWindow:
    requests: int
    per: float = 60.0
    phase: float = 0.0
    counts_refused: bool = False
    _window: int = -1
    _taken: int = 0

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        window = math.floor((now + self.phase) / self.per)
        if window > self._window:
            self._window, self._taken = window, 0
        return now if self._taken < self.requests else (window + 1) * self.per - self.phase

    def accept(self, now: float) -> None:
        self._taken += 1

    def refuse(self, now: float) -> None:
        self._taken += self.counts_refused


@define
class SlidingWindow:
    requests: int
    per: float = 60.0
    counts_refused: bool = False
    _log: deque[float] = field(factory=deque)

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        while self._log and self._log[0] + self.per <= now:
            self._log.popleft()
        over = len(self._log) - self.requests
        return now if over < 0 else self._log[over] + self.per

    def accept(self, now: float) -> None:
        self._log.append(now)

    def refuse(self, now: float) -> None:
        if self.counts_refused:
            self._log.append(now)


@define
class Bucket:
    rate: float
    burst: float
    _level: float = math.inf
    _at: float = 0.0

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._level, self._at = level, now
        return now if level >= 1 - 1e-9 else now + (1 - level) / self.rate

    def accept(self, now: float) -> None:
        self._level -= 1

    def refuse(self, now: float) -> None: ...


@define
class Concurrent:
    tasks: int

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        running = sorted(end for end in ends if end > now)
        return now if len(running) < self.tasks else running[len(running) - self.tasks]

    def accept(self, now: float) -> None: ...

    def refuse(self, now: float) -> None: ...


@define
class Together:
    """Both limits hold."""

    first: Limiter
    second: Limiter

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        return max(self.first.free_at(now, ends), self.second.free_at(now, ends))

    def accept(self, now: float) -> None:
        self.first.accept(now)
        self.second.accept(now)

    def refuse(self, now: float) -> None:
        self.first.refuse(now)
        self.second.refuse(now)


@define
class Changing:
    """The limiter's number of requests is changed at given times."""

    limiter: FixedWindow | SlidingWindow
    changes: list[tuple[float, int]]

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        while self.changes and self.changes[0][0] <= now:
            self.limiter.requests = self.changes.pop(0)[1]
        free = self.limiter.free_at(now, ends)
        return min(free, self.changes[0][0]) if self.changes and free > now else free

    def accept(self, now: float) -> None:
        self.limiter.accept(now)

    def refuse(self, now: float) -> None:
        self.limiter.refuse(now)


@define
class Shared:
    """Another client of the same key sends at its own even pace, and drops what is refused."""

    limiter: Limiter
    every: float
    _next: float = 0.0

    def _others(self, now: float) -> None:
        while self._next <= now:
            if self.limiter.free_at(self._next, ()) <= self._next:
                self.limiter.accept(self._next)
            self._next += self.every

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        self._others(now)
        return self.limiter.free_at(now, ends)

    def accept(self, now: float) -> None:
        self.limiter.accept(now)

    def refuse(self, now: float) -> None:
        self.limiter.refuse(now)


@define
class Flaky:
    """So many of what the limiter would take are put off for no reason, as by a provider with troubles of its own."""

    limiter: Limiter
    share: float
    rng: random.Random
    _judged: float = -1.0
    _bad: bool = False

    def free_at(self, now: float, ends: Sequence[float]) -> float:
        free = self.limiter.free_at(now, ends)
        if free > now:
            return free
        if now > self._judged:
            self._judged, self._bad = now, self.rng.random() < self.share
        return now + 1e-6 if self._bad else now

    def accept(self, now: float) -> None:
        self.limiter.accept(now)

    def refuse(self, now: float) -> None:
        self.limiter.refuse(now)


Hint = tuple[float | None, bool]
"""Seconds and whether they came in a header."""

HINTS: dict[str, Callable[[float], Hint]] = {
    "exact": lambda remaining: (max(remaining, 0.5), False),
    "static": lambda _: (60.0, False),
    "absent": lambda _: (None, False),
    "header": lambda remaining: (float(max(math.ceil(remaining), 1)), True),
    "half": lambda remaining: (max(remaining / 2, 0.5), False),
    "half more": lambda remaining: (max(remaining * 1.5, 0.5), False),
}


@frozen
class Scenario:
    """`limiter` makes a fresh one; `lag` is the most seconds until a finished task is noticed.

    `fair` makes what the ideal client is held to instead, where the limit is shared and taking all of it would be
    taking it from others.
    """

    limiter: Callable[[random.Random], Limiter]
    hint: str = "static"
    tasks: int = 2000
    shortest: float = 60.0
    longest: float = 180.0
    lag: float = 5.0
    fair: Callable[[random.Random], Limiter] | None = None
    limits: Limits | None = None
    record: PaceRecord | None = None
    trip: tuple[float, float] = (0.08, 0.17)


@frozen
class Measured:
    """How a run went, each share being the ideal time over ours.

    `utilisation` is of the time to the last acceptance, None where all could have been accepted at once; `makespan` of
    the time to the end of the last task.
    """

    utilisation: float | None
    makespan: float
    refusals: int
    seconds: float
    accepted_at: tuple[float, ...] = field(repr=False)
    refused_at: tuple[float, ...] = field(repr=False)
    pacer: Pacer = field(repr=False)


def ideal(limiter: Limiter, durations: Sequence[float]) -> tuple[float, float]:
    now, ends = 0.0, list[float]()
    latest = 0.0
    for duration in durations:
        ends = [end for end in ends if end > now]
        while (free := limiter.free_at(now, ends)) > now:
            now = free
        limiter.accept(now)
        ends.append(now + duration)
        latest = max(latest, now + duration)
    return now, latest


@define
class _Run:
    scenario: Scenario
    limiter: Limiter
    durations: Sequence[float]
    rng: random.Random
    pacer: Pacer
    now: float = 0.0
    left: int = 0
    wake: float = math.inf
    ends: list[float] = field(factory=list)
    accepted_at: list[float] = field(factory=list)
    refused_at: list[float] = field(factory=list)
    events: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    order: Iterable[int] = field(factory=itertools.count)

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(iter(self.order)), action))

    def run(self) -> None:
        self.left = len(self.durations)
        self._submit()
        while len(self.accepted_at) < len(self.durations):
            self.now, _, action = heapq.heappop(self.events)
            action()
            self._submit()

    def _submit(self) -> None:
        while self.left and (at := self.pacer.earliest(self.now)) <= self.now:
            self._send()
        if self.left and at < math.inf and not self.now < self.wake <= at:
            self.wake = at
            self.at(at, lambda: None)

    def _send(self) -> None:
        number = self.pacer.send(self.now)
        self.left -= 1
        self.at(self.now + self.rng.uniform(*self.scenario.trip), lambda: self._arrive(number))

    def _arrive(self, number: int) -> None:
        back = self.now + self.rng.uniform(*self.scenario.trip)
        self.ends = [end for end in self.ends if end > self.now]
        free = self.limiter.free_at(self.now, self.ends)
        if free > self.now:
            self.limiter.refuse(self.now)
            self.refused_at.append(self.now)
            hint, firm = HINTS[self.scenario.hint](free - self.now)
            self.at(back, lambda: self._refused(number, hint, firm))
            return
        self.limiter.accept(self.now)
        end = self.now + self.durations[len(self.accepted_at)]
        self.accepted_at.append(self.now)
        self.ends.append(end)
        task_id = f"task-{number}"
        self.at(back, lambda: self.pacer.accepted(number, self.now, task_id))
        noticed = max(end, back) + self.rng.uniform(0, self.scenario.lag)
        self.at(noticed, lambda: self.pacer.finished(task_id, self.now))

    def _refused(self, number: int, hint: float | None, firm: bool) -> None:
        self.left += 1
        self.pacer.throttled(number, self.now, hint, firm=firm)


def measure(scenario: Scenario, seed: int) -> Measured:
    """Run the scenario to its last acceptance."""
    rng = random.Random(seed)
    durations = [rng.uniform(scenario.shortest, scenario.longest) for _ in range(scenario.tasks)]
    ideal_last, ideal_end = ideal((scenario.fair or scenario.limiter)(random.Random(seed)), durations)
    pacer = Pacer(rng=random.Random(seed + 1), limits=scenario.limits)
    if scenario.record is not None:
        pacer.teach(scenario.record, 0.0, 60.0)
    run = _Run(scenario, scenario.limiter(random.Random(seed)), durations, rng, pacer)
    run.run()
    last = run.accepted_at[-1]
    end = max(at + duration for at, duration in zip(run.accepted_at, durations, strict=True))
    return Measured(
        utilisation=ideal_last / last if ideal_last else None,
        makespan=ideal_end / end,
        refusals=len(run.refused_at),
        seconds=last,
        accepted_at=tuple(run.accepted_at),
        refused_at=tuple(run.refused_at),
        pacer=pacer,
    )

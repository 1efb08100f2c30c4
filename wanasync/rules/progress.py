"""What a task's progress foretells of its end.

Hosts draw progress as they like: in proportion to the time, slow at first, in steps, as a guess. So nothing is taken
for granted. Which share of its duration a task has behind it at each progress is learned from finished tasks, and so
is how far off that was. What several looks at one task tell is added up by precision, and the sum's width is
calibrated against how finished tasks came out: where errors go together, as when a whole task is odd, it grows.
"""

from __future__ import annotations

import math
from struct import Struct

from attrs import define, field, frozen

from wanasync.rules.durations import Lognormal, Mixture

__all__ = ["NO_EVIDENCE", "Evidence", "ProgressMap"]

MIN_VARIANCE = 1e-4
"""Progress comes in whole points, so that no look tells a duration better than to a hundredth."""
FLUKE = 12.0
"""A squared error of so many times what was expected (3.5 deviations) is no error of degree: the progress lied."""
MIN_AGE = 0.001

Evidence = bytes
"""What the looks at one unfinished task have seen of its progress; empty before they have seen any.

Packed, since 50,000 tasks may be followed: as an object with its numbers it takes 176 bytes, so 47.
"""
NO_EVIDENCE: Evidence = b""
_PACKED = Struct("<BeBeff")
MAX_AGE = 65_000.0
"""Half a float's ages are exact to a twentieth of a per cent, and reach 18 hours; older tasks tell nothing more."""


@frozen
class _Seen:
    """Evidence unpacked: the first progress and the last, each with the task's age, and their sum.

    `logs` ÷ `weight` is the logarithm of the duration they foretell, 1 ÷ `weight` its variance.
    """

    first_progress: int
    first_age: float
    progress: int
    age: float
    weight: float
    logs: float

    @staticmethod
    def of(evidence: Evidence) -> _Seen:
        return _Seen(*_PACKED.unpack(evidence))


@define
class _Knot:
    """How much further than in proportion to its progress a task is at one progress, as a logarithm, and its variance.

    The weights start with a prior, so that a variance from two tasks isn't taken for precision.
    """

    weight: float = 1.0
    bend: float = 0.0
    spread_weight: float = 3.0
    variance: float = 0.09


@define
class ProgressMap:
    """Learns what progress means, a straight line from knot to knot, and answers when a task will have ended.

    It is believed after `min_tasks` tasks, and only while what it foretold of them was off by less than 0.7 times
    what the durations alone say (root mean square). And never wholly: some share of tasks, the *doubt*, ended
    where progress had all but ruled it out, or failed on the way. That share of the belief stays with the durations.
    """

    min_tasks: int = 10
    knots_every: int = 25
    memory: float = 100.0
    max_error: float = 0.7
    min_doubt: float = 0.01
    _knots: list[_Knot] = field(init=False)
    _judged: int = field(default=0, init=False)
    _error: float = field(default=0.0, init=False)
    _calibration: float = field(default=1.0, init=False)
    _doubt: float = field(default=0.05, init=False)

    def __attrs_post_init__(self) -> None:
        self._knots = [_Knot() for _ in range(100 // self.knots_every + 1)]

    def saw(self, evidence: Evidence, progress: int | None, age: float) -> Evidence:
        """Add to the evidence of a task what a look at `age` saw. The same progress again is nothing new."""
        if progress is None or not 0 < progress < 100 or not MIN_AGE <= age <= MAX_AGE:
            return evidence
        seen = _Seen.of(evidence) if evidence else _Seen(progress, age, 0, 0.0, 0.0, 0.0)
        if progress == seen.progress:
            return evidence
        share, variance = self._share(progress)
        weight, logs = seen.weight + 1 / variance, seen.logs + (math.log(age) - share) / variance
        return _PACKED.pack(seen.first_progress, seen.first_age, progress, age, weight, logs)

    def foretold(self, evidence: Evidence, durations: Lognormal) -> Mixture | None:
        """The task's duration in the light of its progress; None while that is not to be trusted."""
        if not evidence or not self.is_trusted(durations):
            return None
        likely = durations.sharpened(self._told(_Seen.of(evidence)))
        return Mixture(likely, durations, max(self._doubt, self.min_doubt))

    def is_trusted(self, durations: Lognormal) -> bool:
        return self._judged >= self.min_tasks and self._error < (self.max_error * durations.sigma) ** 2

    def learn(self, evidence: Evidence, after: float, by: float, durations: Lognormal, *, completed: bool) -> None:
        """Take in that the task was unfinished at age `after` and final at `by`. A failure teaches doubt only."""
        if not evidence:
            return
        seen = _Seen.of(evidence)
        told = self._told(seen)
        # Where in between it ended is not known: expected as believed, and as uncertain.
        log, uncertainty = durations.sharpened(told).log_within(after, by)
        self._judge(told, (log - told.mu) ** 2 + uncertainty, completed=completed)
        if completed:
            self._bend(seen.first_progress, math.log(seen.first_age) - log)
            if seen.progress != seen.first_progress:
                self._bend(seen.progress, math.log(seen.age) - log)

    def _told(self, seen: _Seen) -> Lognormal:
        return Lognormal(seen.logs / seen.weight, math.sqrt(self._calibration / seen.weight))

    def _judge(self, told: Lognormal, error: float, *, completed: bool) -> None:
        self._judged += 1
        off = error / told.sigma**2
        self._doubt += ((not completed or off > FLUKE) - self._doubt) / min(self._judged + 20, 2 * self.memory)
        if completed:
            weight = min(self._judged, self.memory)
            self._error += (error - self._error) / weight
            # Relative to itself, since `told` is calibrated already; no fluke decides alone.
            self._calibration *= 1 + (min(off, FLUKE) - 1) / (weight + 5)
            self._calibration = max(self._calibration, 0.25)

    def _bend(self, progress: int, log_share: float) -> None:
        """Move the knots on both sides of `progress` towards what a task was found to be there."""
        error = log_share - self._share(progress)[0]
        for knot, nearness in self._around(progress):
            knot.weight = min(knot.weight + nearness, self.memory)
            knot.bend += nearness * error / knot.weight
            knot.spread_weight = min(knot.spread_weight + nearness, self.memory)
            knot.variance += nearness * (error * error - knot.variance) / knot.spread_weight

    def _share(self, progress: int) -> tuple[float, float]:
        """Mean and variance of the logarithm of the share of its duration a task has behind it at that progress."""
        share, variance = math.log(progress / 100), 0.0
        for knot, nearness in self._around(progress):
            share += nearness * knot.bend
            variance += nearness * knot.variance
        return share, max(variance, MIN_VARIANCE)

    def _around(self, progress: int) -> tuple[tuple[_Knot, float], ...]:
        number, rest = divmod(progress, self.knots_every)
        if not rest:
            return ((self._knots[number], 1.0),)
        nearness = rest / self.knots_every
        return (self._knots[number], 1 - nearness), (self._knots[number + 1], nearness)

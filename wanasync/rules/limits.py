"""The provider's limits as we know them: rules that say when the next submission fits, and learn from replies.

Each stands alone, the `Window` in a module of its own; which of them a refusal speaks of is for `rules.refusals` to
find out. `now` is seconds on any monotonic clock and is passed in.
"""

from __future__ import annotations

import math
from collections import deque

from attrs import define, field, frozen

__all__ = ["Bucket", "Hints", "Met", "Probing", "Quota"]

RULED_OUT_FOR = 900.0
"""Seconds for which a quota that proved wrong is not suspected again."""
CHANGEABLE_GROWTH = 1.3
"""By which the gaps between probes grow once the limit has changed."""
_NEVER = math.inf
_EPSILON = 1e-6


@define
class Probing:
    """When a rule may be tried with one submission more than it allows: after gaps that grow while refused.

    A limit that has just moved is likelier to move again, so from then on the gaps start small and grow slowly.
    """

    gap: float
    longest: float
    shortest: float
    at: float = -_NEVER
    growth: float = 2.0

    def refused(self, now: float) -> None:
        self.at = now + self.gap
        self.gap = min(self.gap * self.growth, self.longest)

    def changed(self, now: float) -> None:
        if self.growth != CHANGEABLE_GROWTH:
            self.growth = CHANGEABLE_GROWTH
            self.longest /= 2
        self.gap = self.shortest
        self.at = now + self.gap


@define
class Bucket:
    """A rate with a burst, learned from the moments at which the provider's bucket was known to be empty.

    Between two refusals just as many places were filled as taken, give or take one, so the measured rate gets
    the more exact the longer the time since `anchor`. It is kept for `steady` seconds after each refusal, then
    raised little by little to notice a raised limit. Until it is `proven` by an admission, `fallback` is what the
    window would be if it was none.
    """

    rate: float
    burst: float
    fallback: int
    anchor: float
    taken: int
    empty_at: float
    taken_since_empty: int = 0
    level: float = 0.0
    at: float = 0.0
    steady: float = 15.0
    doubt: float = 1.0
    raised: bool = False
    proven: bool = False

    def pace(self, now: float) -> float:
        """Submissions a second."""
        over = max(now - self.empty_at - self.steady, 0.0)
        return self.rate * (1 + self.doubt) * math.exp2(min(over / self.steady, 10.0))

    def earliest(self, now: float) -> float:
        self._fill(now)
        return now if self.level >= 1 - _EPSILON else now + (1 - self.level) / self.pace(now)

    def take(self, now: float) -> None:
        self._fill(now)
        self.level -= 1

    def give_back(self, now: float) -> None:
        self._fill(now)
        self.level = min(self.level + 1, self.burst)

    def accepted(self, now: float) -> None:
        self.taken += 1
        self.taken_since_empty += 1
        if self.taken_since_empty > self.rate * (1 + self.doubt) * (now - self.empty_at) + self.burst + 2:
            # More was taken than this rate can have given: the limit was raised, by how much is not known yet.
            self.rate *= 1.25
            self.raised = True
            self.empty_at, self.taken_since_empty = now, 0

    def fits(self, now: float) -> bool:
        """Whether a refusal now is what this bucket would do."""
        expected = self.rate * (now - self.empty_at)
        return abs(self.taken_since_empty - expected) <= 2 + (0.15 + self.doubt) * expected

    def emptied(self, now: float) -> None:
        """A refusal: the bucket holds less than one."""
        if self.raised:
            self.anchor, self.taken, self.doubt = now, 0, 0.25
        else:
            self._measure(now)
        self.raised = False
        self.empty_at, self.taken_since_empty = now, 0
        self.level, self.at = 0.0, now

    def _measure(self, now: float) -> None:
        if not self.fits(now):
            self.anchor, self.taken = self.empty_at, self.taken_since_empty
        self.rate = max(self.taken, 0.5) / max(now - self.anchor, 0.1)
        self.doubt = max(1 / max(self.taken, 1) - 0.01, 0.0)
        self.steady = min(max(2 * (now - self.anchor), 15.0), 600.0)

    def _fill(self, now: float) -> None:
        self.level = min(self.level + (now - self.at) * self.pace(now), max(self.burst, 1.0))
        self.at = now


@frozen
class Met:
    """A refusal as the quota sees it: unfinished tasks, and how many had ended since the start."""

    tasks: int
    finished: int


@define
class Quota:
    """At most `tasks` unfinished at once; None while nothing points to such a limit.

    `peak` is the most that were accepted lately: a refusal below it was not the quota's.
    """

    tasks: int | None = None
    ceiling: int | None = None
    peak: int = 0
    peak_at: float = 0.0
    met: deque[Met] = field(factory=lambda: deque(maxlen=3))
    ruled_out_until: float = -_NEVER

    def reached(self, tasks: int, now: float) -> None:
        if tasks >= self.peak or now - self.peak_at > 600:
            self.peak, self.peak_at = tasks, now

    def refused(self, tasks: int, finished: int) -> None:
        self.met.append(Met(tasks, finished))

    def suspected(self, tasks: int, now: float, *, spare: int = 0) -> bool:
        """Whether a refusal that the rate doesn't explain may be the quota's; at `spare` tasks below the peak even."""
        if now < self.ruled_out_until or not self.met:
            return False
        # Until tasks end their number is at its peak whatever happens.
        at_peak = 0 < self.peak <= tasks + spare and self.met[-1].finished > 0
        return at_peak or self.repeats(2)

    def rule_out(self, now: float) -> None:
        """Tasks ended and yet there was no place: it is not the quota."""
        self.tasks = None
        self.ruled_out_until = now + RULED_OUT_FOR

    def repeats(self, times: int) -> bool:
        """Whether the last refusals came at the same number of tasks although tasks ended in between.

        The provider knows of ends before we do, so our count may be a little over its own.
        """
        met = list(self.met)[-times:]
        if len(met) < times or met[-1].tasks == 0:
            return False
        least, most = min(one.tasks for one in met), max(one.tasks for one in met)
        ended = met[-1].finished - met[0].finished
        return ended >= max(1, least // 8) and most - least <= self.tolerance(least)

    def recedes(self) -> bool:
        """Whether refusals come at fewer and fewer tasks, as no quota would have it."""
        met = [one.tasks for one in self.met]
        return len(met) == 3 and met[0] > met[1] > met[2] and met[0] - met[2] > self.tolerance(met[2])

    def least_met(self) -> int:
        """The best guess at the limit: the least of the last refusals' numbers that may be the same one."""
        last = self.met[-1].tasks
        return min(one.tasks for one in self.met if last - one.tasks <= self.tolerance(last))

    @staticmethod
    def tolerance(tasks: int) -> int:
        """By how much our number may be over the provider's: tasks that ended and were not looked at yet."""
        return max(min(2, (tasks + 5) // 10), tasks // 20)


@define
class Hints:
    """What the provider's hints are worth: a computed one counts down while we wait, a fixed phrase does not.

    A computed one may be off by a factor, which two hints of one pause show: `scale` is the seconds that pass while
    a hint falls by one. None while nothing is known, infinite for a fixed phrase.
    """

    scale: float | None = None
    _first: tuple[float, float] | None = None

    def heard(self, hint: float | None, now: float) -> None:
        if hint is None:
            return
        if self._first is None or hint > self._first[0] + 1:
            self._first = (hint, now)
            return
        passed, fell = now - self._first[1], self._first[0] - hint
        if passed < 1.0:
            return
        scale = passed / fell if fell > 0.3 * passed - 0.1 and fell > 0.2 else _NEVER
        self.scale = 1.0 if abs(passed - fell) < 0.1 * passed + 0.35 else scale

    def true(self, hint: float | None) -> float | None:
        """The wait that the hint stands for, None unless hints were seen to count down."""
        if hint is None or self.scale is None or self.scale == _NEVER:
            return None
        return hint * self.scale

    def episode_over(self) -> None:
        self._first = None

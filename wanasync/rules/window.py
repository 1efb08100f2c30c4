"""The limit that most providers have: so many submissions in so many seconds, of which neither number is told.

`now` is seconds on any monotonic clock and is passed in.
"""

from __future__ import annotations

import math
from collections import deque

from attrs import define, field, frozen

__all__ = ["ASSUMED_WINDOW", "LONGEST_WINDOW", "Period", "Window"]

ASSUMED_WINDOW = 60.0
"""Seconds; the provider's document speaks of retrying after 60 seconds."""
ROUND_PERIODS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 86_400.0)
"""Seconds; lengths that providers give their windows."""
LONGEST_WINDOW = ROUND_PERIODS[-1]
MOST_RUNS, MOST_PAST = 500, 10_000
"""Times of places that are over: kept exactly, and counted."""
_NEVER = math.inf
_EPSILON = 1e-6


@define
class Period:
    """How long a window is: longer than `low`, at most `high`, in seconds.

    It is seen only from outside: one that had not ended when a canary was refused, one that had when the next passed.
    Providers choose round numbers, so of what is possible the longest round one is tried. It is `settled` once a
    window was filled, ended when it should, and no shorter length is left to try.
    """

    seconds: float = ASSUMED_WINDOW
    low: float = 0.0
    high: float = _NEVER
    verified: bool = False
    settled: bool = False

    def outlasted(self, seconds: float) -> None:
        """A window had not ended so long after its first place was taken."""
        if self.settled or not self.low < seconds < _NEVER:
            return
        self.low = seconds
        if self.high <= seconds * 1.1:
            self.high = _NEVER
        if self.seconds <= seconds:
            self.seconds, self.verified = _longer(seconds), False

    def ended(self, seconds: float) -> None:
        """A window had ended so long after its first place was taken."""
        if self.settled:
            return
        self.high = min(self.high, seconds * 1.02 + 0.3)
        if self.low >= self.high:
            self.low = 0.0
        if self.seconds > self.high:
            self.seconds = next((one for one in reversed(ROUND_PERIODS) if self.low < one <= self.high), self.high)
        elif self.seconds == ASSUMED_WINDOW:
            self.verified = True

    def measured(self, seconds: float) -> None:
        """A window ended then, and no sooner."""
        if not self.settled:
            nearest = min(ROUND_PERIODS, key=lambda one: abs(math.log(one / max(seconds, 0.1))))
            self.seconds = nearest if abs(nearest - seconds) <= 0.17 * nearest else min(seconds, LONGEST_WINDOW)
            self.settled = True

    def kept(self) -> None:
        """A full window had ended when it should."""
        self.verified = True
        self.settled = self.settled or self.shorter() is None

    def shorter(self) -> float | None:
        """The next length to try that is shorter than what is taken for true, if any is left."""
        if self.settled or (not self.verified and self.seconds <= ASSUMED_WINDOW):
            return None
        return next((one for one in ROUND_PERIODS if self.low < one < 0.95 * self.seconds), None)


def _longer(seconds: float) -> float:
    if seconds < ASSUMED_WINDOW:
        return ASSUMED_WINDOW
    return next((one for one in ROUND_PERIODS if one > seconds), LONGEST_WINDOW)


@frozen
class Dispute:
    """A refusal although a place should have been free: places taken by then, and those since the last pause."""

    at: float
    taken: int
    since_opened: int


@define
class Disputes:
    """What the last refusals say together that a rule can't explain."""

    last: deque[Dispute] = field(factory=lambda: deque(maxlen=3))

    def same_since_opened(self) -> bool:
        """Whether a fixed window's limit fell: just as many go in each window, whatever was before."""
        if len(self.last) < 2:
            return False
        before, now = list(self.last)[-2:]
        return abs(before.since_opened - now.since_opened) <= 1 and now.since_opened < now.taken - 2

    def many(self, since: float) -> bool:
        return len(self.last) == 3 and self.last[0].at >= since

    def same_taken(self) -> bool:
        """Whether the limit simply fell: just as many were taken the last time."""
        last = list(self.last)[-2:]
        return len(last) == 2 and last[0].taken == last[1].taken

    def go_on(self, since: float) -> bool:
        """Whether places are missing again and again, a few each time: others take them."""
        if not self.many(since):
            return False
        return 0.8 * self.last[0].taken <= self.last[-1].taken < self.last[0].taken


@define
class Past:
    """When places were taken that are over: so many of the last, and the exact times of the few only.

    Of more than MOST_RUNS, neighbours are taken for one at the time of the later.
    """

    runs: list[tuple[float, int]] = field(factory=list)
    count: int = 0

    def add(self, at: float) -> None:
        self.runs.append((at, 1))
        self.count += 1
        if len(self.runs) >= MOST_RUNS:
            pairs = zip(self.runs[::2], self.runs[1::2], strict=True)
            self.runs = [(late, early_count + count) for (_, early_count), (late, count) in pairs]
        if self.count > MOST_PAST:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        at, count = self.runs[0]
        self.runs[:1] = [(at, count - 1)] if count > 1 else []
        self.count -= 1

    def take_back(self) -> list[float]:
        """All of them, oldest first; none is left."""
        runs, self.runs, self.count = self.runs, [], 0
        return [at for at, count in runs for _ in range(count)]


@define
class Window:
    """At most `requests` submissions in any `per` seconds; None while nothing is known.

    `log` holds the reply times of what took a place, oldest first, and `refusals` those of 429s, which some servers
    count as well.
    """

    period: Period = field(factory=Period)
    requests: int | None = None
    ceiling: int | None = None
    fallback: int | None = None
    doubled: int = 0
    counts_refusals: bool = False
    climbing_since: float | None = None
    began: float = -_NEVER
    since_began: int = 0
    log: deque[float] = field(factory=deque)
    refusals: deque[float] = field(factory=deque)
    since_opened: int = 0
    disputes: Disputes = field(factory=Disputes)
    _over: Past = field(factory=Past)

    @property
    def per(self) -> float:
        return self.period.seconds

    @property
    def climbing(self) -> bool:
        """Whether more is let through than the rule says, one by one, until one is refused."""
        return self.climbing_since is not None

    def at_ceiling(self, now: float) -> bool:
        """Whether one more would pass the limit that was told."""
        return self.ceiling is not None and self.taken(now) >= self.ceiling

    def outclimbed(self, now: float) -> bool:
        """Whether a whole window's time went by in a climb: what is refused by no window of ours is none."""
        return self.ceiling is None and self.climbing_since is not None and now >= self.climbing_since + self.per

    def take(self, now: float, *, paused: bool = False) -> None:
        """A submission took a place; if `paused`, as the canary that ended a pause."""
        if now >= self.began + self.per:
            if self.filled() and not paused and now < self.began + 1.5 * self.per:
                self.period.kept()
            self.begin(now)
        self.since_began += 1
        self.since_opened += 1
        self.log.append(now)

    def begin(self, now: float) -> None:
        """A new window begins with the place that is taken now."""
        self.began, self.since_began = now, 0

    def outlasted(self, seconds: float) -> None:
        self.period.outlasted(seconds)
        # What seemed to be over by then is not.
        self.log.extendleft(reversed(self._over.take_back()))

    def filled(self) -> bool:
        """Whether all of its places were taken since the window began."""
        return self.requests is not None and self.since_began >= self.requests - 1

    def taken(self, now: float) -> int:
        self._forget(now)
        return len(self.log) + (len(self.refusals) if self.counts_refusals else 0)

    def taken_before_refusal(self, now: float) -> int:
        """What was taken when the submission came that has just been refused."""
        return self.taken(now) - (self.counts_refusals and bool(self.refusals))

    def attempts(self, now: float) -> int:
        self._forget(now)
        return len(self.log) + len(self.refusals)

    def room(self, now: float, on_wire: int) -> float:
        """How many more may be sent at once; infinite while the limit is not known."""
        return _NEVER if self.requests is None else self.requests - self.taken(now) - on_wire

    def earliest(self, now: float, on_wire: int) -> float:
        """When a place gets free, at the soonest."""
        missing = 1 - self.room(now, on_wire)
        if missing <= 0:
            return now
        places = sorted([*self.log, *self.refusals]) if self.counts_refusals else self.log
        if missing > len(places):
            return _NEVER
        return places[int(missing) - 1] + self.per

    def disputed(self, taken: int, now: float) -> Disputes:
        """A place that should have been free was not."""
        self.disputes.last.append(Dispute(now, taken, self.since_opened))
        return self.disputes

    def oldest(self, now: float) -> float:
        """When the oldest place was taken that is still held, `now` if there is none."""
        self._forget(now)
        return self.log[0] if self.log else now

    def climb(self, now: float) -> None:
        """More was let through than the rule says."""
        if not self.climbing:
            self.climbing_since, self.fallback = now, self.requests
            self.counts_refusals = self.counts_refusals and not self.refusals
        taken, before = self.taken(now), self.fallback
        if before is not None and taken < before - 1:
            # Places got free meanwhile, so it is no climb any more.
            self.requests, self.fallback, self.climbing_since = before, None, None
        else:
            self.requests = taken

    def climbed(self, now: float) -> bool:
        """A climb ended. Whether it found a higher limit.

        Twice the old number at once may just be a fixed window that ended within our burst; only if it is met again
        at the next probe the limit is doubled.
        """
        self.climbing_since = None
        taken, before = max(self.taken_before_refusal(now), 1), self.fallback
        twice = before is not None and abs(taken - 2 * before) <= 1 + before // 20
        self.doubled = self.doubled + 1 if twice else 0
        if self.doubled == 1:
            self.requests, self.fallback = before, None
            return False
        self.requests = taken
        return True

    def become(self, requests: int) -> None:
        """The limit is known to be another one."""
        self.requests = max(requests, 1)
        self.fallback = self.climbing_since = None
        self.counts_refusals = False

    def fall(self, now: float) -> None:
        """Fewer are let through than the rule says: back to before the last climb, or to what was."""
        taken = max(self.taken_before_refusal(now), 1)
        close = self.fallback is not None and self.fallback <= taken * 1.1 + 1
        self.requests = self.fallback if close else max(taken, (self.requests or 1) // 2)
        self.fallback = self.climbing_since = None
        self.counts_refusals = False

    def _forget(self, now: float) -> None:
        if self.period.settled and self._over.count:
            self._over = Past()
        for times, over in ((self.log, self._over), (self.refusals, None)):
            while times and times[0] + self.per <= now + _EPSILON:
                time = times.popleft()
                if over is not None and not self.period.settled:
                    over.add(time)

"""What refusals and passes say of the provider's limits, and how long to wait after a refusal.

A 429 may mean too many requests in a while or too many unfinished tasks; it doesn't say which. `Beliefs` keeps one rule
of each kind and decides, from what had been taken when the refusal came, which of them it speaks of:

- as many places as the window has: the window is full, nothing new;
- as many tasks unfinished as the last times, though tasks ended in between: the quota;
- fewer than after the pause before: a bucket, whose places come back one by one;
- ever fewer: others send with the same key;
- the same, lower number twice: the limit fell.

Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import enum
import math

from attrs import define, field

from wanasync.models import Limits
from wanasync.rules.limits import Bucket, Hints, Probing, Quota
from wanasync.rules.pace_record import PaceRecord, RateKind
from wanasync.rules.window import ASSUMED_WINDOW, LONGEST_WINDOW, Period, Window

__all__ = ["Beliefs", "Pause", "Role"]

SHORT_HINT = 5.0
"""Seconds up to which a hint is waited for without asking whether it is true: it costs little."""
LONGEST_LOOK = 120.0
"""Seconds from one canary to the next, at most, while the provider refuses whatever it said."""
LONGEST_WAIT = 3600.0
"""Seconds without any reply after which one submission goes to look, whatever replies seemed to say so far."""
_NEVER = math.inf


class Role(enum.Enum):
    """Why a submission was let through, which decides what its refusal means."""

    NORMAL = enum.auto()
    CANARY = enum.auto()
    RATE_PROBE = enum.auto()
    PERIOD_PROBE = enum.auto()
    QUOTA_PROBE = enum.auto()


@define
class Pause:
    """The gate is closed until `until`; None until the refusal that closed it has been explained.

    `first` is when the episode's first refusal came, `canaries` how many were refused since; `stragglers` were on
    the wire with it. `canary` is the one submission under way to find out whether the gate can open, `failures` how
    many were refused that had waited as long as they were told to.

    `full`: the window had no place left, as was to be expected; it began at `window_began`. `awaits_task`: the end of
    `awaited` tasks may free a place earlier. `shares_from`: when to go on at an even pace.
    """

    began: float
    sent: float
    role: Role
    first: float
    why: str
    hint: float | None = None
    firm: bool = False
    stragglers: set[int] = field(factory=set)
    canaries: int = 0
    failures: int = 0
    until: float | None = None
    canary: int | None = None
    awaits_task: bool = False
    awaited: int = 1
    tasks: int = 0
    full: bool = False
    shares_from: float | None = None
    probed_period: bool = False
    window_began: float = 0.0

    @property
    def announced(self) -> float:
        """The wait that was asked for, or what the provider's document says."""
        return self.hint if self.hint is not None else ASSUMED_WINDOW

    def goes_on_from(self, earlier: Pause) -> None:
        """This pause follows one whose canary was refused."""
        self.first, self.full, self.probed_period = earlier.first, earlier.full, earlier.probed_period
        self.canaries = earlier.canaries + 1
        # Those that had waited as long as they were told to.
        self.failures = earlier.failures + (self.sent >= earlier.began + earlier.announced)


@define(eq=False)
class Beliefs:
    """The limits as they are believed to be. Of `bucket` and `window` the bucket counts while there is one."""

    kind: RateKind = RateKind.UNKNOWN
    window: Window = field(factory=Window)
    bucket: Bucket | None = None
    quota: Quota = field(factory=Quota)
    rate_probing: Probing = field(
        factory=lambda: Probing(gap=ASSUMED_WINDOW, longest=6 * ASSUMED_WINDOW, shortest=ASSUMED_WINDOW)
    )
    quota_probing: Probing = field(
        factory=lambda: Probing(gap=4 * ASSUMED_WINDOW, longest=64 * ASSUMED_WINDOW, shortest=ASSUMED_WINDOW)
    )
    hints: Hints = field(factory=Hints)
    finished: int = 0
    _opened_early: float | None = None

    def limit(self, limits: Limits) -> None:
        """Take known limits as they are; what they leave open is still found from replies."""
        if limits.requests is not None:
            self.kind = RateKind.WINDOW
            self.bucket = None
            self.window.requests = self.window.ceiling = limits.requests
            self.window.period = Period(limits.per, settled=True)
        if limits.concurrent is not None:
            self.quota.tasks = self.quota.ceiling = limits.concurrent

    # ---- what passes

    def took_place(self, now: float, *, paused: bool) -> None:
        """A submission passed the limiter; `paused` if as the canary."""
        self.window.take(now, paused=paused)
        if self.bucket is not None:
            self.bucket.accepted(now)

    def passed(self, role: Role, tasks: int, now: float) -> None:
        """A submission passed while the gate was open, `tasks` being unfinished with it."""
        if role is Role.RATE_PROBE and self.window.outclimbed(now):
            self._forget_window()
        elif role is Role.RATE_PROBE:
            self.window.climb(now)
        elif role is Role.PERIOD_PROBE:
            self.window.period.ended(now - self.window.began)
            self.window.begin(now)
        elif role is Role.QUOTA_PROBE:
            # Tasks may have ended before the reply was read.
            self.quota.tasks = max(tasks, self.quota.tasks or 1)
            self.quota_probing.at = now

    def _forget_window(self) -> None:
        self.kind, self.window = RateKind.UNKNOWN, Window()

    def confirm_window(self, now: float) -> None:
        """Something passed after a pause: as many as before make it a window."""
        window = self.window
        if self.kind is RateKind.UNKNOWN and window.filled():
            self.kind = RateKind.WINDOW
            self._opened_early = None
            if window.period.verified:
                window.period.kept()
            self.rate_probing.at = now

    def opened(self, pause: Pause, now: float) -> None:
        """The canary passed."""
        self.window.since_opened = 1
        if self.bucket is not None:
            self.bucket.proven = True
        elif pause.full and pause.window_began > -_NEVER:
            self._window_ended(pause, now)
        self.hints.episode_over()

    def _window_ended(self, pause: Pause, now: float) -> None:
        window, lasted = self.window, now - pause.window_began
        exact = pause.hint is not None and (pause.firm or self.hints.true(pause.hint) is not None)
        # A header's whole seconds say nothing of a window that is hardly longer than that.
        if exact and lasted > SHORT_HINT:
            # It was waited for just so long: the window was no shorter.
            window.outlasted(0.85 * lasted)
            if self.kind is RateKind.WINDOW:
                window.period.measured(lasted)
            window.period.ended(lasted)
        else:
            window.period.ended(lasted)
            if window.per > ASSUMED_WINDOW:
                # It may have been an outage.
                window.period.low = min(window.period.low, 0.95 * ASSUMED_WINDOW)
        if self.kind is RateKind.UNKNOWN and lasted < ASSUMED_WINDOW:
            self._opened_early = pause.began
        window.begin(now)
        window.since_began = 1

    # ---- what a refusal means

    def explain(self, pause: Pause, tasks: int, now: float) -> None:
        """Learn from the refusal that began the pause, `tasks` being unfinished, and set how long it is."""
        pause.tasks = tasks
        if pause.role is not Role.CANARY:
            self.quota.refused(tasks, self.finished)
        if pause.role is Role.QUOTA_PROBE:
            self._meet_quota(now)
        elif pause.role is Role.PERIOD_PROBE:
            self.window.outlasted(pause.sent - pause.window_began)
            pause.full = pause.probed_period = True
        elif pause.role is Role.RATE_PROBE:
            self._probe_refused(now)
        elif self.bucket is not None:
            self._bucket_refused(self.bucket, pause, now)
        elif pause.role is Role.CANARY:
            self._canary_refused(pause, now)
        else:
            self._limit_met(pause, now)
        if self.quota.tasks is not None and tasks >= self.quota.tasks:
            pause.awaits_task = True
        pause.awaited = 1 + tasks // 50
        longest = max(LONGEST_WAIT, self.window.per) if self.window.at_ceiling(now) else LONGEST_WAIT
        pause.until = min(self._until(pause, now), now + longest)

    def _bucket_refused(self, bucket: Bucket, pause: Pause, now: float) -> None:
        if pause.role is not Role.CANARY and not bucket.fits(now) and self.quota.repeats(2):
            self.bucket = None
            self.kind = RateKind.UNKNOWN
            self._meet_quota(now)
        elif pause.role is Role.CANARY and pause.canaries >= (3 if bucket.proven else 2):
            # Nothing came back in the time in which a bucket would have filled.
            self.bucket = None
            self.kind = RateKind.UNKNOWN if bucket.proven else RateKind.WINDOW
            self.window.requests = max(bucket.fallback, self.window.taken(now))
            self.rate_probing.changed(now)
        else:
            bucket.emptied(now)

    def _probe_refused(self, now: float) -> None:
        window, probing = self.window, self.rate_probing
        if window.climbing:
            before = window.fallback or 1
            if not window.climbed(now):
                probing.at = now + window.per / 2
                return
            if abs((window.requests or 1) - before) > 1 + before // 20:
                probing.changed(now)
                return
        window.doubled = 0
        probing.refused(now - window.per / 2)

    def _canary_refused(self, pause: Pause, now: float) -> None:
        window, quota, tasks = self.window, self.quota, pause.tasks
        if pause.full:
            window.outlasted(pause.sent - pause.window_began)
        pause.awaits_task = self.kind is RateKind.UNKNOWN and pause.canaries < 2
        if window.requests is None or window.taken_before_refusal(now) >= window.requests:
            return
        if quota.tasks is not None and tasks < quota.tasks and quota.ceiling is None:
            self._quota_doubted(pause, tasks, now)
        elif window.attempts(now) * 2 >= window.requests:
            if self.kind is RateKind.WINDOW:
                window.fall(now)
        elif quota.suspected(tasks, now):
            # Refused with an empty window: it is not the rate.
            self._meet_quota(now)

    def _quota_doubted(self, pause: Pause, tasks: int, now: float) -> None:
        if pause.canaries <= 2:
            # Our number may be over the provider's: tasks that ended and were not looked at yet.
            self.quota.tasks = max(tasks, 1)
            return
        self.quota.rule_out(now)
        self.window.fall(now)

    def _limit_met(self, pause: Pause, now: float) -> None:
        window = self.window
        taken, opened_early = window.taken_before_refusal(now), self._opened_early
        self._opened_early = None
        if window.requests is not None and taken >= window.requests:
            pause.full = True
            return
        if not window.period.settled and window.filled() and not self.quota.repeats(2):
            # All places were taken since the window began, and it has not ended yet.
            window.outlasted(pause.sent - pause.window_began)
            self.kind = RateKind.WINDOW
            pause.full = True
            return
        if self.quota.ceiling is None and self.quota.recedes():
            self.quota.rule_out(now)
        if self.kind is RateKind.WINDOW and window.period.settled and self._settled_window_disputed(pause, taken, now):
            return
        self._guess(pause, taken, opened_early, now)

    def _settled_window_disputed(self, pause: Pause, taken: int, now: float) -> bool:
        """Refused though the window has a place. Whether earlier such refusals tell why."""
        window, told = self.window, self.window.ceiling is not None
        if not told and window.per < ASSUMED_WINDOW and window.disputes.many(now - ASSUMED_WINDOW):
            # So many that what seemed to be a short window is none.
            self._forget_window()
            return True
        disputes = window.disputed(taken, now)
        if disputes.same_since_opened() or disputes.same_taken():
            window.become(window.since_opened if disputes.same_since_opened() else taken)
            self.rate_probing.changed(now)
            pause.full = True
            return True
        if not told and disputes.go_on(now - 5 * window.per):
            self._share(pause, now)
            return True
        return False

    def _guess(self, pause: Pause, taken: int, opened_early: float | None, now: float) -> None:
        window, quota, tasks = self.window, self.quota, pause.tasks
        if quota.tasks is not None and tasks >= quota.tasks - quota.tolerance(quota.tasks):
            self._meet_quota(now)
        elif window.requests is None:
            # Refused before anything was accepted: others have used the limit up, which tells nothing of its size.
            window.requests = taken or None
            pause.full = bool(taken)
            pause.awaits_task = True
        elif window.fallback is not None and abs(taken - window.fallback) <= 1 + window.fallback // 20:
            window.fall(now)
        elif opened_early is not None and not quota.repeats(2):
            self._become_bucket(opened_early, window.since_began, now)
        elif window.attempts(now) - 1 >= window.requests and taken * 2 >= window.requests:
            window.counts_refusals = True
        elif quota.suspected(tasks, now, spare=quota.tolerance(tasks) if taken * 2 < window.requests else 0):
            self._meet_quota(now)
        else:
            window.fall(now)
            self.rate_probing.changed(now)

    def _share(self, pause: Pause, now: float) -> None:
        """Others send with the same key: what they take varies, and what we send at once they don't get.

        So from now on we send evenly, at first at half the pace to leave them what they want.
        """
        window = self.window
        requests = window.requests or 1
        pause.shares_from = since = window.oldest(now) + window.per
        self.kind = RateKind.BUCKET
        self.quota.rule_out(now)
        self.bucket = Bucket(
            rate=max(requests / 2, 1) / window.per,
            burst=1.0,
            fallback=max(requests // 2, 1),
            anchor=since,
            taken=0,
            empty_at=since,
            at=since,
            steady=window.per,
            doubt=0.0,
            raised=True,
        )
        window.requests, window.counts_refusals = None, False

    def _meet_quota(self, now: float) -> None:
        tasks = max(self.quota.least_met(), 1)
        self.quota.tasks = min(tasks, self.quota.ceiling or tasks)
        self.quota_probing.refused(now)
        first = self.window.requests
        if self.kind is RateKind.UNKNOWN and first is not None and abs(first - tasks) <= self.quota.tolerance(tasks):
            # What was taken for a full window was the quota.
            self.window.requests = None

    def _become_bucket(self, since: float, taken: int, now: float) -> None:
        self.kind = RateKind.BUCKET
        self.bucket = Bucket(
            rate=max(taken, 1) / max(now - since, 0.1),
            burst=float(self.window.requests or 1),
            fallback=max(taken, 1),
            anchor=since,
            taken=taken,
            empty_at=now,
            at=now,
        )
        self.window.requests = None

    # ---- how long

    def _until(self, pause: Pause, now: float) -> float:
        until = max(self._wait_over(pause, now), self._backed_off(pause))
        if pause.hint is not None and pause.firm:
            return max(pause.began + pause.hint * self._doubling(pause), until if self._is_full(pause, now) else 0.0)
        return until

    def _is_full(self, pause: Pause, now: float) -> bool:
        """Whether our own rule says when the next place gets free."""
        window = self.window
        if self.kind is not RateKind.WINDOW or not window.period.settled or pause.awaits_task:
            return False
        return not pause.canaries or window.room(now, 0) <= 0

    def _wait_over(self, pause: Pause, now: float) -> float:
        if pause.shares_from is not None:
            return pause.shares_from
        window, true, is_full = self.window, self.hints.true(pause.hint), self._is_full(pause, now)
        if is_full and (window.counts_refusals or pause.role in (Role.RATE_PROBE, Role.CANARY)):
            return max(window.earliest(now, 0), now + 0.25)
        if pause.hint is not None and pause.hint <= SHORT_HINT:
            return pause.began + (true or pause.hint) * self._doubling(pause)
        if self.bucket is not None:
            refilled = max(1 / self.bucket.rate, 0.25) * 2.0 ** min(pause.canaries, 6)
            return pause.began + min(refilled, 8 * pause.announced)
        if is_full and (pause.full or true is None):
            return max(window.earliest(now, 0), now + 0.25)
        if pause.probed_period:
            return self._period_probed(pause, now)
        if true is not None:
            return pause.began + true * self._doubling(pause)
        if self.quota.tasks is not None and pause.awaits_task:
            return pause.began + pause.announced * self._doubling(pause)
        return self._scheduled(pause, now)

    def _period_probed(self, pause: Pause, now: float) -> float:
        """The next length to try, or the one that is believed in."""
        at, shorter = self.window.earliest(now, 0), self.window.period.shorter()
        return max(at if shorter is None else min(at, pause.window_began + shorter), now + 0.5)

    def _backed_off(self, pause: Pause) -> float:
        """The soonest for another canary after several that failed, whatever speaks for an earlier one: an outage."""
        return pause.began + min(2.0 ** (pause.canaries - 5), LONGEST_LOOK) if pause.canaries > 4 else pause.began

    def _doubling(self, pause: Pause) -> float:
        # The hint itself may be a trifle short, so only a second failure in a row doubts it.
        return 2.0 ** min(max(pause.failures - 1, 0), 3)

    def _scheduled(self, pause: Pause, now: float) -> float:
        """When the hint can't be trusted: early looks that get rarer, then the hint, then ever longer waits."""
        announced = pause.announced
        looks = [1.5, announced / 5, announced / 2, announced]
        if pause.canaries < len(looks):
            wait = max(pause.first + looks[pause.canaries], now + 0.5)
        else:
            wait = now + min(now - pause.first, LONGEST_LOOK)
        expected = self.window.earliest(now, 0)
        return expected if pause.full and self.kind is RateKind.WINDOW and now + 0.5 < expected < wait else wait

    # ---- keeping

    def learned(self, at: float) -> PaceRecord:
        """What is known by now; `at` is unix seconds."""
        bucket = self.bucket
        return PaceRecord(
            kind=self.kind,
            requests=self.window.requests,
            per=self.window.per,
            rate=bucket.rate if bucket else None,
            burst=max(int(bucket.burst), 1) if bucket else None,
            concurrent=self.quota.tasks,
            at=at,
        )

    def start_from(self, record: PaceRecord, now: float) -> None:
        """Believe an earlier run."""
        self.kind = record.kind
        self.window.period = Period(min(record.per, LONGEST_WINDOW), settled=record.kind is RateKind.WINDOW)
        if record.kind is RateKind.WINDOW:
            self.window.requests = record.requests
        if record.kind is RateKind.BUCKET and record.rate is not None:
            self.bucket = Bucket(
                rate=record.rate,
                burst=record.burst or 1,
                fallback=record.burst or 1,
                anchor=now,
                taken=0,
                empty_at=now,
                at=now,
                proven=True,
            )
        if self.quota.ceiling is None:
            self.quota.tasks = record.concurrent

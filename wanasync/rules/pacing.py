"""When may the next submission go? A state machine that finds the provider's limits from its replies alone.

The provider publishes no numbers; a 429 may mean too many requests in a while or too many unfinished tasks. Three
rules are kept side by side, and the strictest decides:

- `Window`: at most Q submissions in any W seconds. Each place is held from the send until W after its *reply*, so
  the rule holds for sliding windows and for fixed ones of any phase without learning the phase.
- `Bucket`: a rate with a burst, once a refusal shows that places come back one by one and not all at once.
- `Quota`: at most C unfinished tasks.

A refusal closes the gate for everybody (`Pause`). It is explained only when the replies of everything that was on the
wire with it are in, so that the counts are exact; those late replies teach nothing else. Then one submission, the
canary, finds out whether the provider accepts again; nothing else goes until it is answered. Raised limits are
found by probes: one submission more than the rule allows, at the end of a full window, where the pause that it may
earn is waited for anyway.

Nothing here does I/O or reads a clock: `now` (seconds, any monotonic base) and the random numbers are passed in.
"""

from __future__ import annotations

import enum
import itertools
import json
import math
import random
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from wanasync.models import GateStatistics, Limits
from wanasync.rules.limits import ASSUMED_WINDOW, Bucket, Hints, Period, Probing, Quota, Window

__all__ = ["PaceRecord", "Pacer", "RateKind"]

STRAGGLERS_PATIENCE = 5.0
"""Seconds until a refusal is explained without the replies that are still missing."""
LOST_AFTER = 600.0
"""Seconds after which a submission on the wire is taken for lost by its caller."""
SHORT_HINT = 5.0
"""Seconds up to which a hint is waited for without asking whether it is true: it costs little."""
TASK_LIFETIME = 7200.0
"""Seconds after which a task whose end nobody told us no longer fills a place of the quota."""
LONGEST_LOOK = 120.0
"""Seconds from one canary to the next, at most, while the provider refuses whatever it said."""
_NEVER = math.inf


class RateKind(enum.StrEnum):
    """What kind of rate limit the replies have shown so far."""

    UNKNOWN = "unknown"
    WINDOW = "window"
    BUCKET = "bucket"


class Role(enum.Enum):
    """Why a submission was let through, which decides what its refusal means."""

    NORMAL = enum.auto()
    CANARY = enum.auto()
    RATE_PROBE = enum.auto()
    PERIOD_PROBE = enum.auto()
    QUOTA_PROBE = enum.auto()


@frozen
class PaceRecord:
    """What was learned, for the next run. `at` is unix seconds; `rate` is per second; None is not known."""

    kind: RateKind = RateKind.UNKNOWN
    requests: int | None = None
    per: float = ASSUMED_WINDOW
    rate: float | None = None
    burst: int | None = None
    concurrent: int | None = None
    at: float = 0.0

    VERSION = 1

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; `from_dict` reads it."""
        return {
            "version": self.VERSION,
            "kind": self.kind.value,
            "requests": self.requests,
            "per": self.per,
            "rate": self.rate,
            "burst": self.burst,
            "concurrent": self.concurrent,
            "at": self.at,
        }

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> PaceRecord | None:
        """None for anything but a sound record, see `from_dict`."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError):
            return None

    @classmethod
    def from_dict(cls, content: object) -> PaceRecord | None:
        """None for anything but a sound record of this version: a damaged cache costs some refusals, no more."""
        if not isinstance(content, Mapping) or content.get("version") != cls.VERSION:
            return None
        try:
            kind = RateKind(str(content.get("kind")))
        except ValueError:
            return None
        counts = [content.get(name) for name in ("requests", "burst", "concurrent")]
        figures = [content.get("per"), content.get("at")]
        rate = content.get("rate")
        sound = (
            all(count is None or _is_count(count) for count in counts)
            and all(_is_positive(figure) for figure in figures)
            and (rate is None or _is_positive(rate))
            and (kind is not RateKind.WINDOW or counts[0] is not None)
            and (kind is not RateKind.BUCKET or (rate is not None and counts[1] is not None))
        )
        if not sound:
            return None
        return cls(kind, counts[0], content["per"], rate, counts[1], counts[2], content["at"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


@define
class Pause:
    """The gate is closed until `until`; None until the refusal that closed it has been explained.

    `first` is when the episode's first refusal came, `canaries` how many were refused since; `stragglers` were on
    the wire with it. `canary` is the one submission under way to find out whether the gate can open.
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
    full: bool = False
    shares_from: float | None = None
    probed_period: bool = False
    window_began: float = 0.0

    @property
    def announced(self) -> float:
        """The wait that was asked for, or what the provider's document says."""
        return self.hint if self.hint is not None else ASSUMED_WINDOW

    def failures_after(self, sent: float) -> int:
        """How many canaries failed that had waited as long as they were told to, with this one."""
        return self.failures + (sent >= self.began + self.announced)


@frozen
class Sent:
    """A submission on the wire; `pauses` is how many there had been when it left."""

    at: float
    role: Role
    pauses: int


@frozen
class Permit:
    """When a submission may go, in which role, and the sentence that tells why not now."""

    at: float
    role: Role = Role.NORMAL
    why: str = ""


class Pacer:
    """Decides who may go when, for one provider and key. Not thread-safe; see `wanasync.engine.gate` for the shell.

    Each submission is a number from `send` that is given back exactly once: `accepted`, `throttled`, `refused`,
    `unknown` or `never_sent`. Known `limits` are never exceeded nor probed, but refusals are obeyed all the same.
    `most_on_wire` bounds the submissions that await their reply at once.
    """

    def __init__(self, *, rng: random.Random, limits: Limits | None = None, most_on_wire: int = 32) -> None:
        self._rng = rng
        self._most_on_wire = most_on_wire
        self._numbers = itertools.count(1)
        self._wire: dict[int, Sent] = {}
        self._tasks: dict[str, float] = {}
        self._finished_early: set[str] = set()
        self._kind = RateKind.UNKNOWN
        self._window = Window()
        self._bucket: Bucket | None = None
        self._quota = Quota()
        self._rate_probing = Probing(gap=ASSUMED_WINDOW, longest=6 * ASSUMED_WINDOW, shortest=ASSUMED_WINDOW)
        self._quota_probing = Probing(gap=4 * ASSUMED_WINDOW, longest=64 * ASSUMED_WINDOW, shortest=ASSUMED_WINDOW)
        self._hints = Hints()
        self._pause: Pause | None = None
        self._opened_early: float | None = None
        self._last_reply = -_NEVER
        self._run_of_accepted = 0
        self._not_sent_in_a_row = 0
        self._finished = 0
        self._submitted = self._accepted = self._throttled = self._pauses = 0
        if limits is not None:
            self.limit(limits)

    # ---- what the shell asks

    def earliest(self, now: float) -> float:
        """When a submission may go, `now` or earlier being at once. Replies and ended tasks may make it sooner.

        Never infinite: what holds everybody up is forgotten in the end.
        """
        permit = self._permit(now)
        return permit.at if permit.at < _NEVER else self._forgotten_at()

    def send(self, now: float) -> int:
        """Let one submission through; only after `earliest(now) <= now`."""
        permit = self._permit(now)
        if permit.at > now:
            raise RuntimeError("a submission was let through before its time")
        if not self._wire:
            self._finished_early.clear()
        number = next(self._numbers)
        self._wire[number] = Sent(now, permit.role, self._pauses)
        self._submitted += 1
        if self._pause is not None:
            self._pause.canary = number
        if self._bucket is not None:
            self._bucket.take(now)
        return number

    # ---- what the shell tells

    def accepted(self, number: int, now: float, task_id: str) -> None:
        """The provider made a task of it."""
        sent = self._answered(number, now)
        self._accepted += 1
        self._run_of_accepted += 1
        self._take_place(now)
        if task_id in self._finished_early:
            self._finished_early.discard(task_id)
        else:
            self._tasks[task_id] = now
        if sent is not None:
            self._passed(number, sent, now)
        self._quota.reached(len(self._tasks), now)
        self._explain_if_due(now)

    def throttled(self, number: int, now: float, hint: float | None = None, *, firm: bool = False) -> None:
        """It was put off (429, documented 503): nothing was made. `hint` is the wait that was asked for.

        A `firm` hint came in a header and is waited for whatever else is known; one from the text may be a fixed
        phrase, so once replies have shown that it is, a canary goes sooner.
        """
        sent = self._answered(number, now)
        self._throttled += 1
        self._window.refusals.append(now)
        if self._bucket is not None:
            self._bucket.give_back(now)
        if sent is not None and sent.pauses == self._pauses:
            self._close(number, sent, now, hint, firm)
        self._explain_if_due(now)

    def refused(self, number: int, now: float) -> None:
        """It was refused for good (400, 402, …). It passed the limiter, so it took a place and the gate may open."""
        sent = self._answered(number, now)
        self._take_place(now)
        if sent is not None:
            self._passed(number, sent, now)
        self._explain_if_due(now)

    def unknown(self, number: int, now: float) -> None:
        """Its reply was lost. It may have taken a place; as a canary it has told nothing, so another goes later."""
        self._answered(number, now)
        self._take_place(now)
        self._canary_lost(number, now, self._short_wait(1.0))
        self._explain_if_due(now)

    def never_sent(self, number: int, now: float, *, failed: bool = True) -> None:
        """It did not leave. `failed`: because the provider was not reached, as opposed to a caller who gave up."""
        self._answered(number, now)
        if self._bucket is not None:
            self._bucket.give_back(now)
        wait = 0.0
        if failed:
            self._not_sent_in_a_row += 1
            wait = self._short_wait(min(0.5 * 2.0**self._not_sent_in_a_row, 60.0))
        self._canary_lost(number, now, wait)
        if self._not_sent_in_a_row >= 3 and self._pause is None:
            self._pause = Pause(now, now, Role.NORMAL, now, "the provider was not reached", until=now + wait)
        self._explain_if_due(now)

    def finished(self, task_id: str, now: float) -> None:
        """A task ended, so its place in the quota is free. May come before the reply to its submission was read."""
        if self._tasks.pop(task_id, None) is None:
            if self._wire:
                self._finished_early.add(task_id)
            return
        self._finished += 1
        pause = self._pause
        if pause is None or pause.canary is not None or pause.until is None:
            return
        if pause.awaits_task and not pause.firm:
            pause.awaited -= 1
            quota = self._quota.tasks
            if pause.awaited <= 0 and (quota is None or len(self._tasks) < quota):
                pause.until = min(now, pause.until)

    def track(self, task_id: str, now: float) -> None:
        """A task of an earlier run that is still unfinished."""
        self._tasks[task_id] = now

    def limit(self, limits: Limits) -> None:
        """Take known limits as they are; what they leave open is still found from replies."""
        if limits.requests is not None:
            self._kind = RateKind.WINDOW
            self._bucket = None
            self._window.requests = self._window.ceiling = limits.requests
            self._window.period = Period(limits.per, settled=True)
        if limits.concurrent is not None:
            self._quota.tasks = self._quota.ceiling = limits.concurrent

    # ---- who may go

    def _permit(self, now: float) -> Permit:
        self._forget(now)
        self._explain_if_due(now)
        if self._pause is not None:
            return self._canary_permit(self._pause, now)
        if len(self._wire) >= self._wire_limit(now):
            return Permit(_NEVER, why=f"{len(self._wire)} submissions await their replies")
        rate, quota = self._rate_permit(now), self._quota_permit(now)
        if rate.at == quota.at:
            return quota if rate.role is Role.NORMAL else rate
        return rate if rate.at > quota.at else quota

    def _canary_permit(self, pause: Pause, now: float) -> Permit:
        if pause.canary is not None:
            return Permit(_NEVER, Role.CANARY, "one submission is finding out whether the provider accepts again")
        if pause.until is None:
            return Permit(pause.began + STRAGGLERS_PATIENCE, Role.CANARY, pause.why)
        return Permit(max(pause.until, now) if pause.until > now else now, Role.CANARY, pause.why)

    def _wire_limit(self, now: float) -> int:
        if self._window.climbing:
            return 1
        safe, limit = 0, self._window.requests
        if limit is not None:
            safe = limit - self._window.attempts(now) - len(self._wire)
            if safe <= 1:
                # Near the edge one at a time: if the limit fell, or counts refusals, only one is refused.
                return 1
        return min(2 + max(self._run_of_accepted // 16, safe // 8), self._most_on_wire)

    def _rate_permit(self, now: float) -> Permit:
        if self._bucket is not None:
            return Permit(
                self._bucket.earliest(now), why=f"the pace is {self._bucket.pace(now):.3g} submissions a second"
            )
        at = self._window.earliest(now, len(self._wire))
        if at <= now:
            return Permit(now)
        if (early := self._period_probe()) is not None and early < at:
            return Permit(max(early, now), Role.PERIOD_PROBE, "the window is full")
        if self._may_probe_rate(now):
            rested = self._last_reply + self._rest()
            if rested <= at:
                return Permit(max(rested, now), Role.RATE_PROBE, "the window is full")
        return Permit(at, why=f"{self._window.requests} submissions in {self._window.per:g} s are let through")

    def _period_probe(self) -> float | None:
        window = self._window
        if self._wire or self._kind is not RateKind.WINDOW or window.climbing or not window.filled():
            return None
        shorter = window.period.shorter()
        return None if shorter is None else window.began + shorter

    def _may_probe_rate(self, now: float) -> bool:
        window = self._window
        if self._wire or window.requests is None or self._kind is RateKind.UNKNOWN or not window.period.settled:
            return False
        if window.ceiling is not None and window.requests >= window.ceiling:
            return False
        return window.climbing or now >= self._rate_probing.at

    def _rest(self) -> float:
        # A bucket has filled a little by then, a window has not: tells the two apart at the cost of one refusal.
        return 0.0 if self._window.climbing else self._window.per / 30

    def _quota_permit(self, now: float) -> Permit:
        quota = self._quota.tasks
        if quota is None or len(self._tasks) + len(self._wire) < quota:
            return Permit(now)
        why = f"{len(self._tasks)} unfinished tasks fill the provider's quota"
        if self._wire or (self._quota.ceiling is not None and quota >= self._quota.ceiling):
            return Permit(_NEVER, why=why)
        return Permit(max(self._quota_probing.at, now), Role.QUOTA_PROBE, why)

    # ---- what replies mean

    def _answered(self, number: int, now: float) -> Sent | None:
        sent = self._wire.pop(number, None)
        self._last_reply = now
        if self._pause is not None:
            self._pause.stragglers.discard(number)
        return sent

    def _take_place(self, now: float) -> None:
        self._not_sent_in_a_row = 0
        self._window.take(now, paused=self._pause is not None)
        if self._bucket is not None:
            self._bucket.accepted(now)

    def _passed(self, number: int, sent: Sent, now: float) -> None:
        if self._pause is not None and self._pause.canary == number:
            self._open(self._pause, now)
        elif sent.role is Role.RATE_PROBE:
            self._window.climb(now)
        elif sent.role is Role.PERIOD_PROBE:
            self._window.period.ended(now - self._window.began)
            self._window.begin(now)
        elif sent.role is Role.QUOTA_PROBE:
            self._quota.tasks = len(self._tasks)
            self._quota_probing.at = now
        elif self._kind is RateKind.UNKNOWN and self._pauses:
            self._confirm_window(now)

    def _confirm_window(self, now: float) -> None:
        window = self._window
        if window.filled():
            self._kind = RateKind.WINDOW
            self._opened_early = None
            if window.period.verified:
                window.period.kept()
            self._rate_probing.at = now

    def _open(self, pause: Pause, now: float) -> None:
        self._pause = None
        self._window.since_opened = 1
        trusted = pause.hint is not None and (pause.firm or self._hints.true(pause.hint) is not None)
        self._hints.episode_over()
        if self._bucket is not None:
            self._bucket.proven = True
        window = self._window
        if pause.full and self._bucket is None and pause.window_began > -_NEVER:
            lasted = now - pause.window_began
            if trusted:
                window.outlasted(0.85 * lasted)
                if self._kind is RateKind.WINDOW:
                    window.period.measured(lasted)
            window.period.ended(lasted)
            if not trusted and window.per > ASSUMED_WINDOW:
                # It may have been an outage.
                window.period.low = min(window.period.low, 0.95 * ASSUMED_WINDOW)
            if self._kind is RateKind.UNKNOWN and lasted < ASSUMED_WINDOW:
                self._opened_early = pause.began
            window.begin(now)
            window.since_began = 1

    def _close(self, number: int, sent: Sent, now: float, hint: float | None, firm: bool) -> None:
        earlier = self._pause
        failed_canary = earlier is not None and earlier.canary == number
        self._hints.heard(hint, now)
        self._pauses += 1
        self._pause = Pause(
            began=now,
            sent=sent.at,
            role=sent.role,
            first=earlier.first if earlier is not None and failed_canary else now,
            why=_why_paused(hint),
            hint=hint,
            firm=firm,
            stragglers=set(self._wire),
            canaries=earlier.canaries + 1 if earlier is not None and failed_canary else 0,
            failures=earlier.failures_after(sent.at) if earlier is not None and failed_canary else 0,
            window_began=self._window.began,
            probed_period=sent.role is Role.PERIOD_PROBE
            or (failed_canary and earlier is not None and earlier.probed_period),
            full=earlier.full if earlier is not None and failed_canary else False,
        )

    def _canary_lost(self, number: int, now: float, wait: float) -> None:
        if self._pause is not None and self._pause.canary == number:
            self._pause.canary = None
            self._pause.until = now + wait

    def _short_wait(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.5, 1.0)

    # ---- what a refusal means

    def _explain_if_due(self, now: float) -> None:
        pause = self._pause
        if pause is None or pause.until is not None:
            return
        if pause.stragglers and now < pause.began + STRAGGLERS_PATIENCE:
            return
        self._explain(pause, now)
        self._run_of_accepted = 0
        pause.until = self._until(pause, now)

    def _explain(self, pause: Pause, now: float) -> None:
        tasks = len(self._tasks)
        if pause.role is not Role.CANARY:
            self._quota.refused(tasks, self._finished)
        if pause.role is Role.QUOTA_PROBE:
            self._meet_quota(now)
        elif pause.role is Role.PERIOD_PROBE:
            self._window.outlasted(pause.sent - pause.window_began)
            pause.full = True
        elif pause.role is Role.RATE_PROBE:
            self._probe_refused(now)
        elif self._bucket is not None:
            self._bucket_refused(self._bucket, pause, now)
        elif pause.role is Role.CANARY:
            self._canary_refused(pause, now)
        else:
            self._limit_met(pause, now)
        if self._quota.tasks is not None and tasks >= self._quota.tasks:
            pause.awaits_task = True
        pause.awaited = 1 + tasks // 50

    def _bucket_refused(self, bucket: Bucket, pause: Pause, now: float) -> None:
        if pause.role is not Role.CANARY and not bucket.fits(now) and self._quota.repeats(2):
            self._bucket = None
            self._kind = RateKind.UNKNOWN
            self._meet_quota(now)
        elif pause.role is Role.CANARY and pause.canaries >= (3 if bucket.proven else 2):
            # Nothing came back in the time in which a bucket would have filled.
            self._bucket = None
            self._kind = RateKind.UNKNOWN if bucket.proven else RateKind.WINDOW
            self._window.requests = max(bucket.fallback, self._window.taken(now))
            self._rate_probing.changed(now)
        else:
            bucket.emptied(now)

    def _probe_refused(self, now: float) -> None:
        window, probing = self._window, self._rate_probing
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
        window, quota, tasks = self._window, self._quota, len(self._tasks)
        if pause.full:
            window.outlasted(pause.sent - pause.window_began)
        pause.awaits_task = self._kind is RateKind.UNKNOWN and pause.canaries < 2
        if window.requests is None or window.taken_before_refusal(now) >= window.requests:
            return
        if quota.tasks is not None and tasks < quota.tasks and quota.ceiling is None:
            self._quota_doubted(pause, tasks, now)
        elif window.attempts(now) * 2 >= window.requests:
            if self._kind is RateKind.WINDOW:
                window.fall(now)
        elif quota.suspected(tasks, now):
            # Refused with an empty window: it is not the rate.
            self._meet_quota(now)

    def _quota_doubted(self, pause: Pause, tasks: int, now: float) -> None:
        if pause.canaries <= 2:
            # Our number may be over the provider's: tasks that ended and were not looked at yet.
            self._quota.tasks = max(tasks, 1)
            return
        self._quota.rule_out(now)
        self._window.fall(now)

    def _limit_met(self, pause: Pause, now: float) -> None:
        window, quota, tasks = self._window, self._quota, len(self._tasks)
        taken, opened_early = window.taken_before_refusal(now), self._opened_early
        self._opened_early = None
        if window.requests is not None and taken >= window.requests:
            pause.full = True
            return
        if not window.period.settled and window.filled() and not quota.repeats(2):
            # All places were taken since the window began, and it has not ended yet.
            window.outlasted(pause.sent - pause.window_began)
            self._kind = RateKind.WINDOW
            pause.full = True
            return
        if quota.ceiling is None and quota.recedes():
            quota.rule_out(now)
        if self._kind is RateKind.WINDOW and window.period.settled:
            if window.ceiling is None and window.per < ASSUMED_WINDOW and window.disputes.many(now - ASSUMED_WINDOW):
                self._unlearn()
                return
            disputes = window.disputed(taken, now)
            if disputes.same_since_opened() or disputes.same_taken():
                requests = window.since_opened if disputes.same_since_opened() else taken
                window.requests, window.fallback, window.counts_refusals = max(requests, 1), None, False
                self._rate_probing.changed(now)
                pause.full = True
                return
            if window.ceiling is None and disputes.go_on(now - 5 * window.per):
                self._share(pause, now)
                return
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
        elif quota.suspected(tasks, now):
            self._meet_quota(now)
        else:
            window.fall(now)
            self._rate_probing.changed(now)

    def _unlearn(self) -> None:
        """So many refusals can't be explained that what seemed to be a short window is none."""
        self._kind = RateKind.UNKNOWN
        self._window = Window()

    def _share(self, pause: Pause, now: float) -> None:
        """Others send with the same key: what they take varies, and what we send at once they don't get.

        So from now on we send evenly, for a window at half the pace to leave them what they want.
        """
        window = self._window
        requests, pause.full = window.requests or 1, False
        pause.shares_from = since = window.oldest(now) + window.per
        rate = max(requests / window.per / 2, 1 / window.per)
        self._kind = RateKind.BUCKET
        self._quota.rule_out(now)
        self._bucket = Bucket(
            rate,
            1.0,
            max(requests // 2, 1),
            since,
            0,
            empty_at=since,
            at=since,
            steady=window.per,
            doubt=0.0,
            raised=True,
        )
        window.requests, window.counts_refusals = None, False

    def _meet_quota(self, now: float) -> None:
        tasks = max(self._quota.least_met(), 1)
        self._quota.tasks = min(tasks, self._quota.ceiling or tasks)
        self._quota_probing.refused(now)
        first = self._window.requests
        if self._kind is RateKind.UNKNOWN and first is not None and abs(first - tasks) <= self._quota.tolerance(tasks):
            # What was taken for a full window was the quota.
            self._window.requests = None

    def _become_bucket(self, since: float, taken: int, now: float) -> None:
        self._kind = RateKind.BUCKET
        burst = float(self._window.requests or 1)
        rate = max(taken, 1) / max(now - since, 0.1)
        self._bucket = Bucket(rate, burst, max(taken, 1), since, taken, empty_at=now, at=now)
        self._window.requests = None

    # ---- how long

    def _until(self, pause: Pause, now: float) -> float:
        until = max(self._wait_over(pause, now), self._backed_off(pause))
        if pause.hint is not None and pause.firm:
            return max(pause.began + pause.hint * self._doubling(pause), until if self._is_full(pause, now) else 0.0)
        return until

    def _is_full(self, pause: Pause, now: float) -> bool:
        """Whether our own rule says when the next place gets free."""
        window = self._window
        if self._kind is not RateKind.WINDOW or not window.period.settled or pause.awaits_task:
            return False
        return not pause.canaries or window.room(now, 0) <= 0

    def _wait_over(self, pause: Pause, now: float) -> float:
        if pause.shares_from is not None:
            return pause.shares_from
        window, true, hint = self._window, self._hints.true(pause.hint), pause.hint
        if (window.counts_refusals or pause.role in (Role.RATE_PROBE, Role.CANARY)) and self._is_full(pause, now):
            return max(window.earliest(now, 0), now + 0.25)
        if hint is not None and hint <= SHORT_HINT:
            return pause.began + (true or hint) * self._doubling(pause)
        if self._bucket is not None:
            return pause.began + min(
                max(1 / self._bucket.rate, 0.25) * 2.0 ** min(pause.canaries, 6), 8 * pause.announced
            )
        if self._is_full(pause, now) and (pause.full or true is None):
            return max(window.earliest(now, 0), now + 0.25)
        if pause.probed_period:
            shorter, at = window.period.shorter(), window.earliest(now, 0)
            return max(at if shorter is None else min(at, pause.window_began + shorter), now + 0.5)
        if true is not None:
            return pause.began + true * self._doubling(pause)
        if self._quota.tasks is not None and pause.awaits_task:
            return pause.began + pause.announced * self._doubling(pause)
        return self._scheduled(pause, now)

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
        expected = self._window.earliest(now, 0)
        return expected if pause.full and self._kind is RateKind.WINDOW and now + 0.5 < expected < wait else wait

    # ---- keeping

    def _forget(self, now: float) -> None:
        """What a caller lost track of must not hold the others up for ever."""
        while self._wire and now >= self._wire_lost_at():
            self.unknown(next(iter(self._wire)), now)
        while self._tasks and now >= self._task_lost_at():
            self.finished(next(iter(self._tasks)), now)

    def _forgotten_at(self) -> float:
        return min(self._wire_lost_at(), self._task_lost_at())

    def _wire_lost_at(self) -> float:
        return next((sent.at + LOST_AFTER for sent in self._wire.values()), _NEVER)

    def _task_lost_at(self) -> float:
        return next((since + TASK_LIFETIME for since in self._tasks.values()), _NEVER)

    def statistics(self, now: float, waiting: int = 0) -> GateStatistics:
        """A snapshot; `waiting` is the shell's."""
        permit = self._permit(now)
        pause = self._pause
        probing = pause is not None and (pause.canary is not None or permit.at <= now)
        bucket = self._bucket
        return GateStatistics(
            state="open" if pause is None else "probing" if probing else "paused",
            why=permit.why if permit.at > now else "",
            paused_for=permit.at - now if pause is not None and now < permit.at < _NEVER else 0.0,
            waiting=waiting,
            in_flight=len(self._wire),
            submitted=self._submitted,
            accepted=self._accepted,
            refused=self._throttled,
            pauses=self._pauses,
            kind=self._kind.value,
            requests=self._window.requests,
            per=self._window.per if self._window.requests is not None else None,
            rate=bucket.rate if bucket else None,
            concurrent=self._quota.tasks,
        )

    def learned(self, at: float) -> PaceRecord:
        """What is known by now; `at` is unix seconds."""
        bucket = self._bucket
        return PaceRecord(
            kind=self._kind,
            requests=self._window.requests,
            per=self._window.per,
            rate=bucket.rate if bucket else None,
            burst=max(int(bucket.burst), 1) if bucket else None,
            concurrent=self._quota.tasks,
            at=at,
        )

    def teach(self, record: PaceRecord, now: float, age: float) -> None:
        """Start from an earlier run's record, `age` seconds old, with a canary first."""
        if self._submitted or not 0 <= age < 7 * 86_400 or self._kind is not RateKind.UNKNOWN:
            return
        self._kind = record.kind
        self._window.period = Period(record.per, settled=record.kind is RateKind.WINDOW)
        if record.kind is RateKind.WINDOW:
            self._window.requests = record.requests
        if record.kind is RateKind.BUCKET and record.rate is not None:
            self._bucket = Bucket(
                record.rate, record.burst or 1, record.burst or 1, now, 0, empty_at=now, at=now, proven=True
            )
        if self._quota.ceiling is None:
            self._quota.tasks = record.concurrent
        self._pause = Pause(now, now, Role.NORMAL, now, "starting at the pace of an earlier run", until=now)


def _why_paused(hint: float | None) -> str:
    if hint is None:
        return "the provider refused a submission (429) and did not say for how long"
    return f"the provider asked for {hint:g} s (429)"

"""When may the next submission go? A state machine that finds the provider's limits from its replies alone.

The provider publishes no numbers; a 429 may mean too many requests in a while or too many unfinished tasks. Three
rules are kept side by side, and the strictest decides:

- `Window`: at most Q submissions in any W seconds. Each place is held from the send until W after its *reply*, so
  the rule holds for sliding windows and for fixed ones of any phase without learning the phase.
- `Bucket`: a rate with a burst, once a refusal shows that places come back one by one and not all at once.
- `Quota`: at most C unfinished tasks.

A refusal closes the gate for everybody (`Pause`). It is explained only when the replies of everything that was on the
wire with it are in, so that the counts are exact; those late replies teach nothing else. What it means and how long to
wait is found in `wanasync.rules.refusals`. Then one submission, the
canary, finds out whether the provider accepts again; nothing else goes until it is answered. Raised limits are
found by probes: one submission more than the rule allows, at the end of a full window, where the pause that it may
earn is waited for anyway.

Nothing here does I/O or reads a clock: `now` (seconds, any monotonic base) and the random numbers are passed in.
"""

from __future__ import annotations

import math
import random

from attrs import define, evolve, field, frozen

from wanasync.models import GateStatistics, Limits
from wanasync.rules.pace_record import PaceRecord, RateKind
from wanasync.rules.refusals import LONGEST_WAIT, Beliefs, Pause, Role
from wanasync.rules.window import LONGEST_WINDOW

__all__ = ["PaceRecord", "Pacer", "Permit", "RateKind"]

STRAGGLERS_PATIENCE = 5.0
"""Seconds until a refusal is explained without the replies that are still missing."""
LOST_AFTER = 600.0
"""Seconds after which a submission on the wire is taken for lost by its caller."""
TASK_LIFETIME = 7200.0
"""Seconds after which a task whose end nobody told us no longer fills a place of the quota."""
MOST_EARLY = 256
"""Ends of unknown tasks that are remembered in case that their submissions' replies are still to come."""
_NEVER = math.inf


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


@define(eq=False, init=False)
class Pacer:
    """Decides who may go when, for one provider and key. Not thread-safe; see `wanasync.engine.gate` for the shell.

    Each submission is a number from `send` that is given back exactly once: `accepted`, `throttled`, `refused`,
    `unknown` or `never_sent`. Known `limits` are never exceeded nor probed, but refusals are obeyed all the same.
    `most_on_wire` bounds the submissions that await their reply at once.

    Tasks are known by their ids. A caller who keeps these itself gives None instead, and tells each beginning (`track`)
    and each end once.
    """

    _rng: random.Random = field(metadata={"state": False})
    _most_on_wire: int = field(metadata={"state": False})
    _last_number: int = 0
    _wire: dict[int, Sent] = field(factory=dict)
    _tasks: dict[str, float] = field(factory=dict)
    _counted: int = 0
    _finished_early: dict[str, None] = field(factory=dict)
    _beliefs: Beliefs = field(factory=Beliefs)
    _pause: Pause | None = None
    _last_sent: float = -_NEVER
    _last_reply: float = -_NEVER
    _run_of_accepted: int = 0
    _not_sent_in_a_row: int = 0
    _submitted: int = 0
    _accepted: int = 0
    _throttled: int = 0
    _pauses: int = 0

    def __init__(
        self, *, rng: random.Random, limits: Limits | None = None, most_on_wire: int = 32, numbers_after: int = 0
    ) -> None:
        self.__attrs_init__(rng, most_on_wire, numbers_after)
        if limits is not None:
            self.limit(limits)

    def resume(self, *, rng: random.Random, most_on_wire: int) -> None:
        """Go on from a state that was kept, which these are no part of."""
        self._rng, self._most_on_wire = rng, most_on_wire

    # ---- what the shell asks

    def earliest(self, now: float) -> float:
        """When to ask again; `now` or earlier: one may go at once. Replies and ended tasks may make it sooner.

        Never farther away than LONGEST_WAIT where replies taught the limits, TASK_LIFETIME where a quota was told, or
        the length of a window that was told: what holds everybody up is forgotten in the end.
        """
        return self.permit(now).at

    def permit(self, now: float, *, spare: int = 0) -> Permit:
        """`earliest`, and all that `send` has to know. So many places, where they are counted, are to be left free."""
        permit = self._permit(now)
        if spare and permit.at <= now and permit.role is Role.NORMAL:
            permit = self._sparing_permit(now, spare)
        return permit if permit.at < _NEVER else evolve(permit, at=self._forgotten_at())

    def send(self, now: float, permit: Permit | None = None) -> int:
        """Let one submission through; only after `earliest(now) <= now`. `permit` is what was just asked for."""
        permit = permit or self._permit(now)
        if permit.at > now:
            raise RuntimeError("a submission was let through before its time")
        if not self._wire:
            self._finished_early.clear()
        self._last_number = number = self._last_number + 1
        self._wire[number] = Sent(now, permit.role, self._pauses)
        self._last_sent = now
        self._submitted += 1
        if self._pause is not None:
            self._pause.canary = number
        if self._beliefs.bucket is not None:
            self._beliefs.bucket.take(now)
        return number

    def room(self, now: float) -> int:
        """How many may go at once if nothing speaks against the first; a guess where no limit is known."""
        wire = len(self._wire)
        room = min(self._wire_limit(now) - wire, self._beliefs.window.room(now, wire))
        return max(int(room), 1)

    def seen(self, number: int) -> bool:
        """Whether the submission is still on the wire."""
        return number in self._wire

    # ---- what the shell tells

    def accepted(self, number: int, now: float, task_id: str | None) -> None:
        """The provider made a task of it, which a caller who keeps the ids has tracked already."""
        sent = self._answered(number, now)
        self._accepted += 1
        self._run_of_accepted += 1
        self._take_place(now)
        if task_id in self._finished_early:
            del self._finished_early[task_id]
        elif task_id is not None:
            self.track(task_id, now)
        if sent is not None:
            self._passed(number, sent, now)
        self._beliefs.quota.reached(self._unfinished, now)
        self._explain_if_due(now)

    def throttled(self, number: int, now: float, hint: float | None = None, *, firm: bool = False) -> None:
        """It was put off (429, documented 503): nothing was made. `hint` is the wait that was asked for.

        A `firm` hint came in a header and is waited for whatever else is known; one from the text may be a fixed
        phrase, so once replies have shown that it is, a canary goes sooner.
        """
        hint = None if hint is None or not hint >= 0 else min(hint, LONGEST_WINDOW)
        sent = self._answered(number, now)
        self._throttled += 1
        self._beliefs.window.refusals.append(now)
        if self._beliefs.bucket is not None:
            self._beliefs.bucket.give_back(now)
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
        if self._beliefs.bucket is not None:
            self._beliefs.bucket.give_back(now)
        wait = 0.0
        if failed:
            self._not_sent_in_a_row += 1
            wait = self._short_wait(min(0.5 * 2.0**self._not_sent_in_a_row, 60.0))
        self._canary_lost(number, now, wait)
        if self._not_sent_in_a_row >= 3 and self._pause is None:
            self._pause = Pause(now, now, Role.NORMAL, now, "the provider was not reached", until=now + wait)
        self._explain_if_due(now)

    def finished(self, task_id: str | None, now: float) -> None:
        """A task ended, so its place in the quota is free. May come before the reply to its submission was read."""
        if task_id is None:
            self._counted = max(self._counted - 1, 0)
        elif self._tasks.pop(task_id, None) is None:
            if self._wire:
                self._note_early(task_id)
            return
        self._beliefs.finished += 1
        pause = self._pause
        if pause is None or pause.canary is not None or pause.until is None:
            return
        if pause.awaits_task and not pause.firm:
            pause.awaited -= 1
            quota = self._beliefs.quota.tasks
            if pause.awaited <= 0 and (quota is None or self._unfinished < quota):
                pause.until = min(now, pause.until)

    def track(self, task_id: str | None, now: float) -> None:
        """A task of an earlier run that is still unfinished."""
        if task_id is None:
            self._counted += 1
        else:
            # As the youngest, even where it was known: the oldest are found at the front.
            self._tasks.pop(task_id, None)
            self._tasks[task_id] = now

    def limit(self, limits: Limits) -> None:
        """Take known limits as they are; what they leave open is still found from replies."""
        self._beliefs.limit(limits)

    # ---- who may go

    def _permit(self, now: float) -> Permit:
        self._forget(now)
        self._explain_if_due(now)
        if self._pause is not None:
            return self._canary_permit(self._pause, now)
        if len(self._wire) >= self._wire_limit(now):
            return Permit(_NEVER, why=f"{len(self._wire)} submissions await their replies")
        rate, quota = self._rate_permit(now, self._look_at()), self._quota_permit(now, self._look_at())
        if rate.at == quota.at:
            return quota if rate.role is Role.NORMAL else rate
        return rate if rate.at > quota.at else quota

    def _sparing_permit(self, now: float, spare: int) -> Permit:
        window, tasks = self._beliefs.window, self._beliefs.quota.tasks
        why = "the places that are left are kept for interactive calls"
        if tasks is not None and self._unfinished + len(self._wire) + min(spare, tasks // 4) >= tasks:
            return Permit(_NEVER, why=why)
        if window.requests is None or self._beliefs.bucket is not None:
            return Permit(now)
        return Permit(window.earliest(now, len(self._wire) + min(spare, window.requests // 4)), why=why)

    def _canary_permit(self, pause: Pause, now: float) -> Permit:
        if pause.canary is not None:
            return Permit(_NEVER, Role.CANARY, "one submission is finding out whether the provider accepts again")
        if pause.until is None:
            return Permit(pause.began + STRAGGLERS_PATIENCE, Role.CANARY, pause.why)
        return Permit(max(pause.until, now) if pause.until > now else now, Role.CANARY, pause.why)

    def _wire_limit(self, now: float) -> int:
        window, safe = self._beliefs.window, 0
        if window.climbing:
            return 1
        if window.requests is not None:
            safe = window.requests - window.attempts(now) - len(self._wire)
            if safe <= 1:
                # Near the edge one at a time: if the limit fell, or counts refusals, only one is refused.
                return 1
        return min(2 + max(self._run_of_accepted // 16, safe // 8), self._most_on_wire)

    def _look_at(self) -> float:
        """When to try in any case: what replies taught may be wrong, and without another reply would stay so."""
        return max(self._last_sent, self._last_reply) + LONGEST_WAIT

    def _rate_permit(self, now: float, look_at: float) -> Permit:
        window, bucket = self._beliefs.window, self._beliefs.bucket
        if bucket is not None:
            why = f"the pace is {bucket.pace(now):.3g} submissions a second"
            return Permit(min(bucket.earliest(now), max(look_at, now)), why=why)
        at = window.earliest(now, len(self._wire))
        if at <= now:
            return Permit(now)
        if (early := self._period_probe()) is not None and early < at:
            return Permit(max(early, now), Role.PERIOD_PROBE, "the window is full")
        probe = look_at if not window.at_ceiling(now) else _NEVER
        if self._may_probe_rate(now):
            probe = min(probe, self._last_reply + self._rest())
        if probe <= at:
            return Permit(max(probe, now), Role.RATE_PROBE, "the window is full")
        return Permit(at, why=f"{window.requests} submissions in {window.per:g} s are let through")

    def _period_probe(self) -> float | None:
        window = self._beliefs.window
        if self._wire or self._beliefs.kind is not RateKind.WINDOW or window.climbing or not window.filled():
            return None
        shorter = window.period.shorter()
        return None if shorter is None else window.began + shorter

    def _may_probe_rate(self, now: float) -> bool:
        window = self._beliefs.window
        if self._wire or window.requests is None or self._beliefs.kind is RateKind.UNKNOWN or not window.period.settled:
            return False
        if window.ceiling is not None and window.requests >= window.ceiling:
            return False
        return window.climbing or now >= self._beliefs.rate_probing.at

    def _rest(self) -> float:
        # A bucket has filled a little by then, a window has not: tells the two apart at the cost of one refusal.
        window = self._beliefs.window
        return 0.0 if window.climbing else window.per / 30

    def _quota_permit(self, now: float, look_at: float) -> Permit:
        quota = self._beliefs.quota
        if quota.tasks is None or self._unfinished + len(self._wire) < quota.tasks:
            return Permit(now)
        why = f"{self._unfinished} unfinished tasks fill the provider's quota"
        if self._wire or (quota.ceiling is not None and quota.tasks >= quota.ceiling):
            return Permit(_NEVER, why=why)
        return Permit(max(min(self._beliefs.quota_probing.at, look_at), now), Role.QUOTA_PROBE, why)

    # ---- what replies mean

    def _answered(self, number: int, now: float) -> Sent | None:
        sent = self._wire.pop(number, None)
        self._last_reply = now
        if self._pause is not None:
            self._pause.stragglers.discard(number)
        return sent

    def _take_place(self, now: float) -> None:
        self._not_sent_in_a_row = 0
        self._beliefs.took_place(now, paused=self._pause is not None)

    def _passed(self, number: int, sent: Sent, now: float) -> None:
        pause = self._pause
        if pause is not None and pause.canary == number:
            self._pause = None
            self._beliefs.opened(pause, now)
        elif sent.role is not Role.NORMAL:
            self._beliefs.passed(sent.role, self._unfinished, now)
        elif self._pauses:
            self._beliefs.confirm_window(now)

    def _close(self, number: int, sent: Sent, now: float, hint: float | None, firm: bool) -> None:
        self._beliefs.hints.heard(hint, now)
        self._pauses += 1
        earlier = self._pause if self._pause is not None and self._pause.canary == number else None
        self._pause = Pause(
            began=now,
            sent=sent.at,
            role=sent.role,
            first=now,
            why=_why_paused(hint),
            hint=hint,
            firm=firm,
            stragglers=set(self._wire),
            window_began=self._beliefs.window.began,
        )
        if earlier is not None:
            self._pause.goes_on_from(earlier)

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
        self._beliefs.explain(pause, self._unfinished, now)
        self._run_of_accepted = 0

    # ---- keeping

    @property
    def _unfinished(self) -> int:
        return len(self._tasks) + self._counted

    def _note_early(self, task_id: str) -> None:
        if len(self._finished_early) >= MOST_EARLY:
            del self._finished_early[next(iter(self._finished_early))]
        self._finished_early[task_id] = None

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
        pause, beliefs = self._pause, self._beliefs
        window, bucket = beliefs.window, beliefs.bucket
        probing = pause is not None and (pause.canary is not None or permit.at <= now)
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
            kind=beliefs.kind.value,
            requests=window.requests,
            per=window.per if window.requests is not None else None,
            rate=bucket.rate if bucket else None,
            concurrent=beliefs.quota.tasks,
        )

    def learned(self, at: float) -> PaceRecord:
        """What is known by now; `at` is unix seconds."""
        return self._beliefs.learned(at)

    def teach(self, record: PaceRecord, now: float, age: float) -> None:
        """Start from an earlier run's record, `age` seconds old, with a canary first."""
        if self._submitted or not 0 <= age < 7 * 86_400 or self._beliefs.kind is not RateKind.UNKNOWN:
            return
        self._beliefs.start_from(record, now)
        self._pause = Pause(now, now, Role.NORMAL, now, "starting at the pace of an earlier run", until=now)


def _why_paused(hint: float | None) -> str:
    if hint is None:
        return "the provider refused a submission (429) and did not say for how long"
    return f"the provider asked for {hint:g} s (429)"

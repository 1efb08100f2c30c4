"""Follows tasks until they end: one scheduler for all, whatever their number.

When to look is decided by `rules.polling`, in which order by `rules.agenda`, how many at once by `rules.lane`, what a
look means by `rules.tracking`, and one that failed by `rules.misses`; here is what asks, in tasks of a `Crew`. A look
that fails says nothing about its task, which is looked at again. Only the provider's own word ends a following, or its
denying the task for long.

One time base: `clock`'s unix time when the poller began, carried on by the loop's clock. So a wall clock that is set
while we wait moves nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from attrs import define

from wanasync.config import Config
from wanasync.engine.crew import Crew, report
from wanasync.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    SessionError,
    TaskError,
    WanError,
)
from wanasync.models import PollerStatistics, TaskSnapshot, TaskStatus
from wanasync.rules.agenda import Agenda, Planned
from wanasync.rules.lane import PollLane
from wanasync.rules.misses import Complaints, Denials, is_denial
from wanasync.rules.polling import PollingPolicy
from wanasync.rules.progress import NO_EVIDENCE, Evidence
from wanasync.rules.tracking import TaskTrack

__all__ = ["Listener", "Poller"]

logger: logging.Logger = logging.getLogger("wanasync.poll")

Listener = Callable[[TaskSnapshot | WanError], None]
Ask = Callable[[str], Awaitable[TaskSnapshot]]
AskMany = Callable[[Sequence[str]], Awaitable[Sequence[TaskSnapshot]]]

BATCH_SIZE = 50
"""At most this many ids in a batch query (seen in public client code)."""
BATCH_WINDOW = 5.0
"""Looks due within so many seconds join a batch query: one id more in it is as good as free."""
BATCH_REST = 300.0
"""A batch query that failed where single ones may pass is left alone for so long."""
NO_BATCH = (405, 501)
RETRY_BASE, RETRY_CAP = 1.0, 60.0
MISSING_BASE, MISSING_CAP = 5.0, 300.0
RESULTS_BASE, RESULTS_CAP = 2.0, 15.0
CONFIRMATIONS = (2.0, 5.0, 15.0)
"""Waits between the looks at a task that a callback said has ended, while the query still says otherwise."""
EARLY_HINTS = 1000
"""Hints at tasks that nobody follows that are remembered."""
MAX_AGE = 7 * 86_400.0
"""A submission said to be older has a wrong date."""
LATE = 1.0
"""Looks that are overdue by more have exceeded the budget."""


@define(eq=False, weakref_slot=False)
class _Followed(Planned):
    """One followed task. There may be 50,000: each field counts.

    `evidence` is what looks have seen of its progress. `hints` counts the looks since a callback said that the task
    has ended.
    """

    track: TaskTrack
    dated: bool
    listeners: tuple[Listener, ...] = ()
    evidence: Evidence = NO_EVIDENCE
    setbacks: int = 0
    hints: int = 0

    @property
    def task_id(self) -> str:
        return self.track.task_id


class Poller:
    """Follows the tasks of one session.

    `ask` queries one task, `ask_many` up to 50 at once (None where the host is known not to have it; it is given up
    for the session when it answers 404, 405 or 501); both raise the errors of `wanasync.errors` only. `clock` gives
    unix seconds. `observe` hears each changed snapshot once, whoever listens, and `miss` of each query
    that failed, with the id of its first task. With `callbacks` looks are a safety net.

    Used on one event loop. Listeners are called on it; what they raise goes to the loop's exception handler.
    """

    def __init__(
        self,
        ask: Ask,
        ask_many: AskMany | None,
        config: Config,
        *,
        clock: Callable[[], float],
        rng: Random,
        observe: Callable[[TaskSnapshot], None] | None = None,
        miss: Callable[[str, WanError], None] | None = None,
        callbacks: bool = False,
    ) -> None:
        self._ask = ask
        self._ask_many = ask_many
        self._config = config
        self._clock = clock
        self._rng = rng
        self._observe = observe
        self._miss = miss
        self._policy = PollingPolicy(callbacks=callbacks)
        self._agenda = Agenda[_Followed](self._policy.first_wait)
        self._lane = PollLane(config.polls_per_second, config.max_polls_in_flight, rng)
        self._followed: dict[str, _Followed] = {}
        self._denials = Denials()
        self._complaints = Complaints()
        self._early_hints: dict[str, None] = {}
        # Those that batch queries don't know, and those whose look is under way.
        self._alone: set[str] = set()
        self._asked: set[_Followed] = set()
        self._crew = Crew(
            "following a task",
            self._begin_look,
            self._look_at,
            self._look_ended,
            limit=self._lane.limit,
            clock=self._now,
        )
        self._ticks: Callable[[], float] | None = None
        self._epoch = 0.0
        self._batch_rests_until = 0.0
        self._price_raised_at = 0.0
        self._shared_listeners: tuple[Listener, ...] = ()
        self._closed = False
        self._polls_made = self._polls_failed = self._batch_polls = self._finished = 0

    def follow(
        self,
        task_id: str,
        listener: Listener,
        *,
        submitted_at: float | None,
        estimated_time: float | None,
        at_once: bool = False,
    ) -> None:
        """Call `listener` with each changed snapshot of the task.

        The last call is a final snapshot, or the error that ends the following: a `TaskError` about this task, or
        another error where no look can succeed any more, which goes to all listeners. `submitted_at` is unix seconds,
        None where unknown; `estimated_time` what the provider said, in seconds. `at_once` is for a task of which
        nothing has been heard since: the first look is now. Raises `SessionError` after `close`.
        """
        if self._closed:
            raise SessionError("the session is closed; its tasks can't be followed any more")
        item = self._followed.get(task_id)
        if item is None:
            item = self._take_on(task_id, submitted_at, estimated_time, at_once)
        # A batch follows thousands with one listener: they share one tuple.
        listeners = (*item.listeners, listener)
        if listeners != self._shared_listeners:
            self._shared_listeners = listeners
        item.listeners = self._shared_listeners

    def unfollow(self, task_id: str, listener: Listener) -> None:
        """Stop calling `listener`; with the last listener of a task, its polling ends. Unknown ones are ignored."""
        item = self._followed.get(task_id)
        if item is None or listener not in item.listeners:
            return
        listeners = list(item.listeners)
        listeners.remove(listener)
        item.listeners = tuple(listeners)
        if not listeners:
            self._forget(item)

    def deliver(self, snapshot: TaskSnapshot) -> None:
        """Take in a look from elsewhere: one that found the task at its end is a hint."""
        if snapshot.status.is_final:
            self.hint(snapshot.id)

    def hint(self, task_id: str) -> None:
        """A callback said that the task has ended. Anybody may have sent it, so it only brings a query about.

        With callbacks, one for a task that is not followed yet is remembered: it may overtake the submission's reply.
        """
        item = self._followed.get(task_id)
        if item is None:
            self._remember_hint(task_id)
        elif not item.hints:
            self._follow_hint(item)

    def _remember_hint(self, task_id: str) -> None:
        if not self._policy.callbacks:
            return
        self._early_hints[task_id] = None
        if len(self._early_hints) > EARLY_HINTS:
            del self._early_hints[next(iter(self._early_hints))]

    def _follow_hint(self, item: _Followed) -> None:
        item.hints = 1
        self._agenda.urge(item, self._now())
        self._crew.wake()

    def statistics(self) -> PollerStatistics:
        return PollerStatistics(
            following=len(self._followed),
            polls=self._polls_made,
            polls_failed=self._polls_failed,
            batch_polls=self._batch_polls,
            finished=self._finished,
            # Also asked from other threads, where there is no loop to take the time from.
            paused_for=self._lane.paused_for(self._now()) if self._ticks is not None else 0.0,
            expected_seconds=self._policy.expected_seconds(),
        )

    async def close(self) -> None:
        """Stop. Listeners are told by a `SessionError`, or their waits would not end; the tasks go on at the provider.

        May be called again.
        """
        self._closed = True
        self._give_up_all(SessionError("the session was closed; the task goes on at the provider"))
        await self._crew.close()
        # Those who waited have their turn before what they use is closed as well.
        await asyncio.sleep(0)

    # Taking on and giving up.

    def _take_on(
        self, task_id: str, submitted_at: float | None, estimated_time: float | None, at_once: bool
    ) -> _Followed:
        now = self._now()
        dated = submitted_at is not None and submitted_at > now - MAX_AGE
        born = min(submitted_at, now) if dated and submitted_at is not None else now
        track = TaskTrack(task_id, born if dated else None)
        item = _Followed(born, self._policy.estimate(estimated_time), track, dated)
        self._followed[task_id] = item
        if dated and not at_once:
            self._plan_first(item, now)
        else:
            # It may have ended long ago.
            self._agenda.plan(item, now)
            self._crew.wake()
        if task_id in self._early_hints:
            del self._early_hints[task_id]
            self._follow_hint(item)
        return item

    def _plan_first(self, item: _Followed, now: float) -> None:
        age = self._policy.probe_age(item.estimate)
        if age is None:
            age = self._policy.first_wait(item.estimate)
            self._agenda.add(item)
        else:
            self._agenda.plan(item, item.born + age)
        self._crew.come_back(max(item.born + age - now, 0.0))

    def _forget(self, item: _Followed) -> None:
        del self._followed[item.task_id]
        self._denials.forget(item.task_id)
        self._alone.discard(item.task_id)
        self._agenda.drop(item)

    def _give_up_all(self, error: WanError) -> None:
        for item in list(self._followed.values()):
            # A listener may have stopped following others meanwhile.
            if not item.over:
                self._forget(item)
                self._tell(item, error)

    # Scheduling.

    def _begin_look(self, now: float) -> list[_Followed] | None:
        """Whom to look at now, the look being paid for; None for nobody."""
        items = self._next_looked_at(now)
        if items is not None:
            self._polls_made += 1
            self._batch_polls += len(items) > 1
            self._lane.begin(now)
            self._policy.price.paid()
        return items

    def _next_looked_at(self, now: float) -> list[_Followed] | None:
        """Whom to look at now; None for nobody, and then a timer is set where time alone will change that."""
        wait = self._lane.wait(now)
        if wait <= 0 and (items := self._take_due(now)):
            return items
        due = self._agenda.next_due()
        if due is None:
            return None
        if due <= now:
            self._raise_price_when_late(now, due)
        self._crew.come_back(max(wait, due - now))
        return None

    def _raise_price_when_late(self, now: float, due: float) -> None:
        if now - due > LATE and now - self._price_raised_at > 1.0 and not self._lane.paused_for(now):
            self._price_raised_at = now
            self._policy.price.raised()

    def _take_due(self, now: float) -> list[_Followed]:
        """The next item that is due, with those that can share its query."""
        first = self._pop(now)
        if first is None:
            return []
        items = [first]
        if first.task_id in self._alone or self._ask_many is None or now < self._batch_rests_until:
            return items
        while len(items) < BATCH_SIZE:
            item = self._pop(now + BATCH_WINDOW)
            if item is None:
                break
            if item.task_id in self._alone:
                self._asked.discard(item)
                self._agenda.urge(item, now)
                break
            items.append(item)
        return items

    def _pop(self, until: float) -> _Followed | None:
        while (item := self._agenda.pop(until)) is not None:
            if item not in self._asked:
                self._asked.add(item)
                return item
        return None

    # Looking.

    async def _look_at(self, items: list[_Followed]) -> None:
        now = self._now()
        if len(items) == 1 or self._ask_many is None:
            await self._look(items[0], now)
        else:
            await self._look_at_many(self._ask_many, items, now)

    def _look_ended(self, items: list[_Followed]) -> None:
        self._asked.difference_update(items)
        for item in items:
            # A look that was broken off, by a fault or a cancelled query, planned nothing.
            if not item.over and not item.queued:
                self._set_back(item, RETRY_BASE, RETRY_CAP, jitter=True)

    async def _look(self, item: _Followed, asked_at: float) -> None:
        try:
            snapshot = await self._ask(item.task_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the following
            self._asked.discard(item)
            self._failed(item, self._expected(error), asked_at)
        else:
            self._asked.discard(item)
            self._lane.passed(asked_at, self._now())
            self._saw(item, snapshot, asked_at)

    async def _look_at_many(self, ask_many: AskMany, items: list[_Followed], asked_at: float) -> None:
        try:
            snapshots = await ask_many([item.task_id for item in items])
        except Exception as error:  # noqa: BLE001
            self._asked.difference_update(items)
            self._batch_failed(items, self._expected(error), asked_at)
        else:
            self._asked.difference_update(items)
            self._lane.passed(asked_at, self._now())
            self._saw_many(items, snapshots, asked_at)

    def _expected(self, error: Exception) -> WanError:
        if isinstance(error, WanError):
            return error
        report("a query raised an error that is none of wanasync's", error)
        return APIConnectionError(f"the query failed: {error!r}")

    def _saw_many(self, items: list[_Followed], snapshots: Sequence[TaskSnapshot], asked_at: float) -> None:
        found = {snapshot.id: snapshot for snapshot in snapshots}
        if not any(item.task_id in found for item in items):
            self._batch_rests_until = self._now() + BATCH_REST
        for item in items:
            snapshot = found.get(item.task_id)
            if snapshot is not None:
                self._saw(item, snapshot, asked_at)
            elif not item.over:
                # Absence is no answer: only the query of this one id can say that it isn't known.
                self._alone.add(item.task_id)
                self._look_again(item, 0.0)

    def _saw(self, item: _Followed, snapshot: TaskSnapshot, asked_at: float) -> None:
        if item.over:
            return
        self._date(item, snapshot)
        self._denials.forget(item.task_id)
        last_unfinished = item.track.since
        look = item.track.look(snapshot, asked_at, self._config.results_grace)
        if look.final:
            if look.news is snapshot:
                self._learn(item, snapshot, last_unfinished)
            self._end(item)
        elif snapshot.status is TaskStatus.COMPLETED:
            self._set_back(item, RESULTS_BASE, RESULTS_CAP)
        else:
            self._plan_next(item, snapshot)
        if look.news is not None:
            self._tell(item, look.news)

    def _date(self, item: _Followed, snapshot: TaskSnapshot) -> None:
        """A task attached by its id alone is as old as the provider says; by its clock, so nothing is learned of it."""
        if item.dated:
            return
        if snapshot.estimated_time is not None:
            item.estimate = self._policy.estimate(snapshot.estimated_time)
        if snapshot.created and self._now() - MAX_AGE < snapshot.created < item.born:
            item.born = snapshot.created

    def _learn(self, item: _Followed, snapshot: TaskSnapshot, last_unfinished: float | None) -> None:
        if not item.dated or last_unfinished is None:
            return
        after, by = last_unfinished - item.born, self._now() - item.born
        completed = snapshot.status is TaskStatus.COMPLETED
        self._policy.finished(after, by, item.estimate, item.evidence, told=item.hints > 0, completed=completed)

    def _plan_next(self, item: _Followed, snapshot: TaskSnapshot) -> None:
        now = self._now()
        age = now - item.born
        item.setbacks = 0
        item.evidence = self._policy.saw(item.evidence, snapshot.progress, age)
        if item.hints:
            self._confirm_again(item, now)
        if not item.queued:
            wait = self._policy.next_wait(age, item.estimate, item.evidence, self._rng)
            self._agenda.plan(item, now + wait)

    def _confirm_again(self, item: _Followed, now: float) -> None:
        if item.hints <= len(CONFIRMATIONS):
            self._agenda.urge(item, now + CONFIRMATIONS[item.hints - 1])
            item.hints += 1
        else:
            item.hints = 0

    def _end(self, item: _Followed) -> None:
        self._finished += 1
        self._forget(item)

    # Failed looks.

    def _failed(self, item: _Followed, error: WanError, asked_at: float) -> None:
        self._polls_failed += 1
        self._log_failure(item, error)
        if item.over:
            return
        if isinstance(error, NotFoundError):
            self._missed(item, asked_at)
        elif is_denial(error):
            self._denied(item, error, asked_at)
        elif not self._is_everybodys(error, asked_at):
            self._set_back(item, RETRY_BASE, RETRY_CAP, jitter=True)
        elif not item.over:
            self._look_again(item, 0.0)

    def _log_failure(self, item: _Followed, error: WanError) -> None:
        logger.debug("a look at task %s failed: %s", item.task_id, error)
        if self._miss is not None:
            self._miss(item.task_id, error)
        in_a_row = max(item.setbacks + 1, self._lane.failures)
        if untold := self._complaints.note(in_a_row, self._now()):
            message = "looks at tasks fail and are repeated: %d since this was last said, %d in a row; task %s: %s"
            logger.warning(message, untold, in_a_row, item.task_id, error)

    def _is_everybodys(self, error: WanError, asked_at: float) -> bool:
        """Take in what a failure says about the lane. True where a pause answers it, or an end."""
        now = self._now()
        if isinstance(error, AuthenticationError):
            if self._lane.key_refused(asked_at, now):
                self._give_up_all(error)
            return True
        if isinstance(error, RateLimitError):
            if self._lane.throttled(asked_at, now, error.retry_after):
                self._policy.price.raised()
            return True
        self._lane.failed(asked_at, now, error.retry_after if isinstance(error, APIError) else None)
        return False

    def _missed(self, item: _Followed, asked_at: float) -> None:
        self._lane.passed(asked_at, self._now())
        look = item.track.missing(asked_at)
        if look.final:
            self._end(item)
        else:
            self._set_back(item, MISSING_BASE, MISSING_CAP)
        if look.news is not None:
            self._tell(item, look.news)

    def _denied(self, item: _Followed, error: WanError, asked_at: float) -> None:
        """Refused for long: for this task, where other looks pass; else for all, as by a firewall or a changed key."""
        now = self._now()
        self._lane.failed(asked_at, now)
        since = self._denials.note(item.task_id, now)
        if since is None:
            self._set_back(item, MISSING_BASE, MISSING_CAP)
        elif self._lane.last_passed < since:
            self._give_up_all(error)
        else:
            self._end(item)
            minutes = f"{(now - since) / 60:.0f} minutes"
            lost = TaskError(f"the provider has refused to show it for {minutes}: {error}", item.task_id)
            lost.__cause__ = error
            self._tell(item, lost)

    def _batch_failed(self, items: list[_Followed], error: WanError, asked_at: float) -> None:
        self._polls_failed += 1
        self._log_failure(items[0], error)
        status = error.status if isinstance(error, APIError) else None
        if isinstance(error, NotFoundError) or status in NO_BATCH:
            self._ask_many = None
            paused = True
        else:
            # What is wrong with this endpoint may be right with the other.
            if not isinstance(error, APIConnectionError | RateLimitError):
                self._batch_rests_until = self._now() + BATCH_REST
            paused = self._is_everybodys(error, asked_at) or is_denial(error)
        for item in items:
            if item.over:
                continue
            if paused:
                self._look_again(item, 0.0)
            else:
                self._set_back(item, RETRY_BASE, RETRY_CAP, jitter=True)

    def _set_back(self, item: _Followed, base: float, cap: float, *, jitter: bool = False) -> None:
        """Look again soon, and less soon with each setback in a row."""
        wait = min(cap, base * 2.0 ** min(item.setbacks, 10))
        item.setbacks += 1
        self._look_again(item, self._rng.uniform(0.0, wait) if jitter else wait)

    def _look_again(self, item: _Followed, wait: float) -> None:
        due = self._now() + wait
        if item.queued:
            # Its planned look may be far off.
            self._agenda.urge(item, due)
        else:
            self._agenda.plan(item, due)

    # Telling.

    def _tell(self, item: _Followed, news: TaskSnapshot | WanError) -> None:
        if self._observe is not None and isinstance(news, TaskSnapshot):
            self._call(self._observe, news)
        for listener in item.listeners:
            self._call(listener, news)

    def _call(self, listener: Callable[[TaskSnapshot], None] | Listener, news: TaskSnapshot | WanError) -> None:
        try:
            listener(news)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - one listener's fault is not the others'
            report("a listener of the poller raised", error)

    def _now(self) -> float:
        if self._ticks is None:
            self._ticks = asyncio.get_running_loop().time
            self._epoch = self._clock() - self._ticks()
        return self._epoch + self._ticks()

"""It never waits for ever and never stampedes: any replies in any order, with callers that lose what they hold."""

from __future__ import annotations

import math
import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wanasync.models import Limits
from wanasync.rules.pace_record import PaceRecord, RateKind
from wanasync.rules.pacing import TASK_LIFETIME, Pacer
from wanasync.rules.refusals import LONGEST_WAIT

HINTS = st.none() | st.sampled_from([-5.0, 0.0, 0.5, 1.0, 5.0, 30.0, 60.0, 3600.0, 1e12, math.inf, math.nan])
JUMPS = st.floats(0.0, 3.0) | st.sampled_from([0.5, 1.0, 5.0, 10.0, 60.0, 600.0, 3600.0, 7200.0, 86_400.0])
LIMITS = st.builds(
    Limits,
    requests=st.none() | st.integers(1, 20),
    per=st.sampled_from([1.0, 60.0, 3600.0, 86_400.0]),
    concurrent=st.none() | st.integers(1, 5),
)
RECORDS = st.one_of(
    st.builds(
        PaceRecord,
        kind=st.just(RateKind.WINDOW),
        requests=st.integers(1, 1000),
        per=st.sampled_from([0.001, 1.0, 60.0, 86_400.0, 1e9]),
        concurrent=st.none() | st.integers(1, 5),
    ),
    st.builds(
        PaceRecord,
        kind=st.just(RateKind.BUCKET),
        rate=st.sampled_from([1e-12, 0.01, 1.0, 1e6]),
        burst=st.integers(1, 1000),
        concurrent=st.none() | st.integers(1, 5),
    ),
)


class AnyCallers(RuleBasedStateMachine):
    """Replies as of any provider; tickets that are lost, tasks that never end, clocks that leap."""

    @initialize(limits=st.none() | LIMITS, record=st.none() | RECORDS)
    def start(self, limits: Limits | None, record: PaceRecord | None) -> None:
        self.told = limits if limits is not None and limits.requests is not None else None
        self.pacer = Pacer(rng=random.Random(1), limits=limits)
        self.now = 1000.0
        self.wire: list[int] = []
        self.tasks: list[str] = []
        self.tracked = 0
        if record is not None:
            self.pacer.teach(record, self.now, 60.0)

    def longest(self) -> float:
        """What `Pacer.earliest` promises."""
        return max(LONGEST_WAIT, TASK_LIFETIME, self.told.per if self.told is not None else 0.0) + 1e-6

    @rule(seconds=JUMPS)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(times=st.integers(1, 40))
    def send(self, times: int) -> None:
        for _ in range(times):
            if self.pacer.earliest(self.now) > self.now:
                return
            self.wire.append(self.pacer.send(self.now))

    @rule(outcome=st.sampled_from(["accept", "throttle"]), hint=HINTS, firm=st.booleans())
    def wait_and_try_one(self, outcome: str, hint: float | None, firm: bool) -> None:
        """As a session does, which is how rules get learned."""
        if self.wire:
            return
        number = self.send_in_time()
        self.now += 0.25
        if outcome == "throttle":
            self.pacer.throttled(number, self.now, hint, firm=firm)
        else:
            self.pass_one(number)

    def send_in_time(self) -> int:
        """Each asking may show one more caller or task to be lost, or a refusal to be due for its explanation."""
        for _ in range(10 + len(self.tasks) + self.tracked):
            self.now = max(self.now, self.pacer.earliest(self.now))
            if self.pacer.earliest(self.now) <= self.now:
                return self.pacer.send(self.now)
        raise AssertionError("it never goes on")

    def pass_one(self, number: int) -> None:
        self.pacer.accepted(number, self.now, f"task-{number}")
        self.tasks.append(f"task-{number}")

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), hint=HINTS, firm=st.booleans(), times=st.integers(1, 8))
    def throttle(self, data: st.DataObject, hint: float | None, firm: bool, times: int) -> None:
        for _ in range(min(times, len(self.wire))):
            self.pacer.throttled(self.take(data), self.now, hint, firm=firm)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), times=st.integers(1, 30))
    def accept(self, data: st.DataObject, times: int) -> None:
        for _ in range(min(times, len(self.wire))):
            self.pass_one(self.take(data))

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), outcome=st.sampled_from(["refused", "unknown", "never_sent"]))
    def settle_otherwise(self, data: st.DataObject, outcome: str) -> None:
        getattr(self.pacer, outcome)(self.take(data), self.now)

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.pacer.never_sent(self.take(data), self.now, failed=False)

    @precondition(lambda self: self.wire)
    @rule()
    def lose_all_tickets(self) -> None:
        self.wire.clear()

    def take(self, data: st.DataObject) -> int:
        self.now += data.draw(st.sampled_from([0.0, 0.25, 2.0]))
        return self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), times=st.integers(1, 10))
    def finish(self, data: st.DataObject, times: int) -> None:
        for _ in range(min(times, len(self.tasks))):
            self.pacer.finished(self.tasks.pop(data.draw(st.integers(0, len(self.tasks) - 1))), self.now)

    @rule(count=st.integers(1, 30))
    def track_tasks_that_never_end(self, count: int) -> None:
        self.tracked += count
        for number in range(count):
            self.pacer.track(f"tracked-{self.now}-{number}", self.now)

    @rule(task_id=st.sampled_from(["nobody's", "task-1"]))
    def finish_a_stranger(self, task_id: str) -> None:
        self.pacer.finished(task_id, self.now)

    @invariant()
    def the_wait_is_bounded(self) -> None:
        assert self.pacer.earliest(self.now) - self.now <= self.longest()

    @invariant()
    def a_pause_ends_with_one_submission(self) -> None:
        """Whenever it ends, and however many wait."""
        statistics = self.pacer.statistics(self.now)
        if statistics.state == "open":
            return
        assert statistics.why or self.pacer.earliest(self.now) <= self.now
        if self.pacer.earliest(self.now) <= self.now:
            self.wire.append(self.pacer.send(self.now))
        assert self.pacer.earliest(self.now) > self.now

    @invariant()
    def the_figures_are_possible(self) -> None:
        figures = self.pacer.statistics(self.now)
        assert figures.requests is None or figures.requests >= 1
        assert figures.concurrent is None or figures.concurrent >= 1
        assert figures.rate is None or figures.rate > 0
        assert math.isfinite(figures.paused_for)
        assert 0 <= figures.paused_for <= self.longest()

    def teardown(self) -> None:
        """With everybody gone without a word, the next ones get through, one after the other."""
        if not hasattr(self, "pacer"):
            return
        began = self.now
        for _ in range(5):
            number = self.send_in_time()
            self.now += 0.25
            self.pacer.accepted(number, self.now, f"last-{number}")
        assert self.now - began <= 5 * 3 * self.longest()


AnyCallers.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
TestWhateverCallersDo = AnyCallers.TestCase

from __future__ import annotations

import copy
import itertools
import math
import random
import statistics

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.helpers import pacing_simulation as sim
from wanasync.models import Limits
from wanasync.rules.pacing import Pacer, PaceRecord, RateKind


def make_pacer(limits: Limits | None = None) -> Pacer:
    return Pacer(rng=random.Random(0), limits=limits)


def submit_all(pacer: Pacer, now: float, count: int) -> float:
    """Submit `count` one after the other, each answered after a quarter of a second; gives the time it took."""
    start = now
    for _ in range(count):
        now = max(now, pacer.earliest(now))
        number = pacer.send(now)
        now += 0.25
        pacer.accepted(number, now, f"task-{number}")
    return now - start


# ---- against simulated providers: targets in the comments are medians of the benchmark, here over few seeds

FIXED = sim.Scenario(lambda rng: sim.FixedWindow(60, 60.0, rng.uniform(0, 60)))
SLIDING = sim.Scenario(lambda _: sim.SlidingWindow(60, 60.0))
BUCKET = sim.Scenario(lambda _: sim.Bucket(1.0, 10))
# Two seconds is what the poller takes to notice an end; with L seconds on average no client can pass 120 / (120 + L).
QUOTA = sim.Scenario(lambda _: sim.Concurrent(20), lag=2.0)
TOGETHER = sim.Scenario(lambda _: sim.Together(sim.SlidingWindow(60), sim.Concurrent(100)))
SHARED = sim.Scenario(
    lambda rng: sim.Shared(sim.SlidingWindow(60), 3.0, rng.uniform(0, 3)), fair=lambda _: sim.SlidingWindow(40)
)
FIXED_CHANGING = sim.Scenario(
    lambda rng: sim.Changing(sim.FixedWindow(60, 60.0, rng.uniform(0, 60)), [(600.0, 30), (1500.0, 120)])
)
CHANGING = sim.Scenario(lambda _: sim.Changing(sim.SlidingWindow(60), [(600.0, 30), (1500.0, 120)]))
COUNTS_REFUSED = sim.Scenario(lambda _: sim.SlidingWindow(60, counts_refused=True))


def medians(scenario: sim.Scenario, hint: str, tasks: int, seeds: int = 3) -> tuple[float, float, float]:
    """Utilisation, makespan, refusals."""
    chosen = evolve(scenario, hint=hint, tasks=tasks)
    runs = [sim.measure(chosen, seed) for seed in range(seeds)]
    return (
        statistics.median(run.utilisation or 0.0 for run in runs),
        statistics.median(run.makespan for run in runs),
        statistics.median(run.refusals for run in runs),
    )


@pytest.mark.parametrize(
    ("scenario", "hint", "utilisation", "refusals"),
    [
        pytest.param(FIXED, "static", 0.98, 20, id="fixed window, static hint"),
        pytest.param(FIXED, "half", 0.98, 20, id="fixed window, hint too short by half"),
        pytest.param(SLIDING, "static", 0.985, 20, id="sliding window, static hint"),
        pytest.param(SLIDING, "half more", 0.985, 20, id="sliding window, hint too long by half"),
        pytest.param(BUCKET, "absent", 0.98, 12, id="token bucket, no hint"),
        pytest.param(BUCKET, "half", 0.98, 12, id="token bucket, hint too short by half"),
        pytest.param(QUOTA, "static", 0.98, 18, id="quota of tasks, static hint"),
        pytest.param(QUOTA, "half", 0.98, 18, id="quota of tasks, hint too short by half"),
        pytest.param(TOGETHER, "exact", 0.95, 25, id="window and quota, exact hint"),
        pytest.param(CHANGING, "static", 0.92, 40, id="changing window, static hint"),
        pytest.param(FIXED_CHANGING, "static", 0.92, 40, id="changing fixed window, static hint"),
        pytest.param(COUNTS_REFUSED, "half", 0.97, 20, id="refusals count too, hint too short by half"),
        pytest.param(COUNTS_REFUSED, "header", 0.97, 20, id="refusals count too, hint in a header"),
    ],
)
def test_a_long_list_uses_the_limit_with_few_refusals(
    scenario: sim.Scenario, hint: str, utilisation: float, refusals: int
) -> None:
    used, _, refused = medians(scenario, hint, 2000)
    assert used >= utilisation
    assert refused <= refusals


@pytest.mark.parametrize("hint", ["header", "static"])
def test_where_others_send_with_the_same_key_they_keep_their_share(hint: str) -> None:
    used, _, refused = medians(SHARED, hint, 2000)
    assert 0.95 <= used <= 1.05
    assert refused <= 40


@pytest.mark.parametrize("hint", ["header", "absent"])
@pytest.mark.parametrize(
    ("requests", "per", "tasks"),
    [(5, 10.0, 600), (20, 30.0, 600), (100, 300.0, 800), (1000, 3600.0, 4000)],
)
def test_windows_of_other_lengths_are_found(requests: int, per: float, tasks: int, hint: str) -> None:
    sliding = sim.measure(sim.Scenario(lambda _: sim.SlidingWindow(requests, per), hint=hint, tasks=tasks), 0)
    assert (sliding.utilisation or 0.0) >= 0.9
    assert sliding.pacer.statistics(sliding.seconds).per == per
    fixed = sim.Scenario(lambda rng: sim.FixedWindow(requests, per, rng.uniform(0, per)), hint=hint, tasks=tasks)
    assert (sim.measure(fixed, 0).utilisation or 0.0) >= 0.9


@pytest.mark.parametrize("hint", ["static", "header"])
def test_refusals_for_no_reason_at_all_do_not_stop_it(hint: str) -> None:
    run = sim.measure(sim.Scenario(lambda rng: sim.Flaky(sim.SlidingWindow(60), 0.1, rng), hint, 600), 0)
    assert len(run.accepted_at) == 600
    assert (run.utilisation or 0.0) > 0.05


@pytest.mark.parametrize("hint", ["exact", "header", "static"])
def test_a_tenth_refused_at_random_holds_nobody_up_for_ever(hint: str) -> None:
    for seed in range(8):
        run = sim.measure(sim.Scenario(lambda rng: sim.Flaky(sim.SlidingWindow(60), 0.1, rng), hint, 400), seed)
        assert len(run.accepted_at) == 400
        assert max(late - early for early, late in itertools.pairwise(run.accepted_at)) < 300.0


@pytest.mark.parametrize("hint", ["static", "header"])
@pytest.mark.parametrize("limiter", [sim.SlidingWindow(10, 1.0), sim.SlidingWindow(2, 1.0), sim.Bucket(10.0, 20)])
def test_windows_hardly_longer_than_a_round_trip_are_used(limiter: sim.Limiter, hint: str) -> None:
    """A place is held until a window's length after the reply, so a fifth is the price of not knowing more."""
    runs = [
        sim.measure(sim.Scenario(lambda _: copy.deepcopy(limiter), hint=hint, tasks=1500), seed) for seed in range(3)
    ]
    assert statistics.median(run.utilisation or 0.0 for run in runs) >= 0.65
    assert statistics.median(run.refusals for run in runs) <= 20


def test_a_short_list_is_not_misled_by_a_quota_that_fills_twice() -> None:
    quota = evolve(QUOTA, hint="header", tasks=200)
    runs = [sim.measure(quota, seed) for seed in range(20)]
    assert min(run.makespan for run in runs) >= 0.95
    assert max(run.refusals for run in runs) <= 15


def test_an_outage_is_knocked_at_ever_more_rarely_and_forgotten_soon() -> None:
    pacer = make_pacer()
    now = submit_all(pacer, 0.0, 40)
    down, tries = now + 3600, 0
    while now < down:
        now = max(now, pacer.earliest(now))
        pacer.throttled(pacer.send(now), now + 0.1)
        now, tries = now + 0.1, tries + 1
    assert tries < 100
    assert pacer.earliest(now) <= now + 121.0
    now = pacer.earliest(now)
    # What was taken before the outage is no window of an hour.
    assert submit_all(pacer, now, 60) < 600.0


@pytest.mark.parametrize("tasks", [60, 200])
@pytest.mark.parametrize("scenario", [FIXED, SLIDING, BUCKET, QUOTA, TOGETHER])
def test_a_short_list_takes_hardly_longer_than_with_the_limit_known(scenario: sim.Scenario, tasks: int) -> None:
    _, makespan, refused = medians(scenario, "static", tasks, seeds=5)
    assert makespan >= 0.95
    assert refused <= 15


def test_told_limits_earn_no_refusals() -> None:
    told = evolve(SLIDING, limits=Limits(requests=60, per=60.0), tasks=600)
    run = sim.measure(told, 1)
    assert run.refusals == 0
    assert (run.utilisation or 0.0) >= 0.98


def test_a_record_of_an_earlier_run_saves_most_refusals() -> None:
    first = sim.measure(evolve(SLIDING, tasks=300), 1)
    record = first.pacer.learned(at=1.0)
    again = sim.measure(evolve(SLIDING, tasks=300, record=record), 2)
    assert again.refusals < first.refusals / 2
    assert (again.utilisation or 0.0) >= 0.95


def test_a_record_that_is_wrong_is_unlearned() -> None:
    wrong = PaceRecord(RateKind.WINDOW, requests=10, per=60.0, at=1.0)
    run = sim.measure(evolve(SLIDING, tasks=600, record=wrong), 1)
    assert (run.utilisation or 0.0) >= 0.85


# ---- pauses


def test_a_refusal_closes_the_gate_for_as_long_as_a_header_says() -> None:
    pacer = make_pacer()
    submit_all(pacer, 0.0, 10)
    pacer.throttled(pacer.send(10.0), 10.5, 45.0, firm=True)
    assert pacer.earliest(10.5) == 55.5
    assert pacer.statistics(10.5).paused_for == pytest.approx(45.0)
    pacer.finished("task-1", 20.0)
    assert pacer.earliest(20.0) == 55.5


def test_after_a_pause_one_canary_goes_and_the_others_wait_for_its_reply() -> None:
    pacer = make_pacer()
    submit_all(pacer, 0.0, 10)
    pacer.throttled(pacer.send(10.0), 10.5, 55.0, firm=True)
    canary = pacer.send(65.5)
    assert pacer.earliest(65.6) > 600
    assert pacer.statistics(65.6).state == "probing"
    pacer.accepted(canary, 66.0, "task-x")
    assert pacer.earliest(66.0) <= 66.0


def test_refusals_of_what_was_already_on_the_wire_are_the_same_pause() -> None:
    pacer = make_pacer()
    now = submit_all(pacer, 0.0, 40)
    wire = [pacer.send(now) for _ in range(3)]
    for number in wire:
        pacer.throttled(number, now + 0.3, 60.0)
    assert pacer.statistics(now + 0.3).pauses == 1


def test_the_pause_doubles_only_when_canaries_that_waited_keep_failing() -> None:
    pacer = make_pacer()
    pacer.throttled(pacer.send(0.0), 0.0, 10.0, firm=True)
    waits, now = list[float](), 0.0
    for _ in range(5):
        at = pacer.earliest(now)
        waits.append(at - now)
        now = at
        pacer.throttled(pacer.send(now), now, 10.0, firm=True)
    assert waits == pytest.approx([10.0, 10.0, 20.0, 40.0, 80.0])


def test_a_fixed_phrase_is_tried_early_and_a_computed_hint_is_believed() -> None:
    for second_hint, sooner in ((60.0, True), (58.5, False)):
        pacer = make_pacer()
        now = submit_all(pacer, 0.0, 20)
        pacer.throttled(pacer.send(now), now, 60.0)
        early = pacer.earliest(now)
        assert early - now < 5
        pacer.throttled(pacer.send(early), early, second_hint)
        assert (pacer.earliest(early) - early < 30) is sooner


def test_a_lost_canary_opens_nothing() -> None:
    pacer = make_pacer()
    submit_all(pacer, 0.0, 10)
    pacer.throttled(pacer.send(10.0), 10.5, 45.0, firm=True)
    pacer.unknown(pacer.send(55.5), 60.0)
    again = pacer.earliest(60.0)
    assert 60.0 < again < 65.0
    pacer.send(again)
    assert pacer.earliest(again) > again + 60


def test_a_canary_whose_caller_gave_up_is_replaced_at_once() -> None:
    pacer = make_pacer()
    pacer.throttled(pacer.send(0.0), 0.0, 10.0, firm=True)
    pacer.never_sent(pacer.send(10.0), 10.0, failed=False)
    assert pacer.earliest(10.0) <= 10.0


def test_a_provider_out_of_reach_is_not_hammered() -> None:
    pacer = make_pacer()
    now = 0.0
    for _ in range(20):
        now = max(now, pacer.earliest(now))
        pacer.never_sent(pacer.send(now), now)
    assert now > 60
    assert pacer.earliest(now) <= now + 60


# ---- quota


def test_a_task_that_ends_before_its_submissions_reply_is_read_fills_no_place() -> None:
    pacer = make_pacer(Limits(concurrent=1))
    number = pacer.send(0.0)
    pacer.finished("task-1", 0.1)
    pacer.accepted(number, 0.2, "task-1")
    assert pacer.earliest(0.2) <= 0.2


def test_a_full_quota_waits_for_the_next_end() -> None:
    pacer = make_pacer(Limits(concurrent=2))
    submit_all(pacer, 0.0, 2)
    assert pacer.earliest(5.0) > 600
    assert "2 unfinished tasks" in pacer.statistics(5.0).why
    pacer.finished("task-1", 6.0)
    assert pacer.earliest(6.0) <= 6.0


def test_tasks_whose_end_nobody_tells_are_forgotten_in_the_end() -> None:
    pacer = make_pacer(Limits(concurrent=2))
    submit_all(pacer, 0.0, 2)
    later = pacer.earliest(1.0)
    assert math.isfinite(later)
    assert pacer.earliest(later) <= later


# ---- records


@given(
    st.builds(
        PaceRecord,
        kind=st.just(RateKind.WINDOW),
        requests=st.integers(1, 10_000),
        per=st.floats(0.1, 3600),
        concurrent=st.none() | st.integers(1, 1000),
        at=st.floats(1, 2e9),
    )
    | st.builds(
        PaceRecord,
        kind=st.just(RateKind.BUCKET),
        rate=st.floats(0.001, 1000),
        burst=st.integers(1, 1000),
        at=st.floats(1, 2e9),
    )
)
def test_records_survive_being_written_and_read(record: PaceRecord) -> None:
    assert PaceRecord.from_json(record.to_json()) == record


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(PaceRecord(at=1.0).to_dict(), JSON)) | JSON)
def test_a_damaged_record_is_ignored(content: object) -> None:
    record = PaceRecord.from_dict(content)
    if record is not None:
        pacer = make_pacer()
        pacer.teach(record, 0.0, 60.0)
        assert math.isfinite(pacer.earliest(0.0))


@pytest.mark.parametrize("text", ["", "null", "{", "[" * 100_000, '{"version": 99}'])
def test_what_is_no_record_at_all_is_ignored(text: str) -> None:
    assert PaceRecord.from_json(text) is None


@pytest.mark.parametrize("age", [-5.0, 8 * 86_400.0])
def test_records_from_the_future_or_of_long_ago_are_not_trusted(age: float) -> None:
    pacer = make_pacer()
    pacer.teach(PaceRecord(RateKind.WINDOW, requests=1, at=1.0), 0.0, age)
    assert pacer.statistics(0.0).kind == "unknown"


# ---- whatever happens


class AnyProvider(RuleBasedStateMachine):
    """Any replies in any order."""

    hints = st.none() | st.sampled_from([0.5, 1.0, 30.0, 60.0]) | st.floats(0.5, 3600.0)

    def __init__(self) -> None:
        super().__init__()
        self.pacer = Pacer(rng=random.Random(1))
        self.now = 1000.0
        self.wire: list[int] = []
        self.tasks: list[str] = []
        self.sent_while_closed: set[int] = set()
        self.counts = dict.fromkeys(("submitted", "accepted", "refused"), 0)

    def closed(self) -> bool:
        return self.pacer.statistics(self.now).state != "open"

    @rule(seconds=st.floats(0.0, 200.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_until_admitted(self) -> None:
        if not self.wire:
            self.now = max(self.now, self.pacer.earliest(self.now))

    @rule(times=st.integers(1, 20))
    def send(self, times: int) -> None:
        for _ in range(times):
            if self.pacer.earliest(self.now) > self.now:
                return
            closed = self.closed()
            number = self.pacer.send(self.now)
            self.wire.append(number)
            self.counts["submitted"] += 1
            if closed:
                self.sent_while_closed.add(number)

    def take(self, data: st.DataObject) -> int:
        number = data.draw(st.sampled_from(self.wire))
        self.wire.remove(number)
        self.sent_while_closed.discard(number)
        self.now += data.draw(st.floats(0.0, 2.0))
        return number

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        number = self.take(data)
        self.tasks.append(f"task-{number}")
        self.counts["accepted"] += 1
        self.pacer.accepted(number, self.now, f"task-{number}")

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), hint=hints, firm=st.booleans())
    def throttle(self, data: st.DataObject, hint: float | None, firm: bool) -> None:
        self.counts["refused"] += 1
        self.pacer.throttled(self.take(data), self.now, hint, firm=firm)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), outcome=st.sampled_from(["refused", "unknown", "never_sent"]))
    def settle_otherwise(self, data: st.DataObject, outcome: str) -> None:
        getattr(self.pacer, outcome)(self.take(data), self.now)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(self.tasks))
        self.tasks.remove(task_id)
        self.pacer.finished(task_id, self.now)

    @invariant()
    def there_is_always_a_next_time(self) -> None:
        assert math.isfinite(self.pacer.earliest(self.now))

    @invariant()
    def a_closed_gate_has_at_most_one_canary_out(self) -> None:
        # Callers that kept a submission for ten minutes are taken for lost, and another canary may go.
        if self.closed() and self.now < 1600:
            assert len(self.sent_while_closed) <= 1

    @invariant()
    def the_wire_is_never_crowded(self) -> None:
        assert len(self.wire) <= 32 or self.now > 1600

    @invariant()
    def the_figures_add_up(self) -> None:
        figures = self.pacer.statistics(self.now, waiting=3)
        assert (figures.submitted, figures.accepted, figures.refused) == tuple(self.counts.values())
        assert figures.in_flight <= len(self.wire)
        assert figures.waiting == 3
        assert figures.paused_for >= 0
        assert figures.requests is None or figures.requests >= 1
        assert figures.concurrent is None or figures.concurrent >= 1
        assert figures.state in {"open", "paused", "probing"}

    def teardown(self) -> None:
        """Once replies are positive, everything gets through."""
        for number in self.wire:
            self.pacer.accepted(number, self.now, f"task-{number}")
            self.tasks.append(f"task-{number}")
        for task_id in self.tasks:
            self.pacer.finished(task_id, self.now)
        until = self.now + 86_400
        for _ in range(30):
            self.now = max(self.now, self.pacer.earliest(self.now))
            assert self.now < until
            number = self.pacer.send(self.now)
            self.now += 0.25
            self.pacer.accepted(number, self.now, f"last-{number}")
            self.pacer.finished(f"last-{number}", self.now)


AnyProvider.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWhateverHappens = AnyProvider.TestCase

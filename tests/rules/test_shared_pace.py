"""One pace for many: as good as one process alone, whoever joins, dies, freezes, or says a thing twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.pacing_simulation import Bucket, Concurrent, FixedWindow, Limiter, Scenario, SlidingWindow
from tests.helpers.shared_simulation import Cluster, Fate, measure_shared
from wanasync.models import Limits
from wanasync.rules.pace_record import PaceRecord, RateKind
from wanasync.rules.shared_pace import SILENT_AFTER, Answer, Report, Settled, SharedPace, TaskNews, What

LIMITERS: dict[str, Callable[[random.Random], Limiter]] = {
    "fixed": lambda rng: FixedWindow(60, 60.0, phase=rng.uniform(0, 60)),
    "sliding": lambda _: SlidingWindow(60),
    "bucket": lambda _: Bucket(1.0, 10),
    "concurrent": lambda _: Concurrent(20),
}


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("kind", LIMITERS)
def test_several_processes_use_a_limit_that_nobody_told_them(kind: str, processes: int) -> None:
    # A finished task is noticed within 5 s, which costs a quota of 20 tasks 2 % by itself.
    cluster = Cluster(Scenario(LIMITERS[kind], hint="exact", tasks=2000), processes, waiters=20)
    run = measure_shared(cluster, seed=processes)
    assert run.utilisation >= 0.95
    assert run.refused_share <= 0.02
    assert max(run.by_process) - min(run.by_process) <= 0.05 * 2000


def test_the_same_with_the_state_written_down_in_between() -> None:
    scenario = Scenario(LIMITERS["sliding"], hint="static", tasks=200)
    kept = measure_shared(Cluster(scenario, 2), seed=5)
    written = measure_shared(Cluster(scenario, 2, text=True), seed=5)
    assert written.accepted_at == kept.accepted_at


@pytest.mark.parametrize("seconds", [25.0, float("inf")], ids=["frozen", "killed"])
@pytest.mark.parametrize("kind", LIMITERS)
def test_one_that_freezes_or_dies_does_not_stop_the_others(kind: str, seconds: float) -> None:
    scenario = Scenario(LIMITERS[kind], hint="exact", tasks=600, shortest=30, longest=60, lag=1.0)
    fates = [Fate(process, 40.0 + 17 * process, seconds) for process in (0, 1)]
    run = measure_shared(Cluster(scenario, 4, waiters=20, fates=fates), seed=3)
    assert run.refused_share <= 0.04
    gaps = [late - early for early, late in zip(run.accepted_at, run.accepted_at[1:], strict=False)]
    # A full window is waited for anyway; what the dead had on the wire is given up after SILENT_AFTER.
    assert max(gaps) <= 60 + SILENT_AFTER + 5
    # A quota's places that the dead hold are freed by whoever takes their tasks over: here nobody does.
    if kind != "concurrent" or seconds < 60:
        assert run.utilisation >= 0.85


def test_interactive_calls_hardly_wait_beside_busy_workers() -> None:
    scenario = Scenario(LIMITERS["sliding"], hint="exact", tasks=600)
    busy = measure_shared(Cluster(scenario, 4, waiters=20, interactive=0.05), seed=2)
    waits = sorted(busy.interactive_waits)
    assert len(waits) > 20
    assert waits[len(waits) // 2] < 0.1
    # One place in twenty is kept for them, and not always taken.
    assert busy.utilisation >= 0.85


def test_the_questions_per_place_do_not_grow_with_the_processes() -> None:
    scenario = Scenario(LIMITERS["sliding"], hint="exact", tasks=400, shortest=5, longest=10)
    few, many = (measure_shared(Cluster(scenario, processes), seed=4) for processes in (4, 40))
    # But for those who ask every few seconds in any case.
    idle = many.seconds / 3.0 * 40
    assert many.questions - idle <= 1.5 * few.questions
    assert many.utilisation >= 0.95


# ---- one question at a time


class Table:
    """A state, with the list of tasks beside it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.state = SharedPace(rng=random.Random(1))
        self.tasks: set[int] = set()
        self.now = 100.0
        if limits is not None:
            self.ask(0, limits=limits)

    def ask(self, member: int, *, wait: float = 0.0, **told: Any) -> Answer:
        self.now += wait
        report = Report(member, **told)
        begun = [task for task in report.begun if task not in self.tasks]
        self.tasks |= set(begun)
        ended = [task for task in report.finished if task in self.tasks]
        self.tasks -= set(ended)
        answer = self.state.sync(self.now, report, TaskNews(begun, ended))
        self.tasks -= set(answer.struck)
        return answer


def accepted(number: int, task: int) -> tuple[Settled, ...]:
    return (Settled(number, What.ACCEPTED, task),)


def test_a_refusal_that_one_sees_pauses_all() -> None:
    table = Table()
    (number,) = table.ask(1, batch=1).batch
    table.ask(1, wait=0.2, settled=(Settled(number, What.THROTTLED, hint=10.0, firm=True),))
    answer = table.ask(2, interactive=1)
    assert (answer.interactive, answer.statistics.state) == ((), "paused")
    assert answer.statistics.paused_for == pytest.approx(10.0)
    assert answer.ask_in <= 5.0
    assert table.ask(2, wait=10.0, interactive=1).interactive


def test_a_canary_of_one_lets_the_other_in_by_a_call() -> None:
    table = Table()
    (first,) = table.ask(1, batch=1).batch
    table.ask(1, settled=(Settled(first, What.THROTTLED, hint=1.0, firm=True),))
    (canary,) = table.ask(1, wait=1.5, batch=1).batch
    assert table.ask(2, batch=3).batch == ()
    answer = table.ask(1, wait=0.3, settled=accepted(canary, 7))
    assert answer.calls == (2,)
    assert table.ask(2, batch=3).batch


def test_a_report_that_comes_twice_changes_nothing_the_second_time() -> None:
    once, twice = Table(), Table()
    for table in (once, twice):
        (number,) = table.ask(1, batch=1).batch
        for _ in range(1 if table is once else 2):
            table.ask(1, settled=accepted(number, 7), tracked=(8,), finished=(9,))
        for _ in range(1 if table is once else 2):
            table.ask(1, finished=(8,))
    assert once.tasks == twice.tasks == {7}
    assert once.state._pacer.statistics(200.0) == twice.state._pacer.statistics(200.0)
    assert once.state._pacer._unfinished == twice.state._pacer._unfinished == 1


def test_a_place_whose_grant_was_never_heard_of_goes_back() -> None:
    table = Table(Limits(concurrent=1))
    assert len(table.ask(1, batch=1).batch) == 1
    assert table.ask(2, batch=1).batch == ()
    # The answer was lost: it asks again and knows of no number.
    assert table.ask(1, batch=1).calls == (2,)
    assert len(table.ask(2, batch=1).batch) == 1


def test_what_the_silent_hold_is_given_up_and_their_late_word_counts_once() -> None:
    table = Table(Limits(requests=2))
    (number,) = table.ask(1, batch=1).batch
    table.ask(2, wait=SILENT_AFTER + 1)
    assert table.ask(2).statistics.in_flight == 0
    # It took a place for lost; its task is known now, its place is not taken again.
    table.ask(1, settled=accepted(number, 7), holds=frozenset({number}))
    assert table.tasks == {7}
    (second,) = table.ask(2, batch=2).batch
    assert table.ask(2, holds=frozenset({second}), batch=1).batch == ()


def test_who_is_first_and_does_not_come_is_passed_over() -> None:
    table = Table(Limits(concurrent=1))
    table.ask(0, tracked=(7,))
    assert not table.ask(1, batch=1).batch
    assert not table.ask(2, batch=1).batch
    assert table.ask(0, finished=(7,)).calls == (1,)
    answer = table.ask(2, batch=1)
    assert not answer.batch
    assert answer.ask_in <= 0.6
    assert table.ask(2, batch=1, wait=answer.ask_in + 0.1).batch


def test_interactive_calls_anywhere_go_first_but_every_fourth_place_is_a_batchs() -> None:
    table = Table(Limits(concurrent=1))
    table.ask(0, tracked=(1,))
    table.ask(1, batch=9)
    table.ask(2, interactive=9)
    order = []
    for _ in range(8):
        holder = next(iter(table.ask(0, finished=tuple(table.tasks)).calls))
        answer = table.ask(holder, batch=9 if holder == 1 else 0, interactive=9 if holder == 2 else 0)
        order.append("call" if answer.interactive else "batch")
        (number,) = answer.interactive or answer.batch
        waiting = {"batch": 9} if holder == 1 else {"interactive": 9}
        table.ask(holder, settled=accepted(number, 100 + len(order)), **waiting)
    assert order == ["call", "call", "call", "batch"] * 2


def test_places_are_kept_free_while_interactive_calls_come_and_only_then() -> None:
    def taken_by_a_batch(*, calls: bool) -> int:
        table = Table(Limits(requests=40))
        if calls:
            (number,) = table.ask(9, interactive=1).interactive
            table.ask(9, settled=accepted(number, 1))
        taken = 0
        while granted := table.ask(1, batch=1, wait=0.1).batch:
            taken += 1
            table.ask(1, settled=accepted(granted[0], 100 + taken))
        return taken

    assert taken_by_a_batch(calls=False) == 40
    assert taken_by_a_batch(calls=True) == 37


def test_an_end_that_is_told_before_the_beginning_by_another() -> None:
    table = Table(Limits(concurrent=1))
    (number,) = table.ask(1, batch=1).batch
    table.ask(2, finished=(7,))
    table.ask(1, settled=accepted(number, 7))
    assert table.tasks == set()
    assert table.ask(2, batch=1).batch


def test_who_leaves_holds_nothing_any_more() -> None:
    table = Table(Limits(concurrent=1))
    (number,) = table.ask(1, batch=1).batch
    table.ask(2, batch=1)
    assert table.ask(1, holds=frozenset({number}), leaves=True).calls == (2,)
    assert table.ask(2, batch=1).batch
    assert list(table.state._members) == [0, 2]


def test_a_clock_that_is_set_back_stops_nobody() -> None:
    table = Table(Limits(requests=1, per=10.0))
    (number,) = table.ask(1, batch=1).batch
    table.ask(1, settled=accepted(number, 1), batch=1)
    table.now -= 3600.0
    assert not table.ask(1, batch=1).batch
    assert table.ask(1, batch=1, wait=11.0).batch


def test_a_new_state_starts_from_what_was_learned_and_knows_old_numbers_for_strangers() -> None:
    table = Table()
    (number,) = table.ask(1, batch=1).batch
    table.state = SharedPace(rng=random.Random(2))
    table.state.start_from(PaceRecord(RateKind.WINDOW, requests=5, at=1.0), table.now, 1.0)
    answer = table.ask(1, settled=accepted(number, 7), batch=1)
    assert (answer.statistics.requests, len(answer.batch), table.tasks) == (5, 1, {7})
    assert answer.batch[0] != number
